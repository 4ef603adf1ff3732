/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of steered flows, and what a packet does to its flow. */
#include "steer.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "lib/rewrite.h"

#define ASKS_MOST   3	/* in vain, before a flow is taken for dead */
#define ASK_WAIT_MS 500 /* for an answer; a client repeats its SYN after a second */

enum { ACTIVE, CLOSING, CLASSES };

struct flow {
	struct addr bridge;
	uint8_t index;
	uint8_t asks;  /* that are not answered */
	uint32_t next; /* the highest sequence number that the client has used, plus one */
	uint32_t serial;
	uint64_t asked_ms;
};

int steer_init(struct steer *s, uint32_t capacity, uint64_t idle_ms, uint64_t closing_ms,
	       struct counters *counters)
{
	const uint64_t lifetime_ms[CLASSES] = { [ACTIVE] = idle_ms, [CLOSING] = closing_ms };

	s->counters = counters;
	s->serial = randombytes_random(); /* ids of an earlier run are not ours */
	s->flows = calloc(capacity, sizeof(*s->flows));
	if (!s->flows || slots_init(&s->slots, capacity) || index_init(&s->index, capacity) ||
	    expiry_init(&s->expiry, capacity, lifetime_ms, CLASSES))
		return -ENOMEM;
	return 0;
}

void steer_clean(struct steer *s)
{
	slots_clean(&s->slots);
	index_clean(&s->index);
	expiry_clean(&s->expiry);
	free(s->flows);
}

static void forget(struct steer *s, uint32_t slot)
{
	expiry_remove(&s->expiry, slot);
	index_remove(&s->index, slot);
	slots_put(&s->slots, slot);
}

/* The flow is over, as was to be expected. */
static void end(struct steer *s, uint32_t slot)
{
	counters_add(s->counters, COUNTER_FLOWS_ENDED, 1);
	forget(s, slot);
}

bool steer_full(const struct steer *s)
{
	return s->slots.used == s->slots.capacity &&
	       expiry_oldest(&s->expiry, CLOSING) == SLOT_NONE;
}

void steer_add(struct steer *s, const struct tuple *tuple, const struct addr *bridge, uint8_t index,
	       uint32_t next, uint64_t now_ms)
{
	uint32_t slot;

	if (s->slots.used == s->slots.capacity)
		end(s, expiry_oldest(&s->expiry, CLOSING));
	slot = slots_take(&s->slots);
	s->flows[slot] = (struct flow){
		.bridge = *bridge,
		.index = index,
		.serial = ++s->serial,
		.next = next,
	};
	index_insert(&s->index, slot, tuple);
	expiry_set(&s->expiry, slot, ACTIVE, now_ms);
}

uint32_t steer_find(const struct steer *s, const struct tuple *tuple)
{
	return index_find(&s->index, tuple);
}

static enum steer_verdict on_syn(struct steer *s, uint32_t slot, uint64_t now_ms)
{
	struct flow *flow = &s->flows[slot];

	if (expiry_class(&s->expiry, slot) == ACTIVE) {
		if (flow->asks && now_ms - flow->asked_ms < ASK_WAIT_MS)
			return STEER_DROP;
		if (flow->asks < ASKS_MOST) {
			flow->asks++;
			flow->asked_ms = now_ms;
			return STEER_ASK;
		}
	}
	counters_add(s->counters, COUNTER_FLOWS_REUSED, 1);
	forget(s, slot);
	return STEER_NEW;
}

enum steer_verdict steer_packet(struct steer *s, uint32_t slot, struct packet *p, uint64_t now_ms)
{
	struct flow *flow = &s->flows[slot];
	bool near;

	if (packet_is_syn(p))
		return on_syn(s, slot, now_ms);
	near = seq_advance(&flow->next, p);
	if (near && p->flags & (TCP_FIN | TCP_RST) && expiry_class(&s->expiry, slot) == ACTIVE)
		expiry_set(&s->expiry, slot, CLOSING, now_ms);
	else
		expiry_touch(&s->expiry, slot, now_ms);
	rewrite_to_bridge(p, &flow->bridge, flow->index);
	counters_add(s->counters, COUNTER_STEERED, 1);
	return STEER_FORWARD;
}

const struct addr *steer_bridge(const struct steer *s, uint32_t slot, uint8_t *index)
{
	*index = s->flows[slot].index;
	return &s->flows[slot].bridge;
}

uint64_t steer_id(const struct steer *s, uint32_t slot)
{
	return (uint64_t)s->flows[slot].serial << 32 | slot;
}

void steer_answer(struct steer *s, const struct handoff_answer *answer)
{
	uint32_t slot = (uint32_t)answer->id;

	/* A slot beyond @fresh was never taken; one that is free is in no class. */
	if (slot >= s->slots.fresh || expiry_class(&s->expiry, slot) == EXPIRY_NONE ||
	    s->flows[slot].serial != answer->id >> 32) {
		counters_add(s->counters, COUNTER_ANSWERS_LATE, 1);
		return;
	}
	if (answer->type == HANDOFF_ENDED)
		end(s, slot);
	else
		s->flows[slot].asks = 0;
}

void steer_expire(struct steer *s, uint64_t now_ms)
{
	uint32_t slot;

	while ((slot = expiry_next(&s->expiry, ACTIVE, now_ms)) != SLOT_NONE) {
		counters_add(s->counters, COUNTER_FLOWS_IDLE, 1);
		forget(s, slot);
	}
	while ((slot = expiry_next(&s->expiry, CLOSING, now_ms)) != SLOT_NONE)
		end(s, slot);
}

uint32_t steer_count(const struct steer *s)
{
	return __atomic_load_n(&s->slots.used, __ATOMIC_RELAXED);
}
