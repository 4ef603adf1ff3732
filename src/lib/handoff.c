/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encoding, decoding and authentication of the handoff messages. */
#include "handoff.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "packet.h"
#include "tcp_options.h"

#define MAGIC 0x6c33

#define COMMON_LEN  8
#define RECORD_BODY (HANDOFF_RECORD_LEN - HANDOFF_MAC_LEN)
#define ANSWER_BODY (HANDOFF_ANSWER_LEN - HANDOFF_MAC_LEN)
#define STATUS_BODY (HANDOFF_STATUS_LEN - HANDOFF_MAC_LEN)
#define PEEKED	    52			 /* of a PROBE: up to the port for the answer */
#define CARRIER_LEN (2 * 17 + 2 + 2 + 4) /* both addresses with family, two ports, seq */

static const char *const reason_text[] = {
	[HANDOFF_REASON_NONE] = "no reason given",
	[HANDOFF_REASON_RESET] = "the web server refused the connection",
	[HANDOFF_REASON_SILENT] = "the web server did not answer",
	[HANDOFF_REASON_OPTIONS] = "the web server refused options that the client was told",
	[HANDOFF_REASON_SERVICE] = "the bridge has no service of this index, address and port",
	[HANDOFF_REASON_FULL] = "the bridge has no room for it",
};

_Static_assert(sizeof(reason_text) / sizeof(reason_text[0]) == HANDOFF_REASONS,
	       "every reason has a text");

const char *handoff_reason_text(unsigned int reason)
{
	return reason < HANDOFF_REASONS ? reason_text[reason] : "unknown reason";
}

static const char *const state_text[] = {
	[HANDOFF_STATE_PENDING] = "the web server has not answered yet",
	[HANDOFF_STATE_UP] = "the web server answers",
	[HANDOFF_STATE_REFUSED] = "the web server refuses connections",
	[HANDOFF_STATE_SILENT] = "the web server does not answer",
	[HANDOFF_STATE_UNREACHABLE] = "the web server's address is not reached",
	[HANDOFF_STATE_HTTP] = "the web server answers with another HTTP status",
	[HANDOFF_STATE_NO_HTTP] = "the web server answers with something else than HTTP",
	[HANDOFF_STATE_SERVICE] = "the bridge has no service of this index, address and port",
	[HANDOFF_STATE_KEY] = "the bridge has another key",
	[HANDOFF_STATE_VERSION] = "the bridge is of another version",
};

_Static_assert(sizeof(state_text) / sizeof(state_text[0]) == HANDOFF_STATES,
	       "every state has a text");

const char *handoff_state_text(unsigned int state)
{
	return state < HANDOFF_STATES ? state_text[state] : "unknown state";
}

int handoff_init(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

static uint8_t *put_addr(uint8_t *at, const struct addr *addr)
{
	at[0] = addr->family;
	memcpy(at + 1, addr->bytes, 16);
	return at + 17;
}

/* The fields outside of the record that give it its meaning, in a form of fixed length. */
static void put_carrier(uint8_t *at, const struct handoff_carrier *carrier)
{
	at = put_addr(at, &carrier->client.addr);
	at = put_addr(at, &carrier->bridge);
	put_be16(at, carrier->client.port);
	put_be16(at + 2, carrier->dport);
	put_be32(at + 4, carrier->seq);
}

/* MAC over @body_len bytes of @body and, for records, over the packet around them. */
static void sign(uint8_t mac[HANDOFF_MAC_LEN], const struct handoff_key *key, const uint8_t *body,
		 size_t body_len, const struct handoff_carrier *carrier)
{
	uint8_t text[RECORD_BODY + CARRIER_LEN];
	size_t len = body_len;

	memcpy(text, body, body_len);
	if (carrier) {
		put_carrier(text + body_len, carrier);
		len += CARRIER_LEN;
	}
	crypto_generichash(mac, HANDOFF_MAC_LEN, text, len, key->key, HANDOFF_KEY_LEN);
}

static void put_common(uint8_t *buf, uint8_t type, const struct handoff_keys *keys, uint16_t len)
{
	put_be16(buf, MAGIC);
	buf[2] = HANDOFF_VERSION;
	buf[3] = type;
	put_be16(buf + 4, keys->key[0].id);
	put_be16(buf + 6, len);
}

static const struct handoff_key *find_key(const struct handoff_keys *keys, uint16_t id)
{
	for (size_t i = 0; i < keys->count; i++)
		if (keys->key[i].id == id)
			return &keys->key[i];
	return NULL;
}

/* All that can be said of a message before its fields are read; @types is a set of bits. */
static enum handoff_fault check(const uint8_t *buf, size_t len, size_t expected, unsigned int types,
				const struct handoff_carrier *carrier,
				const struct handoff_keys *keys)
{
	const struct handoff_key *key;
	uint8_t mac[HANDOFF_MAC_LEN];

	if (len < COMMON_LEN)
		return HANDOFF_TRUNCATED;
	if (get_be16(buf) != MAGIC)
		return HANDOFF_FOREIGN;
	if (buf[2] != HANDOFF_VERSION)
		return HANDOFF_BAD_VERSION;
	if (buf[3] > HANDOFF_STATUS || !(types & 1u << buf[3]))
		return HANDOFF_BAD_TYPE;
	if (len != expected || get_be16(buf + 6) != expected)
		return HANDOFF_TRUNCATED;
	key = find_key(keys, get_be16(buf + 4));
	if (!key)
		return HANDOFF_UNKNOWN_KEY;
	sign(mac, key, buf, expected - HANDOFF_MAC_LEN, carrier);
	if (sodium_memcmp(mac, buf + expected - HANDOFF_MAC_LEN, HANDOFF_MAC_LEN) != 0)
		return HANDOFF_FORGED;
	return HANDOFF_OK;
}

void handoff_record_encode(const struct handoff_record *r, const struct handoff_carrier *carrier,
			   const struct handoff_keys *keys, uint8_t buf[HANDOFF_RECORD_LEN])
{
	memset(buf, 0, HANDOFF_RECORD_LEN);
	put_common(buf, r->type, keys, HANDOFF_RECORD_LEN);
	put_be64(buf + 8, r->id);
	buf[16] = r->vip.addr.family;
	buf[17] = r->options;
	put_be16(buf + 18, r->vip.port);
	memcpy(buf + 20, r->vip.addr.bytes, 16);
	put_be32(buf + 36, r->isn_b);
	put_be32(buf + 40, r->ts_b);
	put_be16(buf + 44, r->mss);
	buf[46] = r->wscale;
	buf[47] = r->index;
	buf[48] = r->answer.addr.family;
	put_be16(buf + 50, r->answer.port);
	memcpy(buf + 52, r->answer.addr.bytes, 16);
	put_be32(buf + 68, r->rtt_us);
	sign(buf + RECORD_BODY, &keys->key[0], buf, RECORD_BODY, carrier);
}

static bool family_valid(uint8_t family)
{
	return family == 4 || family == 6;
}

/* What an OPEN says of the handshake is nothing in a PROBE. */
static bool handshake_valid(const uint8_t *buf)
{
	static const uint8_t zero[8];

	if (buf[3] == HANDOFF_PROBE)
		return !buf[17] && !buf[46] && !memcmp(buf + 36, zero, 8) &&
		       !memcmp(buf + 44, zero, 2) && !memcmp(buf + 68, zero, 4);
	return !(buf[17] & ~HANDOFF_OPTIONS_ALL) && buf[46] <= TCP_WSCALE_MAX;
}

enum handoff_fault handoff_record_decode(struct handoff_record *r,
					 const struct handoff_carrier *carrier,
					 const struct handoff_keys *keys, const uint8_t *buf,
					 size_t len)
{
	const unsigned int types = 1u << HANDOFF_OPEN | 1u << HANDOFF_ABORT | 1u << HANDOFF_PROBE;
	enum handoff_fault fault = check(buf, len, HANDOFF_RECORD_LEN, types, carrier, keys);

	if (fault != HANDOFF_OK)
		return fault;
	if (!family_valid(buf[16]) || !family_valid(buf[48]) || !handshake_valid(buf) ||
	    buf[47] < 1 || buf[47] > 63 || !get_be16(buf + 18) || !get_be16(buf + 50))
		return HANDOFF_BAD_FIELD;

	r->type = buf[3];
	r->id = get_be64(buf + 8);
	r->vip.addr = addr_from_bytes(buf[16], buf + 20);
	r->options = buf[17];
	r->vip.port = get_be16(buf + 18);
	r->isn_b = get_be32(buf + 36);
	r->ts_b = get_be32(buf + 40);
	r->mss = get_be16(buf + 44);
	r->wscale = buf[46];
	r->index = buf[47];
	r->answer.addr = addr_from_bytes(buf[48], buf + 52);
	r->answer.port = get_be16(buf + 50);
	r->rtt_us = get_be32(buf + 68);
	return HANDOFF_OK;
}

void handoff_answer_encode(const struct handoff_answer *a, const struct handoff_keys *keys,
			   uint8_t buf[HANDOFF_ANSWER_LEN])
{
	memset(buf, 0, HANDOFF_ANSWER_LEN);
	put_common(buf, a->type, keys, HANDOFF_ANSWER_LEN);
	put_be64(buf + 8, a->id);
	buf[16] = a->reason;
	buf[17] = a->wscale;
	sign(buf + ANSWER_BODY, &keys->key[0], buf, ANSWER_BODY, NULL);
}

enum handoff_fault handoff_answer_decode(struct handoff_answer *a, const struct handoff_keys *keys,
					 const uint8_t *buf, size_t len)
{
	const unsigned int types = 1u << HANDOFF_ACCEPTED | 1u << HANDOFF_REFUSED;
	enum handoff_fault fault = check(buf, len, HANDOFF_ANSWER_LEN, types, NULL, keys);

	if (fault != HANDOFF_OK)
		return fault;
	if (buf[16] >= HANDOFF_REASONS || buf[17] > TCP_WSCALE_MAX)
		return HANDOFF_BAD_FIELD;

	a->type = buf[3];
	a->id = get_be64(buf + 8);
	a->reason = buf[16];
	a->wscale = buf[17];
	return HANDOFF_OK;
}

void handoff_status_encode(const struct handoff_status *s, const struct handoff_keys *keys,
			   uint8_t buf[HANDOFF_STATUS_LEN])
{
	memset(buf, 0, HANDOFF_STATUS_LEN);
	put_common(buf, HANDOFF_STATUS, keys, HANDOFF_STATUS_LEN);
	put_be64(buf + 8, s->id);
	buf[16] = s->state;
	buf[17] = s->dscp;
	buf[18] = s->wscale;
	put_be16(buf + 20, s->http);
	put_be32(buf + 24, s->live);
	sign(buf + STATUS_BODY, &keys->key[0], buf, STATUS_BODY, NULL);
}

enum handoff_fault handoff_status_decode(struct handoff_status *s, const struct handoff_keys *keys,
					 const uint8_t *buf, size_t len)
{
	enum handoff_fault fault =
		check(buf, len, HANDOFF_STATUS_LEN, 1u << HANDOFF_STATUS, NULL, keys);

	if (fault != HANDOFF_OK)
		return fault;
	if (buf[16] >= HANDOFF_STATES || buf[17] > 63 ||
	    (buf[18] > TCP_WSCALE_MAX && buf[18] != HANDOFF_SCALE_UNKNOWN))
		return HANDOFF_BAD_FIELD;

	s->id = get_be64(buf + 8);
	s->state = buf[16];
	s->dscp = buf[17];
	s->wscale = buf[18];
	s->http = get_be16(buf + 20);
	s->live = get_be32(buf + 24);
	return HANDOFF_OK;
}

static bool looks_like(const uint8_t *buf, size_t len, size_t least, uint8_t type)
{
	return len >= least && get_be16(buf) == MAGIC && buf[3] == type;
}

/* An answer is no longer than what it answers, whatever the other's version. */
_Static_assert(HANDOFF_STATUS_LEN <= PEEKED, "a PROBE that is answered is longer than its STATUS");

bool handoff_probe_peek(const uint8_t *buf, size_t len, uint64_t *id, uint16_t *port)
{
	if (!looks_like(buf, len, PEEKED, HANDOFF_PROBE) || !get_be16(buf + 50))
		return false;
	*id = get_be64(buf + 8);
	*port = get_be16(buf + 50);
	return true;
}

bool handoff_status_peek(const uint8_t *buf, size_t len, uint64_t *id)
{
	if (!looks_like(buf, len, COMMON_LEN + sizeof(*id), HANDOFF_STATUS))
		return false;
	*id = get_be64(buf + 8);
	return true;
}
