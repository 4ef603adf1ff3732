/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PROBE and STATUS: exact bytes, what is not believed, and what can be said of it all the same. */
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
#define STATUS_BODY (HANDOFF_STATUS_LEN - HANDOFF_MAC_LEN)

static const struct handoff_keys keys = {
	.key = { { .id = 0x0102, .key = "0123456789abcdef0123456789abcde" } },
	.count = 1,
};

static const struct handoff_keys other_keys = {
	.key = { { .id = 0x0102, .key = "fedcba9876543210fedcba987654321" } },
	.count = 1,
};

/* 192.168.33.10:50000 -> 192.168.33.20:80 */
static const struct handoff_carrier carrier = {
	.client = { .addr = { .family = 4, .bytes = { 192, 168, 33, 10 } }, .port = 50000 },
	.bridge = { .family = 4, .bytes = { 192, 168, 33, 20 } },
	.dport = 80,
	.seq = 0x01020304,
};

static const struct handoff_record probe = {
	.type = HANDOFF_PROBE,
	.index = 33,
	.id = UINT64_C(0xf0e1d2c3b4a59687),
	.vip = { .addr = { .family = 4, .bytes = { 192, 168, 33, 10 } }, .port = 80 },
	.answer = { .addr = { .family = 4, .bytes = { 192, 168, 33, 10 } }, .port = 6307 },
};

static const uint8_t probe_bytes[RECORD_BODY] = {
	0x6c, 0x33, 1,	  5,				/* magic, version, PROBE */
	0x01, 0x02, 0x00, 0x58,				/* key id, 88 bytes */
	0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87, /* id */
	4,    0,    0x00, 0x50,				/* VIP: IPv4, port 80 */
	192,  168,  33,	  10,	0,    0,    0,	  0,	/* VIP */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* VIP */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* isn_b, ts_b */
	0,    0,    0,	  33,				/* MSS, scale, index */
	4,    0,    0x18, 0xa3,				/* answer: IPv4, port 6307 */
	192,  168,  33,	  10,	0,    0,    0,	  0,	/* answer address */
	0,    0,    0,	  0,	0,    0,    0,	  0,	/* answer address */
	0,    0,    0,	  0,				/* round trip time */
};

static const struct handoff_status status = {
	.state = HANDOFF_STATE_HTTP,
	.dscp = 10,
	.wscale = 9,
	.http = 503,
	.live = 0x00012345,
	.id = UINT64_C(0x1122334455667788),
};

static const uint8_t status_bytes[STATUS_BODY] = {
	0x6c, 0x33, 1,	  6,				/* magic, version, STATUS */
	0x01, 0x02, 0x00, 0x2c,				/* key id, 44 bytes */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, /* id */
	5,    10,   9,	  0,				/* state, DSCP seen, scale, zero */
	0x01, 0xf7, 0,	  0,				/* HTTP 503, zero */
	0x00, 0x01, 0x23, 0x45,				/* live connections */
};

static void sign_status(uint8_t *buf)
{
	crypto_generichash(buf + STATUS_BODY, HANDOFF_MAC_LEN, buf, STATUS_BODY, keys.key[0].key,
			   HANDOFF_KEY_LEN);
}

static void make_status(uint8_t buf[HANDOFF_STATUS_LEN])
{
	memcpy(buf, status_bytes, STATUS_BODY);
	sign_status(buf);
}

/* What is not believed leaves nothing behind; no byte is read behind the message's end. */
static enum handoff_fault decode(const uint8_t *buf, size_t len, const struct handoff_keys *k)
{
	struct handoff_status s, untouched;
	uint8_t *exact = wire_exact(buf, len);
	enum handoff_fault fault;

	memset(&s, 0x5a, sizeof(s));
	memset(&untouched, 0x5a, sizeof(untouched));
	fault = handoff_status_decode(&s, k, exact, len);
	if (fault != HANDOFF_OK)
		assert_memory_equal(&s, &untouched, sizeof(s));
	free(exact);
	return fault;
}

static void test_probe_bytes(void **state)
{
	uint8_t buf[HANDOFF_RECORD_LEN];
	struct handoff_record r;

	(void)state;
	handoff_record_encode(&probe, &carrier, &keys, buf);
	assert_memory_equal(buf, probe_bytes, RECORD_BODY);
	assert_int_equal(handoff_record_decode(&r, &carrier, &keys, buf, sizeof(buf)), HANDOFF_OK);
	assert_int_equal(r.type, HANDOFF_PROBE);
	assert_int_equal(r.index, 33);
	assert_true(r.id == probe.id);
	assert_true(addr_equal(&r.vip.addr, &probe.vip.addr));
	assert_int_equal(r.vip.port, 80);
	assert_true(addr_equal(&r.answer.addr, &probe.answer.addr));
	assert_int_equal(r.answer.port, 6307);
}

/* A PROBE says nothing of a handshake. */
static void test_probe_fields(void **state)
{
	struct handoff_record wrong[6] = { probe, probe, probe, probe, probe, probe };
	uint8_t buf[HANDOFF_RECORD_LEN];
	struct handoff_record r;

	(void)state;
	wrong[0].options = HANDOFF_SACK;
	wrong[1].wscale = 1;
	wrong[2].isn_b = 1;
	wrong[3].ts_b = 1u << 24;
	wrong[4].mss = 256;
	wrong[5].rtt_us = 1;
	for (size_t i = 0; i < 6; i++) {
		handoff_record_encode(&wrong[i], &carrier, &keys, buf);
		assert_int_equal(handoff_record_decode(&r, &carrier, &keys, buf, sizeof(buf)),
				 HANDOFF_BAD_FIELD);
	}
}

static void test_status_bytes(void **state)
{
	uint8_t expected[HANDOFF_STATUS_LEN], buf[HANDOFF_STATUS_LEN];
	struct handoff_status s;

	(void)state;
	make_status(expected);
	handoff_status_encode(&status, &keys, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
	assert_int_equal(handoff_status_decode(&s, &keys, buf, sizeof(buf)), HANDOFF_OK);
	assert_int_equal(s.state, status.state);
	assert_int_equal(s.dscp, status.dscp);
	assert_int_equal(s.wscale, status.wscale);
	assert_int_equal(s.http, status.http);
	assert_int_equal(s.live, status.live);
	assert_true(s.id == status.id);
}

static void test_status_length(void **state)
{
	uint8_t buf[2 * HANDOFF_STATUS_LEN] = { 0 };

	(void)state;
	make_status(buf);
	for (size_t len = 0; len <= sizeof(buf); len++)
		assert_int_equal(decode(buf, len, &keys),
				 len == HANDOFF_STATUS_LEN ? HANDOFF_OK : HANDOFF_TRUNCATED);
}

static void test_status_every_bit(void **state)
{
	uint8_t buf[HANDOFF_STATUS_LEN];

	(void)state;
	for (unsigned int bit = 0; bit < 8 * HANDOFF_STATUS_LEN; bit++) {
		make_status(buf);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(decode(buf, sizeof(buf), &keys), HANDOFF_OK);
	}
	make_status(buf);
	assert_int_equal(decode(buf, sizeof(buf), &other_keys), HANDOFF_FORGED);
}

static void check_field(size_t at, unsigned int to, unsigned int also)
{
	uint8_t buf[HANDOFF_STATUS_LEN];

	for (unsigned int value = 0; value < 256; value++) {
		make_status(buf);
		buf[at] = (uint8_t)value;
		sign_status(buf);
		assert_int_equal(decode(buf, sizeof(buf), &keys),
				 value <= to || value == also ? HANDOFF_OK : HANDOFF_BAD_FIELD);
	}
}

static void test_status_fields(void **state)
{
	(void)state;
	check_field(16, HANDOFF_STATES - 1, 0);
	check_field(17, 63, 0);
	check_field(18, 14, HANDOFF_SCALE_UNKNOWN);
}

/* Of another key or version, but an id and a port can be read. */
static void test_probe_peek(void **state)
{
	uint8_t buf[HANDOFF_RECORD_LEN];
	uint64_t id = 0;
	uint16_t port = 0;

	(void)state;
	handoff_record_encode(&probe, &carrier, &other_keys, buf);
	buf[2] = 77;
	assert_true(handoff_probe_peek(buf, sizeof(buf), &id, &port));
	assert_true(id == probe.id);
	assert_int_equal(port, 6307);

	for (size_t len = 0; len <= sizeof(buf); len++) {
		uint8_t *exact = wire_exact(buf, len);

		/* Never less than what is sent back. */
		assert_int_equal(handoff_probe_peek(exact, len, &id, &port), len >= 52);
		free(exact);
	}
	buf[50] = buf[51] = 0;
	assert_false(handoff_probe_peek(buf, sizeof(buf), &id, &port));
	handoff_record_encode(&probe, &carrier, &keys, buf);
	buf[3] = HANDOFF_OPEN;
	assert_false(handoff_probe_peek(buf, sizeof(buf), &id, &port));
	buf[3] = HANDOFF_PROBE;
	buf[1] ^= 1;
	assert_false(handoff_probe_peek(buf, sizeof(buf), &id, &port));
}

static void test_status_peek(void **state)
{
	uint8_t buf[HANDOFF_STATUS_LEN];
	uint64_t id = 0;

	(void)state;
	make_status(buf);
	buf[2] = 77;
	for (size_t len = 0; len <= sizeof(buf); len++) {
		uint8_t *exact = wire_exact(buf, len);

		assert_int_equal(handoff_status_peek(exact, len, &id), len >= 16);
		free(exact);
	}
	assert_true(id == status.id);
	buf[3] = HANDOFF_ACCEPTED;
	assert_false(handoff_status_peek(buf, sizeof(buf), &id));
}

static void test_state_text(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < HANDOFF_STATES; i++)
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(handoff_state_text(i), handoff_state_text(j));
	assert_string_equal(handoff_state_text(HANDOFF_STATES), "unknown state");
}

static int setup(void **state)
{
	(void)state;
	return handoff_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe_bytes),	 cmocka_unit_test(test_probe_fields),
		cmocka_unit_test(test_status_bytes),	 cmocka_unit_test(test_status_length),
		cmocka_unit_test(test_status_every_bit), cmocka_unit_test(test_status_fields),
		cmocka_unit_test(test_probe_peek),	 cmocka_unit_test(test_status_peek),
		cmocka_unit_test(test_state_text),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
