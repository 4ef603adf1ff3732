/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Handshakes seen in passing: what client and kernel told each other in SYN and SYN-ACK. */
#ifndef L3DSR_SNOOP_H
#define L3DSR_SNOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/flow_table.h"
#include "lib/packet.h"

/*
 * DOC: Theory of operation
 *
 * A SYN makes an entry, the kernel's SYN-ACK completes it, and a later SYN-ACK of the same handshake
 * overwrites what it says anew (under SYN cookies each has another ISN). The
 * table is bounded: when it is full the oldest entry goes, so a flood of SYNs costs entries and
 * never memory; a connection whose entry went is known by its accepted socket (listener.h).
 *
 * SYNs of the same addresses and ports may differ: one is late, or somebody else's, or the client has begun
 * anew. The kernel has one such handshake at a time and holds on to it whatever other SYN comes; which it is,
 * its SYN-ACKs tell. So the last two are kept, and a new SYN never takes the place of the kernel's.
 *
 * Entries leave when their connection was handed over, or after a minute.
 */

/**
 * struct handshake - what the handoff must know; the same from either source
 * @options:	negotiated: enum handoff_options
 * @window:	of the client's SYN, never scaled
 * @mss_client, @mss_balancer:	as told by each
 * @wscale_client, @wscale_balancer: as told by each; 0 unless HANDOFF_WSCALE
 * @rtt_us:	from the kernel's SYN-ACK to the client's ACK; 0 if not known
 */
struct handshake {
	uint32_t isn_c, isn_b;
	uint16_t window;
	uint16_t mss_client, mss_balancer;
	uint8_t wscale_client, wscale_balancer;
	uint8_t options;
	uint32_t rtt_us;
};

struct snoop_entry;

struct snoop {
	struct slots slots;
	struct index index;
	struct expiry expiry;
	struct snoop_entry *entries;
	struct counters *counters;
};

/** snoop_init() - for @capacity handshakes; 0 or -ENOMEM */
int snoop_init(struct snoop *s, uint32_t capacity, struct counters *counters);
void snoop_clean(struct snoop *s);

/** snoop_syn() - a client's SYN; @p->tuple is client to VIP */
void snoop_syn(struct snoop *s, const struct packet *p, uint64_t now_ms);
/** snoop_syn_ack() - the kernel's answer; @p->tuple is VIP to client */
void snoop_syn_ack(struct snoop *s, const struct packet *p, uint64_t now_ms);
/** snoop_ack() - a client's packet without data: does it complete the kernel's handshake? */
void snoop_ack(struct snoop *s, const struct packet *p, uint64_t now_ms);

/**
 * snoop_begins() - does @p complete a handshake: does it acknowledge the kernel's ISN, near isn_c?
 * Proof that the client has begun anew, on a tuple that was handed over before (steer.h). @first gets
 * whether it is the first to do so, as far as snoop_ack() was told of others.
 */
bool snoop_begins(const struct snoop *s, const struct packet *p, bool *first);

/**
 * snoop_refused() - is @p a reset that answers a SYN-ACK of the kernel? So says a client's host that has
 * asked for no connection, or no longer wants one (RFC 9293, 3.10.7.1), or has sent another SYN since.
 */
bool snoop_refused(const struct snoop *s, const struct packet *p);

/**
 * snoop_challenge() - does the kernel say by @p (VIP to client) that it waits for the end of a handshake?
 * Until the client has completed or refused that, no other SYN gets another answer.
 */
bool snoop_challenge(const struct snoop *s, const struct packet *p);

/**
 * snoop_find() - the handshake whose SYN-ACK the client's packet @p acknowledges, if both halves were seen
 * @acked gets whether the kernel has seen the client's ACK. Returns false if it is not known.
 */
bool snoop_find(const struct snoop *s, const struct packet *p, struct handshake *handshake,
		bool *acked);
/** snoop_has() - was there a SYN of @tuple (client to VIP)? */
bool snoop_has(const struct snoop *s, const struct tuple *tuple);
/** snoop_reset() - a client's RST: forget the handshake if it has the right number */
void snoop_reset(struct snoop *s, const struct packet *p);
/** snoop_forget() - the entry of @tuple, if there is one */
void snoop_forget(struct snoop *s, const struct tuple *tuple);
void snoop_expire(struct snoop *s, uint64_t now_ms);
/** snoop_count() - handshakes now; may be read by another thread */
uint32_t snoop_count(const struct snoop *s);

#endif
