/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections that were handed over: their packets are sent on to their bridge. */
#ifndef L3DSR_STEER_H
#define L3DSR_STEER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/flow_table.h"
#include "lib/handoff.h"
#include "lib/packet.h"

/*
 * DOC: Theory of operation
 *
 * This is the balancer's data plane in userspace: a table from (client, VIP) to bridge and index,
 * and the rewriting of each packet. The functions below are all that the rest knows of it; another
 * data plane has to offer the same.
 *
 * A flow is active until the client says FIN or RST, with a number near its last one so that nobody
 * else says it, then closing. It is forgotten when no packet came for the idle or the closing time (in
 * a half-closed download the client's ACKs keep it), or, when closing, as soon as a new one needs its
 * place. A flow says by itself where its packets go, so a changed configuration does not touch it.
 *
 * A SYN on a closing flow begins a new connection. A SYN on an active one may be the client's port
 * used again after a crash, or after an end that passed by us (the web server's answers do); it may
 * as well be forged by somebody who wants to end the flow. So the bridge is asked. If the
 * connection lives there the bridge passes the SYN on, the web server's kernel challenges it (RFC
 * 5961, 4), and only the client's own RST ends the flow. If it has ended, the flow is forgotten,
 * and the client's next SYN begins anew. So it does when the bridge was asked ASKS_MOST times in
 * vain, each time for ASK_WAIT_MS, in which further SYNs are dropped.
 */

struct flow;

struct steer {
	struct slots slots;
	struct index index;
	struct expiry expiry;
	struct flow *flows;
	uint32_t serial; /* of the last flow: makes ids that are never used twice */
	struct counters *counters;
};

/** steer_init() - for @capacity flows; 0 or -ENOMEM */
int steer_init(struct steer *s, uint32_t capacity, uint64_t idle_ms, uint64_t closing_ms,
	       struct counters *counters);
void steer_clean(struct steer *s);

/** steer_full() - is there no room for another flow? Closing ones make room. */
bool steer_full(const struct steer *s);
/**
 * steer_add() - @tuple, client to VIP and not known yet, goes to @bridge; not when full
 * @next: sequence number of the client's first byte
 */
void steer_add(struct steer *s, const struct tuple *tuple, const struct addr *bridge, uint8_t index,
	       uint32_t next, uint64_t now_ms);
/** steer_find() - the flow of @tuple (client to VIP), or SLOT_NONE */
uint32_t steer_find(const struct steer *s, const struct tuple *tuple);

enum steer_verdict {
	STEER_FORWARD, /* it was rewritten for its bridge */
	STEER_NEW,     /* it begins a new connection: the flow is forgotten */
	STEER_ASK,     /* a SYN: the bridge is to be asked about steer_id() */
	STEER_DROP,    /* another one, while the answer is awaited */
};

/** steer_packet() - what a packet of @flow means, and where it goes */
enum steer_verdict steer_packet(struct steer *s, uint32_t flow, struct packet *p, uint64_t now_ms);

/** steer_bridge() - where @flow goes, and with which index; valid until the flow is forgotten */
const struct addr *steer_bridge(const struct steer *s, uint32_t flow, uint8_t *index);
/** steer_id() - names @flow in an ASK and its answer */
uint64_t steer_id(const struct steer *s, uint32_t flow);
/** steer_answer() - a bridge has answered: ALIVE or ENDED */
void steer_answer(struct steer *s, const struct handoff_answer *answer);

void steer_expire(struct steer *s, uint64_t now_ms);
/** steer_count() - flows now; may be read by another thread */
uint32_t steer_count(const struct steer *s);

#endif
