/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the first byte of a request to the moment a bridge has taken the connection. */
#ifndef L3DSR_HANDOVER_H
#define L3DSR_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/flow_table.h"
#include "lib/handoff.h"
#include "lib/packet.h"
#include "os/worker.h"
#include "withdrawn.h"

/*
 * DOC: Theory of operation
 *
 * A handover begins with the first data of a connection whose handshake is known, or, of a service
 * whose server speaks first, with the ACK that completes the handshake: that is the packet that is held
 * then, and there is nothing to recognise. It goes through
 *
 *   RECOGNISING	packets are held, the recogniser is asked after each that brought new bytes;
 *			ends with a key, with the service's fallback, or with its time
 *   OFFERED		a backend was chosen, OPEN was sent; repeated after 20, 60 and 180 ms.
 *			REFUSED, or silence for 120 ms more: the next backend of that key, and after the
 *			last of them the first again, if one of them was silent
 *
 * and ends in one of three ways:
 *
 *   handed over	ACCEPTED came: the flow is steered, the held packets go to the bridge in
 *			the order in which they came, the kernel's socket is closed without a
 *			sound
 *   reset		no backend left, no room, or the service wants it so: the client gets a RST
 *			at once, the held packets are dropped
 *   abandoned		the client sent RST (one that begins anew from the same port does, when
 *			the kernel challenges its SYN: RFC 5961, 4)
 *
 * Nothing the client sent is acknowledged before ACCEPTED, so until then every backend is possible,
 * and a lost packet is only late. A client may be stopped by its congestion window before its
 * request is complete (a long request, or one in small packets): it is then sent duplicate ACKs,
 * as by a receiver that misses the first byte, which let it go on (RFC 5681, 3.2; RFC 2018) without
 * anything being acknowledged. Each such report makes it repeat its first segment too, and that counts: it
 * may send as many segments as were reported to it, less that one (RFC 6937). So they are not reported one
 * by one: between reports there is some time. Meanwhile what a client writes bit by bit is collected by its
 * kernel. The repetition also keeps its retransmission timer from ending, behind which no report has an
 * effect; without SACK there is none, and the client has 200 ms for all it has to say.
 *
 * A handover stays with the generation of the configuration that it has begun with (generation.h), but
 * for the keys: whoever takes a key out of the file is sure that nothing is signed by it any more.
 *
 * A handover is named towards bridges by a 64-bit id: its slot, and a number that is never used
 * twice. Answers to another id are late and without effect, but that a bridge which has taken an offer
 * that is over is told so once more (withdrawn.h).
 *
 * Not handled here: which packets belong to which connection state (datapath.c).
 */

struct balancer_worker;
struct handover;
struct service_settings;

struct handover_table {
	struct slots slots;
	struct index index;
	struct expiry expiry;
	struct expiry wakes; /* of clients that were woken: when they may be again */
	struct withdrawn withdrawn;
	struct handover *handovers;
	uint8_t *streams; /* request_bytes for each slot */
	uint8_t *scratch; /* one packet, while it is built for its verdict */
	uint8_t *url;	  /* one request in its normal form, while its key is made */
	uint32_t request_bytes;
	uint32_t serial; /* of the last id given */
};

/** handover_init() - for @capacity held requests of @request_bytes; 0 or -ENOMEM */
int handover_init(struct handover_table *t, uint32_t capacity, uint32_t request_bytes,
		  uint64_t request_ms);
void handover_clean(struct handover_table *t);
/** handover_lifetime() - a request has this time from now on */
void handover_lifetime(struct handover_table *t, uint64_t request_ms);

/** handover_find() - the handover of @tuple (client to VIP), or SLOT_NONE */
uint32_t handover_find(const struct handover_table *t, const struct tuple *tuple);

/**
 * handover_begin() - the first data of a connection; the packet gets its verdict, now or later
 * @p: from the client to @service, parsed, with data; or its ACK, if the server speaks first
 */
void handover_begin(struct balancer_worker *w, const struct service_settings *service,
		    struct packet *p, const struct queue_packet *qp, uint64_t now_ms);
/** handover_packet() - another packet of a client that has a handover; its verdict is given here */
void handover_packet(struct balancer_worker *w, uint32_t slot, struct packet *p,
		     const struct queue_packet *qp, uint64_t now_ms);
/** handover_abandon() - the client is gone: drop what is held, take an offer back */
void handover_abandon(struct balancer_worker *w, uint32_t slot);
/** handover_answer() - ACCEPTED or REFUSED came from a bridge */
void handover_answer(struct balancer_worker *w, const struct handoff_answer *answer,
		     uint64_t now_ms);
/** handover_expire() - repeat offers, go on to the next backend, end what took too long */
void handover_expire(struct balancer_worker *w, uint64_t now_ms);
/** handover_stop() - the daemon ends: drop all that is held, take all offers back */
void handover_stop(struct balancer_worker *w);
/** handover_count() - handovers now; may be read by another thread */
uint32_t handover_count(const struct handover_table *t);

#endif
