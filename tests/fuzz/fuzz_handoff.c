/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: handoff messages; what is believed says the same when it is written again. */
#include <sodium.h>

#include "fuzz.h"
#include "lib/handoff.h"
#include "lib/packet.h"

/*
 * Input: flags (bit 0 an answer instead of a record, bit 1 signed here, as by somebody who has the
 * key, bit 2 a STATUS instead of either), the place of a bit that is turned over in a message that was believed, client port,
 * destination port, sequence number, then the message.
 */

#define COMMON_LEN 8

static struct handoff_keys keys = { .key = { { .id = 1 }, { .id = 7 } }, .count = 2 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < HANDOFF_KEY_LEN; i++) {
		keys.key[0].key[i] = (uint8_t)i;
		keys.key[1].key[i] = (uint8_t)(i * 7 + 1);
	}
	return handoff_init();
}

/* A decoder and an encoder of either kind, with the message in a common form. */
union message {
	struct handoff_record record;
	struct handoff_answer answer;
	struct handoff_status status;
};

struct kind {
	bool is_answer, is_status; /* else a record */
	size_t len;
	struct handoff_carrier carrier;
};

static enum handoff_fault decode(const struct kind *kind, union message *m, const uint8_t *buf,
				 size_t len)
{
	if (kind->is_status)
		return handoff_status_decode(&m->status, &keys, buf, len);
	return kind->is_answer ? handoff_answer_decode(&m->answer, &keys, buf, len)
			       : handoff_record_decode(&m->record, &kind->carrier, &keys, buf, len);
}

static void encode(const struct kind *kind, const union message *m, uint8_t *buf)
{
	if (kind->is_status)
		handoff_status_encode(&m->status, &keys, buf);
	else if (kind->is_answer)
		handoff_answer_encode(&m->answer, &keys, buf);
	else
		handoff_record_encode(&m->record, &kind->carrier, &keys, buf);
}

/* The MAC as handoff.h describes it, written independently: body, then addresses, ports, seq. */
static void sign(const struct kind *kind, uint8_t *buf)
{
	const struct handoff_key *key = &keys.key[get_be16(buf + 4) == keys.key[1].id];
	const struct handoff_carrier *c = &kind->carrier;
	size_t body = kind->len - HANDOFF_MAC_LEN;
	crypto_generichash_state state;
	uint8_t tail[8];

	crypto_generichash_init(&state, key->key, HANDOFF_KEY_LEN, HANDOFF_MAC_LEN);
	crypto_generichash_update(&state, buf, body);
	if (!kind->is_answer && !kind->is_status) {
		put_be16(tail, c->client.port);
		put_be16(tail + 2, c->dport);
		put_be32(tail + 4, c->seq);
		crypto_generichash_update(&state, &c->client.addr.family, 1);
		crypto_generichash_update(&state, c->client.addr.bytes, 16);
		crypto_generichash_update(&state, &c->bridge.family, 1);
		crypto_generichash_update(&state, c->bridge.bytes, 16);
		crypto_generichash_update(&state, tail, sizeof(tail));
	}
	crypto_generichash_final(&state, buf + body, HANDOFF_MAC_LEN);
}

/* Fields that version 1 leaves zero, and the addresses, which have one canonical form each. */
static bool is_spare(const struct kind *kind, size_t at)
{
	if (kind->is_status)
		return at == 19 || at == 22 || at == 23;
	if (kind->is_answer)
		return at == 18 || at == 19;
	return at == 16 || (at >= 20 && at < 36) || (at >= 48 && at != 50 && at != 51);
}

static void check_believed(const struct kind *kind, const union message *m, const uint8_t *buf,
			   size_t turned)
{
	uint8_t *again = fuzz_copy(NULL, 0, kind->len), *third = fuzz_copy(NULL, 0, kind->len);
	size_t body = kind->len - HANDOFF_MAC_LEN;
	union message m2 = { 0 };

	encode(kind, m, again);
	for (size_t i = COMMON_LEN; i < body; i++)
		CHECK(again[i] == buf[i] || is_spare(kind, i));
	CHECK(decode(kind, &m2, again, kind->len) == HANDOFF_OK);
	encode(kind, &m2, third);
	CHECK(memcmp(again, third, kind->len) == 0);

	/* Not one bit of message or MAC may be another one. */
	again[turned / 8 % body] ^= (uint8_t)(1 << turned % 8);
	CHECK(decode(kind, &m2, again, kind->len) != HANDOFF_OK);
	third[body + turned / 8 % HANDOFF_MAC_LEN] ^= (uint8_t)(1 << turned % 8);
	CHECK(decode(kind, &m2, third, kind->len) == HANDOFF_FORGED);
	free(third);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t flags = fuzz_u8(&in);
	size_t turned = fuzz_u16(&in);
	struct kind kind = {
		.is_answer = flags & 1 && !(flags & 4),
		.is_status = flags & 4,
		.len = flags & 4   ? HANDOFF_STATUS_LEN
		       : flags & 1 ? HANDOFF_ANSWER_LEN
				   : HANDOFF_RECORD_LEN,
		.carrier.client = { addr_from_bytes(4, "\xc0\xa8\x21\x01"), fuzz_u16(&in) },
		.carrier.bridge = addr_from_bytes(4, "\xc0\xa8\x21\x14"),
	};
	union message m, untouched;
	enum handoff_fault fault;
	uint8_t *buf;
	uint64_t id;
	uint16_t port;

	kind.carrier.dport = fuzz_u16(&in);
	kind.carrier.seq = fuzz_u32(&in);
	buf = fuzz_copy(in.data, in.size, in.size);
	if (flags & 2 && in.size >= kind.len)
		sign(&kind, buf);
	/* What is believed of these two types can be seen from afar. */
	if (handoff_probe_peek(buf, in.size, &id, &port))
		CHECK(port && in.size >= HANDOFF_STATUS_LEN);
	if (kind.is_status && handoff_status_decode(&m.status, &keys, buf, in.size) == HANDOFF_OK)
		CHECK(handoff_status_peek(buf, in.size, &id) && id == m.status.id);
	memset(&m, 0x5a, sizeof(m));
	untouched = m;
	fault = decode(&kind, &m, buf, in.size);
	CHECK(fault < HANDOFF_FAULTS);
	CHECK(fault != HANDOFF_OK || in.size == kind.len);
	CHECK(fault != HANDOFF_FORGED || !(flags & 2));
	if (fault == HANDOFF_OK)
		check_believed(&kind, &m, buf, turned);
	else
		CHECK(memcmp(&m, &untouched, sizeof(m)) == 0);
	free(buf);
	return 0;
}
