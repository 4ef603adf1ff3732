/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections that were handed over: their packets are sent on to their bridge. */
#ifndef L3DSR_STEER_H
#define L3DSR_STEER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/flow_table.h"
#include "lib/packet.h"

/*
 * DOC: Theory of operation
 *
 * A table from (client, VIP) to bridge and index. In the userspace data plane it has all connections,
 * and each of their packets is rewritten here. In the kernel data plane the maps of nft/balancer.nft
 * have them: a verdict's mark has the kernel learn a connection, and no further packet comes here. It
 * stays in the table, learned, for five seconds or half of closing_s, whatever is less: for packets that were
 * queued before, for the socket that our kernel still has, and for a held packet that was lost with its
 * interface, so that its client repeats it. What comes later is of a connection that the kernel did not
 * learn, because its map was full or emptied: it is active then, as in userspace, and offered to the
 * kernel with each packet.
 *
 * A flow is active until the client says FIN or RST, with a number near its last one so that nobody
 * else says it, then closing; active again when there is data behind that, which was not the client's
 * own then. It is forgotten when no packet came for the idle or the closing time (in
 * a half-closed download the client's ACKs keep it), or, when closing, as soon as a new one needs its
 * place; so is a learned one. A flow says by itself where its packets go, so a changed configuration
 * does not touch it.
 *
 * A SYN on a flow may be the client's port used again, after an end that passed by us (the web
 * server's answers do) or after a crash; it may as well be forged by somebody who wants to end the
 * flow. Nobody is asked: this host's kernel answers the SYN, and the flow is contested. It goes on
 * until a packet acknowledges the kernel's new ISN, which only somebody at the client's address has
 * seen: then the client has begun anew, and the flow is forgotten. A client that still has the old
 * connection challenges the SYN-ACK (RFC 5961, 4) with an ACK that belongs to the flow, and goes on.
 */

struct flow;

struct steer {
	struct slots slots;
	struct index index;
	struct expiry expiry;
	struct flow *flows;
	bool kernel;
	struct counters *counters;
};

/** steer_init() - for @capacity flows; @kernel: which data plane has them. 0 or -ENOMEM */
int steer_init(struct steer *s, uint32_t capacity, bool kernel, uint64_t idle_ms,
	       uint64_t closing_ms, struct counters *counters);
void steer_clean(struct steer *s);
/** steer_lifetimes() - from now on, of all flows */
void steer_lifetimes(struct steer *s, uint64_t idle_ms, uint64_t closing_ms);

/** steer_full() - is there no room for another flow? Closing and learned ones make room. */
bool steer_full(const struct steer *s);
/**
 * steer_add() - @tuple, client to VIP and not known yet, goes to @bridge; not when full
 * @number: of the bridge, for the kernel
 * @next: sequence number of the client's first byte
 */
void steer_add(struct steer *s, const struct tuple *tuple, const struct addr *bridge,
	       uint16_t number, uint8_t index, uint32_t next, uint64_t now_ms);
/** steer_find() - the flow of @tuple (client to VIP), or SLOT_NONE */
uint32_t steer_find(const struct steer *s, const struct tuple *tuple);

/**
 * steer_packet() - note a packet of @flow, not a SYN
 * Returns the mark for its verdict, which sends it to its bridge; 0 in the userspace data plane: the
 * packet was rewritten.
 */
uint32_t steer_packet(struct steer *s, uint32_t flow, struct packet *p, uint64_t now_ms);

/**
 * steer_doubtful() - has the kernel learned @flow, although a packet of it came here?
 * It may have been in a queue for long. Ask the kernel, then tell: steer_not_learned() if it has not.
 */
bool steer_doubtful(const struct steer *s, uint32_t flow, uint64_t now_ms);
void steer_not_learned(struct steer *s, uint32_t flow, uint64_t now_ms);

/** steer_just_added() - may our kernel still have the socket from before the handover? */
bool steer_just_added(const struct steer *s, uint32_t flow);

/** steer_contest() - there was a SYN on @flow */
void steer_contest(struct steer *s, uint32_t flow);
bool steer_contested(const struct steer *s, uint32_t flow);
/** steer_replace() - forget @flow: the client has begun anew */
void steer_replace(struct steer *s, uint32_t flow);

/** steer_bridge() - where @flow goes, and with which index; valid until the flow is forgotten */
const struct addr *steer_bridge(const struct steer *s, uint32_t flow, uint8_t *index);

void steer_expire(struct steer *s, uint64_t now_ms);
/** struct steer_row - a flow as it is shown */
struct steer_row {
	struct tuple tuple;
	uint16_t number;
	bool closing;
};

/**
 * steer_list() - up to @max flows that this table alone has, from slot *@cursor on, which is moved
 * Returns how many; *@cursor is SLOT_NONE behind the last one.
 */
size_t steer_list(const struct steer *s, uint32_t *cursor, struct steer_row *rows, size_t max);

/** steer_count() - flows now; may be read by another thread */
uint32_t steer_count(const struct steer *s);

#endif
