/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handoff messages: exact bytes, a MAC computed here, and everything that must not be believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "lib/handoff.h"
#include "wire.h"

#define RECORD_BODY (HANDOFF_RECORD_LEN - HANDOFF_MAC_LEN)
#define ANSWER_BODY (HANDOFF_ANSWER_LEN - HANDOFF_MAC_LEN)

/* Offsets of the wire diagram. */
enum { AT_VERSION = 2, AT_TYPE = 3, AT_KEY = 4, AT_LEN = 6, AT_VIP_FAMILY = 16 };
enum { AT_WSCALE = 46, AT_INDEX = 47, AT_ANSWER_FAMILY = 48 };
enum { AT_REASON = 16, AT_ANSWER_WSCALE = 17 };

static const struct handoff_keys keys = {
	.key = { { .id = 0x0102, .key = "0123456789abcdef0123456789abcde" } },
	.count = 1,
};

static const struct handoff_keys other_keys = {
	.key = { { .id = 0x0203, .key = "fedcba9876543210fedcba987654321" } },
	.count = 1,
};

/* 198.51.100.7:40000 -> 192.168.33.20:80, seq 0xfffffffe */
static const struct handoff_carrier carrier = {
	.client = { .addr = { .family = 4, .bytes = { 198, 51, 100, 7 } }, .port = 40000 },
	.bridge = { .family = 4, .bytes = { 192, 168, 33, 20 } },
	.dport = 80,
	.seq = 0xfffffffe,
};

static const uint8_t carrier_bytes[] = {
	4,    198,  51,	  100,	7,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* client */
	4,    192,  168,  33,	20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* bridge */
	0x9c, 0x40,							/* client's port 40000 */
	0x00, 0x50,							/* destination port 80 */
	0xff, 0xff, 0xff, 0xfe,						/* sequence number */
};

static const struct handoff_record record = {
	.type = HANDOFF_OPEN,
	.options = HANDOFF_WSCALE | HANDOFF_TIMESTAMPS,
	.wscale = 7,
	.index = 33,
	.mss = 1460,
	.isn_b = 0x89abcdef,
	.ts_b = 0x01234567,
	.rtt_us = 120001,
	.id = UINT64_C(0xf0e1d2c3b4a59687),
	.vip = { .addr = { .family = 4, .bytes = { 192, 168, 33, 10 } }, .port = 80 },
	.answer = { .addr = { .family = 6, .bytes = { 0x20, 1, 0xd, 0xb8, [15] = 9 } },
		    .port = 6433 },
};

static const uint8_t record_bytes[RECORD_BODY] = {
	0x6c, 0x33, 1,	  1,				/* magic, version, OPEN */
	0x01, 0x02, 0x00, 0x58,				/* key id, 88 bytes */
	0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87, /* handoff id */
	4,    0x05, 0x00, 0x50,				/* VIP: IPv4, options, port 80 */
	192,  168,  33,	  10,	0,    0,    0,	  0,	0,    0, 0,
	0,    0,    0,	  0,	0,    0x89, 0xab, 0xcd, 0xef, /* isn_b */
	0x01, 0x23, 0x45, 0x67,				      /* ts_b */
	0x05, 0xb4, 7,	  33,				      /* MSS 1460, scale, index */
	6,    0,    0x19, 0x21,				      /* answer: IPv6, port 6433 */
	0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,	  0,	0,    0, 0,
	0,    0,    0,	  0,	9,    0,    1,	  0xd4, 0xc1, /* round trip time: 120,001 us */
};

static const struct handoff_answer answer = {
	.type = HANDOFF_REFUSED,
	.reason = HANDOFF_REASON_SILENT,
	.wscale = 14,
	.id = UINT64_C(0x1122334455667788),
};

static const uint8_t answer_bytes[ANSWER_BODY] = {
	0x6c, 0x33, 1,	  4,				/* magic, version, REFUSED */
	0x01, 0x02, 0x00, 0x24,				/* key id, 36 bytes */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, /* handoff id */
	2,    14,   0,	  0,				/* silent, scale, zero */
};

/* BLAKE2b-128 over the message without its MAC and, in a record, the packet around it. */
static void sign_again(uint8_t *message, size_t body, const struct handoff_key *key, bool is_record)
{
	uint8_t text[RECORD_BODY + sizeof(carrier_bytes)];

	memcpy(text, message, body);
	memcpy(text + body, carrier_bytes, sizeof(carrier_bytes));
	crypto_generichash(message + body, HANDOFF_MAC_LEN, text,
			   body + (is_record ? sizeof(carrier_bytes) : 0), key->key,
			   HANDOFF_KEY_LEN);
}

static void make_record(uint8_t buf[HANDOFF_RECORD_LEN])
{
	memcpy(buf, record_bytes, RECORD_BODY);
	sign_again(buf, RECORD_BODY, &keys.key[0], true);
}

static void make_answer(uint8_t buf[HANDOFF_ANSWER_LEN])
{
	memcpy(buf, answer_bytes, ANSWER_BODY);
	sign_again(buf, ANSWER_BODY, &keys.key[0], false);
}

/* What is not believed leaves nothing behind; no byte is read behind the message's end. */
static enum handoff_fault decode_record(const uint8_t *buf, size_t len,
					const struct handoff_carrier *c,
					const struct handoff_keys *k)
{
	struct handoff_record r, untouched;
	uint8_t *exact = wire_exact(buf, len);
	enum handoff_fault fault;

	memset(&r, 0x5a, sizeof(r));
	memset(&untouched, 0x5a, sizeof(untouched));
	fault = handoff_record_decode(&r, c, k, exact, len);
	if (fault != HANDOFF_OK)
		assert_memory_equal(&r, &untouched, sizeof(r));
	free(exact);
	return fault;
}

static enum handoff_fault decode_answer(const uint8_t *buf, size_t len,
					const struct handoff_keys *k)
{
	struct handoff_answer a, untouched;
	uint8_t *exact = wire_exact(buf, len);
	enum handoff_fault fault;

	memset(&a, 0x5a, sizeof(a));
	memset(&untouched, 0x5a, sizeof(untouched));
	fault = handoff_answer_decode(&a, k, exact, len);
	if (fault != HANDOFF_OK)
		assert_memory_equal(&a, &untouched, sizeof(a));
	free(exact);
	return fault;
}

static void check_record_is(const struct handoff_record *r, const struct handoff_record *is)
{
	assert_int_equal(r->type, is->type);
	assert_int_equal(r->options, is->options);
	assert_int_equal(r->wscale, is->wscale);
	assert_int_equal(r->index, is->index);
	assert_int_equal(r->mss, is->mss);
	assert_int_equal(r->isn_b, is->isn_b);
	assert_int_equal(r->ts_b, is->ts_b);
	assert_int_equal(r->rtt_us, is->rtt_us);
	assert_true(r->id == is->id);
	assert_true(addr_equal(&r->vip.addr, &is->vip.addr));
	assert_int_equal(r->vip.port, is->vip.port);
	assert_true(addr_equal(&r->answer.addr, &is->answer.addr));
	assert_int_equal(r->answer.port, is->answer.port);
}

static void test_record_bytes(void **state)
{
	uint8_t expected[HANDOFF_RECORD_LEN], buf[HANDOFF_RECORD_LEN];
	struct handoff_record r = record;

	(void)state;
	make_record(expected);
	handoff_record_encode(&record, &carrier, &keys, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
	assert_int_equal(handoff_record_decode(&r, &carrier, &keys, expected, sizeof(expected)),
			 HANDOFF_OK);
	check_record_is(&r, &record);

	/* ABORT differs in its type only. */
	r.type = expected[AT_TYPE] = HANDOFF_ABORT;
	sign_again(expected, RECORD_BODY, &keys.key[0], true);
	handoff_record_encode(&r, &carrier, &keys, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
	r.type = 0;
	assert_int_equal(handoff_record_decode(&r, &carrier, &keys, buf, sizeof(buf)), HANDOFF_OK);
	assert_int_equal(r.type, HANDOFF_ABORT);
}

static void test_answer_bytes(void **state)
{
	uint8_t expected[HANDOFF_ANSWER_LEN], buf[HANDOFF_ANSWER_LEN];
	struct handoff_answer a = { 0 };

	(void)state;
	make_answer(expected);
	handoff_answer_encode(&answer, &keys, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
	assert_int_equal(handoff_answer_decode(&a, &keys, expected, sizeof(expected)), HANDOFF_OK);
	assert_int_equal(a.type, answer.type);
	assert_int_equal(a.reason, answer.reason);
	assert_int_equal(a.wscale, answer.wscale);
	assert_true(a.id == answer.id);

	a = (struct handoff_answer){ .type = HANDOFF_ACCEPTED, .id = answer.id };
	expected[AT_TYPE] = 3;
	expected[AT_REASON] = expected[AT_ANSWER_WSCALE] = 0;
	sign_again(expected, ANSWER_BODY, &keys.key[0], false);
	handoff_answer_encode(&a, &keys, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
	assert_int_equal(decode_answer(buf, sizeof(buf), &keys), HANDOFF_OK);
}

static void random_endpoint(struct endpoint *e)
{
	uint8_t bytes[16];

	wire_random_bytes(bytes, sizeof(bytes));
	e->addr = addr_from_bytes(rand() % 2 ? 4 : 6, bytes);
	e->port = (uint16_t)wire_random();
}

static void test_round_trip(void **state)
{
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct handoff_record in = {
			.type = rand() % 2 ? HANDOFF_OPEN : HANDOFF_ABORT,
			.options = (uint8_t)(wire_random() % 8),
			.wscale = (uint8_t)(wire_random() % 15),
			.index = (uint8_t)(1 + wire_random() % 63),
			.mss = (uint16_t)wire_random(),
			.isn_b = wire_random(),
			.ts_b = wire_random(),
			.id = (uint64_t)wire_random() << 32 | wire_random(),
		};
		struct handoff_carrier around = { .seq = wire_random() };
		struct handoff_record out;
		struct endpoint bridge;
		uint8_t buf[HANDOFF_RECORD_LEN];

		random_endpoint(&in.vip);
		random_endpoint(&in.answer);
		random_endpoint(&around.client);
		random_endpoint(&bridge);
		around.bridge = bridge.addr;
		around.dport = bridge.port;
		handoff_record_encode(&in, &around, &keys, buf);
		assert_int_equal(handoff_record_decode(&out, &around, &keys, buf, sizeof(buf)),
				 HANDOFF_OK);
		check_record_is(&out, &in);
	}
}

static void test_lengths(void **state)
{
	uint8_t buf[2 * HANDOFF_RECORD_LEN] = { 0 };

	(void)state;
	make_record(buf);
	for (size_t len = 0; len <= sizeof(buf); len++)
		assert_int_equal(decode_record(buf, len, &carrier, &keys),
				 len == HANDOFF_RECORD_LEN ? HANDOFF_OK : HANDOFF_TRUNCATED);
	make_answer(buf);
	for (size_t len = 0; len <= sizeof(buf); len++)
		assert_int_equal(decode_answer(buf, len, &keys),
				 len == HANDOFF_ANSWER_LEN ? HANDOFF_OK : HANDOFF_TRUNCATED);
}

/* The length inside is wrong, and signed so. */
static void test_length_fields(void **state)
{
	uint8_t buf[HANDOFF_RECORD_LEN];

	(void)state;
	for (unsigned int len = 0; len < 65536; len += len < 256 ? 1 : 255) {
		make_record(buf);
		wire_put(buf + AT_LEN, len, 2);
		sign_again(buf, RECORD_BODY, &keys.key[0], true);
		assert_int_equal(decode_record(buf, HANDOFF_RECORD_LEN, &carrier, &keys),
				 len == HANDOFF_RECORD_LEN ? HANDOFF_OK : HANDOFF_TRUNCATED);
		make_answer(buf);
		wire_put(buf + AT_LEN, len, 2);
		sign_again(buf, ANSWER_BODY, &keys.key[0], false);
		assert_int_equal(decode_answer(buf, HANDOFF_ANSWER_LEN, &keys),
				 len == HANDOFF_ANSWER_LEN ? HANDOFF_OK : HANDOFF_TRUNCATED);
	}
}

/* The two kinds of messages, by the numbers in the wire diagrams. */
static bool is_record_type(unsigned int type)
{
	return type == HANDOFF_OPEN || type == HANDOFF_ABORT || type == HANDOFF_PROBE;
}

static bool is_answer_type(unsigned int type)
{
	return type == HANDOFF_ACCEPTED || type == HANDOFF_REFUSED;
}

/* Which fault a message has whose byte @at is another one, and whose MAC was left alone. */
static enum handoff_fault fault_of(const uint8_t *buf, size_t at, bool (*is_type)(unsigned int))
{
	if (at < AT_VERSION)
		return HANDOFF_FOREIGN;
	if (at == AT_VERSION)
		return HANDOFF_BAD_VERSION;
	if (at == AT_TYPE && !is_type(buf[AT_TYPE]))
		return HANDOFF_BAD_TYPE;
	if (at == AT_KEY || at == AT_KEY + 1)
		return HANDOFF_UNKNOWN_KEY;
	return at == AT_LEN || at == AT_LEN + 1 ? HANDOFF_TRUNCATED : HANDOFF_FORGED;
}

static void test_every_bit(void **state)
{
	uint8_t buf[HANDOFF_RECORD_LEN];

	(void)state;
	for (unsigned int bit = 0; bit < 8 * HANDOFF_RECORD_LEN; bit++) {
		make_record(buf);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(decode_record(buf, sizeof(buf), &carrier, &keys),
				 fault_of(buf, bit / 8, is_record_type));
	}
	for (unsigned int bit = 0; bit < 8 * HANDOFF_ANSWER_LEN; bit++) {
		make_answer(buf);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(decode_answer(buf, HANDOFF_ANSWER_LEN, &keys),
				 fault_of(buf, bit / 8, is_answer_type));
	}
}

/* Flip each bit of @field, which is a part of @c, and see that the record is not believed. */
static void check_carrier_field(const uint8_t *buf, struct handoff_carrier *c, void *field,
				size_t len)
{
	uint8_t *byte = field;

	for (size_t bit = 0; bit < 8 * len; bit++) {
		byte[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(decode_record(buf, HANDOFF_RECORD_LEN, c, &keys), HANDOFF_FORGED);
		byte[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(decode_record(buf, HANDOFF_RECORD_LEN, c, &keys), HANDOFF_OK);
}

static void test_every_bit_of_the_carrier(void **state)
{
	struct handoff_carrier c = carrier;
	uint8_t buf[HANDOFF_RECORD_LEN];

	(void)state;
	make_record(buf);
	check_carrier_field(buf, &c, &c.client.addr, sizeof(c.client.addr));
	check_carrier_field(buf, &c, &c.client.port, sizeof(c.client.port));
	check_carrier_field(buf, &c, &c.bridge, sizeof(c.bridge));
	check_carrier_field(buf, &c, &c.dport, sizeof(c.dport));
	check_carrier_field(buf, &c, &c.seq, sizeof(c.seq));

	/* Client and bridge, or both ports, in each other's place. */
	c.client.addr = carrier.bridge;
	c.bridge = carrier.client.addr;
	assert_int_equal(decode_record(buf, sizeof(buf), &c, &keys), HANDOFF_FORGED);
	c = carrier;
	c.client.port = carrier.dport;
	c.dport = carrier.client.port;
	assert_int_equal(decode_record(buf, sizeof(buf), &c, &keys), HANDOFF_FORGED);
}

static void test_key_rotation(void **state)
{
	struct handoff_keys both = { .key = { other_keys.key[0], keys.key[0] }, .count = 2 };
	struct handoff_keys many = { .count = HANDOFF_KEYS_MAX }, none = { .count = 0 };
	struct handoff_keys same_id = other_keys;
	uint8_t old[HANDOFF_RECORD_LEN], new[HANDOFF_RECORD_LEN], reply[HANDOFF_ANSWER_LEN];

	(void)state;
	make_record(old);
	handoff_record_encode(&record, &carrier, &both, new);
	assert_int_equal(wire_get(new + AT_KEY, 2), 0x0203);

	/* The old key alone, both, the new one alone. */
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &keys), HANDOFF_OK);
	assert_int_equal(decode_record(new, sizeof(new), &carrier, &keys), HANDOFF_UNKNOWN_KEY);
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &both), HANDOFF_OK);
	assert_int_equal(decode_record(new, sizeof(new), &carrier, &both), HANDOFF_OK);
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &other_keys),
			 HANDOFF_UNKNOWN_KEY);
	assert_int_equal(decode_record(new, sizeof(new), &carrier, &other_keys), HANDOFF_OK);

	handoff_answer_encode(&answer, &both, reply);
	assert_int_equal(decode_answer(reply, sizeof(reply), &keys), HANDOFF_UNKNOWN_KEY);
	assert_int_equal(decode_answer(reply, sizeof(reply), &both), HANDOFF_OK);

	/* The id is known, the key is another one. */
	same_id.key[0].id = keys.key[0].id;
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &same_id), HANDOFF_FORGED);

	/* The last of many, and none at all. */
	for (size_t i = 0; i < HANDOFF_KEYS_MAX; i++)
		many.key[i] = (struct handoff_key){ .id = (uint16_t)(100 + i) };
	many.key[HANDOFF_KEYS_MAX - 1] = keys.key[0];
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &many), HANDOFF_OK);
	many.count--;
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &many), HANDOFF_UNKNOWN_KEY);
	assert_int_equal(decode_record(old, sizeof(old), &carrier, &none), HANDOFF_UNKNOWN_KEY);
}

/* A message cannot be turned into one of another type, nor be read as one. */
static void test_types(void **state)
{
	uint8_t buf[HANDOFF_RECORD_LEN] = { 0 };

	(void)state;
	for (unsigned int type = 0; type < 256; type++) {
		make_record(buf);
		buf[AT_TYPE] = (uint8_t)type;
		if (type != HANDOFF_OPEN)
			assert_int_equal(decode_record(buf, sizeof(buf), &carrier, &keys),
					 is_record_type(type) ? HANDOFF_FORGED : HANDOFF_BAD_TYPE);
		make_answer(buf);
		buf[AT_TYPE] = (uint8_t)type;
		if (type != HANDOFF_REFUSED)
			assert_int_equal(decode_answer(buf, HANDOFF_ANSWER_LEN, &keys),
					 is_answer_type(type) ? HANDOFF_FORGED : HANDOFF_BAD_TYPE);
	}

	make_record(buf);
	assert_int_equal(decode_answer(buf, HANDOFF_RECORD_LEN, &keys), HANDOFF_BAD_TYPE);
	assert_int_equal(decode_answer(buf, HANDOFF_ANSWER_LEN, &keys), HANDOFF_BAD_TYPE);
	make_answer(buf);
	assert_int_equal(decode_record(buf, HANDOFF_ANSWER_LEN, &carrier, &keys), HANDOFF_BAD_TYPE);
	assert_int_equal(decode_record(buf, HANDOFF_RECORD_LEN, &carrier, &keys), HANDOFF_BAD_TYPE);

	/* Every type there is, signed: only those of the kind are taken. */
	for (unsigned int type = 0; type < 256; type++) {
		make_record(buf);
		buf[AT_TYPE] = (uint8_t)type;
		sign_again(buf, RECORD_BODY, &keys.key[0], true);
		assert_int_equal(decode_record(buf, sizeof(buf), &carrier, &keys),
				 type == HANDOFF_PROBE	? HANDOFF_BAD_FIELD
				 : is_record_type(type) ? HANDOFF_OK
							: HANDOFF_BAD_TYPE);
		make_answer(buf);
		buf[AT_TYPE] = (uint8_t)type;
		sign_again(buf, ANSWER_BODY, &keys.key[0], false);
		assert_int_equal(decode_answer(buf, HANDOFF_ANSWER_LEN, &keys),
				 is_answer_type(type) ? HANDOFF_OK : HANDOFF_BAD_TYPE);
	}

	/* Signed like the other kind: a record without its packet, an answer with one. */
	make_record(buf);
	sign_again(buf, RECORD_BODY, &keys.key[0], false);
	assert_int_equal(decode_record(buf, sizeof(buf), &carrier, &keys), HANDOFF_FORGED);
	make_answer(buf);
	sign_again(buf, ANSWER_BODY, &keys.key[0], true);
	assert_int_equal(decode_answer(buf, HANDOFF_ANSWER_LEN, &keys), HANDOFF_FORGED);
}

static void test_versions(void **state)
{
	uint8_t buf[HANDOFF_RECORD_LEN];

	(void)state;
	for (unsigned int version = 0; version < 256; version++) {
		make_record(buf);
		buf[AT_VERSION] = (uint8_t)version;
		sign_again(buf, RECORD_BODY, &keys.key[0], true);
		assert_int_equal(decode_record(buf, sizeof(buf), &carrier, &keys),
				 version == 1 ? HANDOFF_OK : HANDOFF_BAD_VERSION);
	}
}

/* Every value of the byte @at in an authentic record: those from @from to @to are good. */
static void check_record_field(size_t at, unsigned int from, unsigned int to)
{
	uint8_t buf[HANDOFF_RECORD_LEN];

	for (unsigned int value = 0; value < 256; value++) {
		bool good = value >= from && value <= to;

		if ((at == AT_VIP_FAMILY || at == AT_ANSWER_FAMILY) && value == 5)
			good = false;
		make_record(buf);
		buf[at] = (uint8_t)value;
		sign_again(buf, RECORD_BODY, &keys.key[0], true);
		assert_int_equal(decode_record(buf, sizeof(buf), &carrier, &keys),
				 good ? HANDOFF_OK : HANDOFF_BAD_FIELD);
	}
}

static void check_answer_field(size_t at, unsigned int to)
{
	uint8_t buf[HANDOFF_ANSWER_LEN];

	for (unsigned int value = 0; value < 256; value++) {
		make_answer(buf);
		buf[at] = (uint8_t)value;
		sign_again(buf, ANSWER_BODY, &keys.key[0], false);
		assert_int_equal(decode_answer(buf, sizeof(buf), &keys),
				 value <= to ? HANDOFF_OK : HANDOFF_BAD_FIELD);
	}
}

static void test_bad_fields(void **state)
{
	(void)state;
	check_record_field(AT_VIP_FAMILY, 4, 6);
	check_record_field(AT_ANSWER_FAMILY, 4, 6);
	check_record_field(AT_WSCALE, 0, 14);
	check_record_field(AT_INDEX, 1, 63);
	check_answer_field(AT_REASON, HANDOFF_REASONS - 1);
	check_answer_field(AT_ANSWER_WSCALE, 14);
}

static void test_random_bytes(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++) {
		size_t len = wire_random() % 120;
		uint8_t buf[120];

		wire_random_bytes(buf, len);
		if (rand() % 2)
			memcpy(buf, rand() % 2 ? record_bytes : answer_bytes, len < 8 ? len : 8);
		assert_int_not_equal(decode_record(buf, len, &carrier, &keys), HANDOFF_OK);
		assert_int_not_equal(decode_answer(buf, len, &keys), HANDOFF_OK);
	}
}

static void test_reason_text(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < HANDOFF_REASONS; i++) {
		assert_true(strlen(handoff_reason_text(i)) > 0);
		assert_string_not_equal(handoff_reason_text(i),
					handoff_reason_text(HANDOFF_REASONS));
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(handoff_reason_text(i), handoff_reason_text(j));
	}
	assert_string_equal(handoff_reason_text(HANDOFF_REASONS), "unknown reason");
	assert_string_equal(handoff_reason_text(UINT32_MAX), "unknown reason");
}

static int setup(void **state)
{
	(void)state;
	return handoff_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record_bytes),
		cmocka_unit_test(test_answer_bytes),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_length_fields),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_bit_of_the_carrier),
		cmocka_unit_test(test_key_rotation),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_bad_fields),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_reason_text),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
