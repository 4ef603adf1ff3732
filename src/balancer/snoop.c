/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bounded table of handshakes. */
#include "snoop.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/handoff.h"
#include "lib/tcp_options.h"
#include "os/log.h"

#define LIFETIME_MS 60000

enum { SEEN_SYN = 1, SEEN_SYN_ACK = 2, SEEN_ACK = 4 };

struct seen {
	uint32_t isn_c, isn_b;
	uint16_t window;
	uint16_t mss_client, mss_balancer;
	int8_t wscale_client, wscale_balancer; /* -1: option was missing */
	uint8_t offered;		       /* by the client: enum handoff_options */
	uint8_t agreed;			       /* by the kernel */
	uint8_t what;
	uint32_t syn_ack_ms; /* when the SYN-ACK was sent, modulo 2^32 */
	uint32_t rtt_ms;     /* 0 until the ACK has come */
};

struct snoop_entry {
	struct seen last[2];
	uint8_t kernels; /* which of them the kernel has: the first to come, until it says something else */
};

int snoop_init(struct snoop *s, uint32_t capacity, struct counters *counters)
{
	static const uint64_t lifetime_ms[] = { LIFETIME_MS };

	s->counters = counters;
	s->entries = calloc(capacity, sizeof(*s->entries));
	if (!s->entries || slots_init(&s->slots, capacity) || index_init(&s->index, capacity) ||
	    expiry_init(&s->expiry, capacity, lifetime_ms, 1))
		return -ENOMEM;
	return 0;
}

void snoop_clean(struct snoop *s)
{
	slots_clean(&s->slots);
	index_clean(&s->index);
	expiry_clean(&s->expiry);
	free(s->entries);
}

static void release(struct snoop *s, uint32_t slot)
{
	expiry_remove(&s->expiry, slot);
	index_remove(&s->index, slot);
	slots_put(&s->slots, slot);
}

static uint32_t take_slot(struct snoop *s, uint64_t now_ms)
{
	static struct log_limit limit;
	uint32_t slot = slots_take(&s->slots);

	if (slot != SLOT_NONE)
		return slot;
	counters_add(s->counters, COUNTER_HANDSHAKES_EVICTED, 1);
	log_warning_limited(&limit, now_ms,
			    "limits.handshakes wait for a request: the oldest are forgotten, and "
			    "known by their sockets");
	release(s, expiry_oldest(&s->expiry, 0));
	return slots_take(&s->slots);
}

static uint8_t options_of(const struct tcp_options *o)
{
	return (uint8_t)((o->wscale >= 0 ? HANDOFF_WSCALE : 0) |
			 (o->sack_permitted ? HANDOFF_SACK : 0) |
			 (o->timestamps ? HANDOFF_TIMESTAMPS : 0));
}

static void parse_options(struct tcp_options *o, const struct packet *p)
{
	size_t len;
	const uint8_t *options = packet_options(p, &len);

	/* What the kernel makes of a malformed list is decided by its SYN-ACK. */
	(void)tcp_options_parse(o, options, len);
}

static struct snoop_entry *entry_of(const struct snoop *s, const struct tuple *tuple)
{
	uint32_t slot = index_find(&s->index, tuple);

	return slot == SLOT_NONE ? NULL : &s->entries[slot];
}

/* The one of them that was begun with @isn_c, or NULL. */
static struct seen *begun_with(struct snoop_entry *entry, uint32_t isn_c)
{
	for (unsigned int i = 0; entry && i < 2; i++)
		if (entry->last[i].what && entry->last[i].isn_c == isn_c)
			return &entry->last[i];
	return NULL;
}

/* The one whose SYN-ACK is acknowledged by @p, a packet of the client near the begin; or NULL. */
static struct seen *acknowledged(const struct snoop *s, const struct packet *p)
{
	struct snoop_entry *entry = p->flags & TCP_ACK ? entry_of(s, &p->tuple) : NULL;

	for (unsigned int i = 0; entry && i < 2; i++) {
		struct seen *e = &entry->last[i];

		if (e->what & SEEN_SYN_ACK && p->ack == e->isn_b + 1 &&
		    p->seq - (e->isn_c + 1) <= UINT16_MAX)
			return e;
	}
	return NULL;
}

/* Where another handshake goes: not over the one that the kernel has. */
static struct seen *other(struct snoop_entry *e)
{
	return &e->last[!e->kernels];
}

void snoop_syn(struct snoop *s, const struct packet *p, uint64_t now_ms)
{
	uint32_t slot = index_find(&s->index, &p->tuple);
	struct tcp_options o;
	struct seen *e;

	if (slot != SLOT_NONE && begun_with(&s->entries[slot], p->seq))
		return; /* retransmitted */
	if (slot == SLOT_NONE) {
		slot = take_slot(s, now_ms);
		index_insert(&s->index, slot, &p->tuple);
		s->entries[slot] = (struct snoop_entry){ 0 };
		e = &s->entries[slot].last[0];
	} else {
		e = other(&s->entries[slot]);
	}
	expiry_set(&s->expiry, slot, 0, now_ms);
	counters_add(s->counters, COUNTER_HANDSHAKES, 1);

	parse_options(&o, p);
	*e = (struct seen){
		.what = SEEN_SYN,
		.isn_c = p->seq,
		.window = p->window,
		.mss_client = o.mss ? o.mss : MSS_DEFAULT,
		.wscale_client = o.wscale,
		.offered = options_of(&o),
	};
}

void snoop_syn_ack(struct snoop *s, const struct packet *p, uint64_t now_ms)
{
	struct tuple tuple = tuple_reverse(&p->tuple);
	uint32_t slot = index_find(&s->index, &tuple);
	struct tcp_options o;
	struct seen *e;

	if (slot == SLOT_NONE)
		return;
	e = begun_with(&s->entries[slot], p->ack - 1);
	if (!e) {
		e = other(&s->entries[slot]);
		*e = (struct seen){ .isn_c = p->ack - 1 };
	}
	expiry_touch(&s->expiry, slot, now_ms);
	parse_options(&o, p);
	e->isn_b = p->seq;
	e->mss_balancer = o.mss ? o.mss : MSS_DEFAULT;
	e->wscale_balancer = o.wscale;
	e->agreed = options_of(&o);
	e->what = (e->what & SEEN_SYN) | SEEN_SYN_ACK;
	e->syn_ack_ms = (uint32_t)now_ms;
	e->rtt_ms = 0;
	s->entries[slot].kernels = e == &s->entries[slot].last[1];
}

void snoop_ack(struct snoop *s, const struct packet *p, uint64_t now_ms)
{
	struct seen *e = acknowledged(s, p);

	if (!e)
		return;
	if (!(e->what & SEEN_ACK))
		e->rtt_ms = (uint32_t)now_ms - e->syn_ack_ms;
	e->what |= SEEN_ACK;
}

bool snoop_begins(const struct snoop *s, const struct packet *p, bool *first)
{
	const struct seen *e = acknowledged(s, p);

	*first = e && !(e->what & SEEN_ACK);
	return e;
}

bool snoop_refused(const struct snoop *s, const struct packet *p)
{
	const struct seen *e;

	if (!(p->flags & TCP_RST))
		return false;
	e = begun_with(entry_of(s, &p->tuple), p->seq - 1);
	return e && (e->what & (SEEN_SYN_ACK | SEEN_ACK)) == SEEN_SYN_ACK;
}

bool snoop_challenge(const struct snoop *s, const struct packet *p)
{
	struct tuple tuple = tuple_reverse(&p->tuple);
	const struct seen *e;

	if ((p->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK)
		return false;
	e = begun_with(entry_of(s, &tuple), p->ack - 1);
	return e && e->what & SEEN_SYN_ACK && p->seq == e->isn_b + 1;
}

bool snoop_find(const struct snoop *s, const struct packet *p, struct handshake *handshake,
		bool *acked)
{
	const struct seen *e = acknowledged(s, p);
	bool scaled;

	if (!e || !(e->what & SEEN_SYN))
		return false;
	scaled = e->offered & e->agreed & HANDOFF_WSCALE;
	*acked = e->what & SEEN_ACK;
	*handshake = (struct handshake){
		.isn_c = e->isn_c,
		.isn_b = e->isn_b,
		.window = e->window,
		.mss_client = e->mss_client,
		.mss_balancer = e->mss_balancer,
		.wscale_client = scaled ? (uint8_t)e->wscale_client : 0,
		.wscale_balancer = scaled ? (uint8_t)e->wscale_balancer : 0,
		.options = e->offered & e->agreed,
		.rtt_us = e->rtt_ms * 1000,
	};
	return true;
}

bool snoop_has(const struct snoop *s, const struct tuple *tuple)
{
	return index_find(&s->index, tuple) != SLOT_NONE;
}

void snoop_reset(struct snoop *s, const struct packet *p)
{
	uint32_t slot = index_find(&s->index, &p->tuple);
	struct snoop_entry *entry;
	struct seen *e;

	if (slot == SLOT_NONE)
		return;
	entry = &s->entries[slot];
	e = begun_with(entry, p->seq - 1);
	if (!e)
		return;
	e->what = 0;
	entry->kernels = e == &entry->last[0];
	if (!entry->last[entry->kernels].what)
		release(s, slot);
}

void snoop_forget(struct snoop *s, const struct tuple *tuple)
{
	uint32_t slot = index_find(&s->index, tuple);

	if (slot != SLOT_NONE)
		release(s, slot);
}

void snoop_expire(struct snoop *s, uint64_t now_ms)
{
	uint32_t slot;

	while ((slot = expiry_next(&s->expiry, 0, now_ms)) != SLOT_NONE)
		release(s, slot);
}

uint32_t snoop_count(const struct snoop *s)
{
	return __atomic_load_n(&s->slots.used, __ATOMIC_RELAXED);
}
