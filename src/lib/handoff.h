/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The messages by which a balancer hands a connection to a bridge: layout, MAC, keys. */
#ifndef L3DSR_HANDOFF_H
#define L3DSR_HANDOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

/*
 * Every message begins with the same eight bytes and ends with a MAC over all that precedes it
 * (and, in a record, over the packet that carries it). All fields are in network order.
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-------------------------------+---------------+---------------+
 * |       magic 0x6c33 "l3"       |  version = 1  |     type      |
 * +-------------------------------+---------------+---------------+
 * |            key id             |   length of all, MAC included |
 * +-------------------------------+-------------------------------+
 *
 * Records travel as the payload of a SYN from the client's address and port to the bridge, with
 * the DSCP field set to the index: they take the way that the connection's packets will take, and
 * reach the same queue. ABORT is such a record too (and not a datagram), so that it needs no
 * listening socket on the bridge and finds the worker that owns the flow.
 *
 * OPEN, type 1, 88 bytes; ABORT, type 2, has the same layout
 * +---------------------------------------------------------------+
 * |                      handoff id, 64 bits                      |  8
 * |                                                               |
 * +---------------+---------------+-------------------------------+
 * |  VIP family   |    options    |           VIP port            | 16
 * +---------------+---------------+-------------------------------+
 * |            VIP, 16 bytes; IPv4 in the first four              | 20
 * +---------------------------------------------------------------+
 * |  isn_b: the sequence number of the balancer's SYN-ACK         | 36
 * +---------------------------------------------------------------+
 * |  ts_b: TSval of the balancer's SYN-ACK                        | 40
 * +-------------------------------+---------------+---------------+
 * |  MSS told to the client       |  scale told   |     index     | 44
 * +---------------+---------------+---------------+---------------+
 * | answer family |       0       |         answer port           | 48
 * +---------------+---------------+-------------------------------+
 * |            answer address, 16 bytes                           | 52
 * +---------------------------------------------------------------+
 * |  the client's round trip time, in microseconds; 0: not known  | 68
 * +---------------------------------------------------------------+
 * |            MAC, 16 bytes                                      | 72
 * +---------------------------------------------------------------+
 *
 * PROBE, type 5, has the same layout; what is of a handshake (options, isn_b, ts_b, MSS, scale, round
 * trip time) is 0. Its SYN has no options, so that the payload is at a fixed place, and comes from the
 * address that wants the answer. It asks how the service is that index, VIP and port stand for.
 *
 * An OPEN says: the client's next byte is seq + 1 of the SYN that carries it, the next byte it
 * expects from the VIP is isn_b + 1. It says nothing about how old the connection is.
 *
 * ACCEPTED, type 3, and REFUSED, type 4: a UDP datagram of 36 bytes to the answer address
 * +---------------------------------------------------------------+
 * |                      handoff id, 64 bits                      |  8
 * |                                                               |
 * +---------------+---------------+-------------------------------+
 * |    reason     |  server scale |              0                | 16
 * +---------------+---------------+-------------------------------+
 * |            MAC, 16 bytes                                      | 20
 * +---------------------------------------------------------------+
 *
 * STATUS, type 6: a UDP datagram of 44 bytes to the answer address of a PROBE
 * +---------------------------------------------------------------+
 * |                      id of the PROBE, 64 bits                 |  8
 * |                                                               |
 * +---------------+---------------+---------------+---------------+
 * |     state     |   DSCP seen   | server scale  |       0       | 16
 * +---------------+---------------+---------------+---------------+
 * |  status of the HTTP answer    |              0                | 20
 * +-------------------------------+-------------------------------+
 * |  live connections of the bridge, of all its services          | 24
 * +---------------------------------------------------------------+
 * |            MAC, 16 bytes                                      | 28
 * +---------------------------------------------------------------+
 *
 * In all versions, the first eight bytes are as above, the id of PROBE and STATUS is at 8, and the
 * port for the answer to a PROBE at 50. So two that do not understand each other, for want of a key
 * or because of their versions, can say so: such a STATUS is no longer than the PROBE, goes nowhere
 * but to where that came from, is seldom, and explains a silence to who cannot verify it.
 *
 * The MAC is BLAKE2b-128 keyed with the 32-byte key of that id (crypto_generichash of libsodium).
 * For records it covers also what gives them meaning, as 42 bytes behind the record's own: family
 * and 16 bytes of the client's address, family and 16 bytes of the bridge's, client port,
 * destination port and sequence number of the SYN. The DSCP field is compared with the index.
 *
 * Not protected: the options and the window of the SYN, which whoever is on the path could change
 * in any SYN; and freshness: who has seen an OPEN can send it once more when its connection is over,
 * and makes the web server answer a handshake that nobody completes.
 */

#define HANDOFF_VERSION	   1
#define HANDOFF_MAC_LEN	   16
#define HANDOFF_KEY_LEN	   32
#define HANDOFF_KEYS_MAX   8
#define HANDOFF_RECORD_LEN 88
#define HANDOFF_ANSWER_LEN 36
#define HANDOFF_STATUS_LEN 44

/* From this round trip time on, the first packet of a client that is handed over has no timestamps:
 * from them its web server would take a round trip time that is not the client's. */
#define HANDOFF_FAR_US 1000

enum handoff_type {
	HANDOFF_OPEN = 1,
	HANDOFF_ABORT = 2,
	HANDOFF_ACCEPTED = 3,
	HANDOFF_REFUSED = 4,
	HANDOFF_PROBE = 5,
	HANDOFF_STATUS = 6,
};

enum handoff_options {
	HANDOFF_WSCALE = 0x01, /* window scaling was negotiated with the client */
	HANDOFF_SACK = 0x02,
	HANDOFF_TIMESTAMPS = 0x04,
	HANDOFF_SILENT = 0x08, /* none of TCP: the client has said nothing, and repeats nothing */
	HANDOFF_OPTIONS_ALL = 0x0f,
};

/** enum handoff_reason - in REFUSED: why */
enum handoff_reason {
	HANDOFF_REASON_NONE = 0,
	HANDOFF_REASON_RESET,	/* the web server answered the SYN with a reset */
	HANDOFF_REASON_SILENT,	/* the web server did not answer in time */
	HANDOFF_REASON_OPTIONS, /* the web server did not agree to what the client was told */
	HANDOFF_REASON_SERVICE, /* index, VIP and port are not configured on this bridge */
	HANDOFF_REASON_FULL,	/* no room in the bridge's table, or in its kernel's */
	HANDOFF_REASONS,
};

/** handoff_reason_text() - for logs: "the web server refused the connection", ... */
const char *handoff_reason_text(unsigned int reason);

/** enum handoff_state - in STATUS: how the service is, as its bridge sees it */
enum handoff_state {
	HANDOFF_STATE_PENDING = 0, /* not known yet: a check has begun */
	HANDOFF_STATE_UP,
	HANDOFF_STATE_REFUSED,	   /* the web server refuses connections */
	HANDOFF_STATE_SILENT,	   /* the web server did not answer in time */
	HANDOFF_STATE_UNREACHABLE, /* the web server's address is not reached */
	HANDOFF_STATE_HTTP,	   /* another HTTP status than expected */
	HANDOFF_STATE_NO_HTTP,	   /* an answer that is not HTTP, or none before the end */
	HANDOFF_STATE_SERVICE,	   /* index, VIP and port are not configured on this bridge */
	HANDOFF_STATE_KEY,	   /* the PROBE's key id is unknown here, or its MAC is wrong */
	HANDOFF_STATE_VERSION,	   /* the PROBE is of another version */
	HANDOFF_STATES,
};

/** handoff_state_text() - for logs: "the web server refuses connections", ... */
const char *handoff_state_text(unsigned int state);

#define HANDOFF_SCALE_UNKNOWN 255

struct handoff_key {
	uint16_t id;
	uint8_t key[HANDOFF_KEY_LEN];
};

/** struct handoff_keys - at least one, ids unique; the first one signs, all of them are accepted */
struct handoff_keys {
	struct handoff_key key[HANDOFF_KEYS_MAX];
	size_t count;
};

/**
 * struct handoff_carrier - the packet around a record, as far as the MAC covers it
 * @client:	source of the SYN; @bridge: the bridge's own address; @seq: of the SYN
 */
struct handoff_carrier {
	struct endpoint client;
	struct addr bridge;
	uint16_t dport;
	uint32_t seq;
};

struct handoff_record {
	uint8_t type;	 /* HANDOFF_OPEN, _ABORT or _PROBE */
	uint8_t options; /* enum handoff_options */
	uint8_t wscale;	 /* the scale that the balancer's SYN-ACK told the client */
	uint8_t index;
	uint16_t mss; /* the MSS that the balancer's SYN-ACK told the client */
	uint32_t isn_b;
	uint32_t ts_b;
	uint32_t rtt_us; /* between the balancer's SYN-ACK and the client's ACK; 0: not known */
	uint64_t id;
	struct endpoint vip;
	struct endpoint answer;
};

struct handoff_answer {
	uint8_t type;	/* HANDOFF_ACCEPTED or _REFUSED */
	uint8_t reason; /* enum handoff_reason */
	uint8_t wscale; /* the web server's own scale, 0 without window scaling */
	uint64_t id;
};

/**
 * struct handoff_status - the answer to a PROBE
 * @dscp:	of the SYN that brought the PROBE, which should be the index
 * @wscale:	the web server's own, 0 without window scaling, or HANDOFF_SCALE_UNKNOWN
 * @http:	the status of HTTP that came; 0 if none did
 */
struct handoff_status {
	uint8_t state; /* enum handoff_state */
	uint8_t dscp, wscale;
	uint16_t http;
	uint32_t live;
	uint64_t id;
};

/** enum handoff_fault - why a message is not believed; each is a counter */
enum handoff_fault {
	HANDOFF_OK = 0,
	HANDOFF_TRUNCATED, /* length does not fit the type or the buffer */
	HANDOFF_FOREIGN,   /* no magic: not a handoff message at all */
	HANDOFF_BAD_VERSION,
	HANDOFF_BAD_TYPE,
	HANDOFF_UNKNOWN_KEY,
	HANDOFF_FORGED,	   /* the MAC does not fit */
	HANDOFF_BAD_FIELD, /* authentic, but a field holds what it must not */
	HANDOFF_FAULTS,
};

/** handoff_init() - libsodium, once per process; 0 or -EIO */
int handoff_init(void);

/** handoff_record_encode() - @buf gets HANDOFF_RECORD_LEN bytes, signed with the first key */
void handoff_record_encode(const struct handoff_record *r, const struct handoff_carrier *carrier,
			   const struct handoff_keys *keys, uint8_t buf[HANDOFF_RECORD_LEN]);
/** handoff_record_decode() - @r is filled only when HANDOFF_OK is returned */
enum handoff_fault handoff_record_decode(struct handoff_record *r,
					 const struct handoff_carrier *carrier,
					 const struct handoff_keys *keys, const uint8_t *buf,
					 size_t len);

/** handoff_answer_encode() - @buf gets HANDOFF_ANSWER_LEN bytes, signed with the first key */
void handoff_answer_encode(const struct handoff_answer *a, const struct handoff_keys *keys,
			   uint8_t buf[HANDOFF_ANSWER_LEN]);
/** handoff_answer_decode() - @a is filled only when HANDOFF_OK is returned */
enum handoff_fault handoff_answer_decode(struct handoff_answer *a, const struct handoff_keys *keys,
					 const uint8_t *buf, size_t len);

/** handoff_status_encode() - @buf gets HANDOFF_STATUS_LEN bytes, signed with the first key */
void handoff_status_encode(const struct handoff_status *s, const struct handoff_keys *keys,
			   uint8_t buf[HANDOFF_STATUS_LEN]);
/** handoff_status_decode() - @s is filled only when HANDOFF_OK is returned */
enum handoff_fault handoff_status_decode(struct handoff_status *s, const struct handoff_keys *keys,
					 const uint8_t *buf, size_t len);

/**
 * handoff_probe_peek() - does this look like a PROBE, of whatever version and key?
 * Then @id and @port (for the answer) are what it says, and nothing of it is to be believed.
 */
bool handoff_probe_peek(const uint8_t *buf, size_t len, uint64_t *id, uint16_t *port);
/** handoff_status_peek() - does this look like a STATUS? The same for its @id */
bool handoff_status_peek(const uint8_t *buf, size_t len, uint64_t *id);

#endif
