/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of steered flows, and what a packet does to its flow. */
#include "steer.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/rewrite.h"

enum { ACTIVE, CLOSING, CLASSES };

struct flow {
	struct addr bridge;
	uint8_t index;
	bool syn_seen; /* a SYN with @syn_seq came on the active flow */
	uint32_t syn_seq;
};

int steer_init(struct steer *s, uint32_t capacity, uint64_t idle_ms, uint64_t closing_ms,
	       struct counters *counters)
{
	const uint64_t lifetime_ms[CLASSES] = { [ACTIVE] = idle_ms, [CLOSING] = closing_ms };

	s->counters = counters;
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

bool steer_full(const struct steer *s)
{
	return s->slots.used == s->slots.capacity;
}

void steer_add(struct steer *s, const struct tuple *tuple, const struct addr *bridge, uint8_t index,
	       uint64_t now_ms)
{
	uint32_t slot = slots_take(&s->slots);

	s->flows[slot] = (struct flow){ .bridge = *bridge, .index = index };
	index_insert(&s->index, slot, tuple);
	expiry_set(&s->expiry, slot, ACTIVE, now_ms);
}

uint32_t steer_find(const struct steer *s, const struct tuple *tuple)
{
	return index_find(&s->index, tuple);
}

static void forget(struct steer *s, uint32_t slot)
{
	expiry_remove(&s->expiry, slot);
	index_remove(&s->index, slot);
	slots_put(&s->slots, slot);
}

static bool begins_anew(struct steer *s, uint32_t slot, const struct packet *p)
{
	struct flow *flow = &s->flows[slot];
	bool again = flow->syn_seen && flow->syn_seq == p->seq;

	flow->syn_seen = true;
	flow->syn_seq = p->seq;
	return again || expiry_class(&s->expiry, slot) == CLOSING;
}

bool steer_packet(struct steer *s, uint32_t slot, struct packet *p, uint64_t now_ms)
{
	const struct flow *flow = &s->flows[slot];

	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (begins_anew(s, slot, p)) {
			counters_add(s->counters, COUNTER_FLOWS_REUSED, 1);
			forget(s, slot);
			return false;
		}
	} else if (p->flags & (TCP_FIN | TCP_RST) && expiry_class(&s->expiry, slot) == ACTIVE) {
		expiry_set(&s->expiry, slot, CLOSING, now_ms);
	} else {
		expiry_touch(&s->expiry, slot, now_ms);
	}
	rewrite_to_bridge(p, &flow->bridge, flow->index);
	counters_add(s->counters, COUNTER_STEERED, 1);
	return true;
}

void steer_expire(struct steer *s, uint64_t now_ms)
{
	static const enum counter counter[CLASSES] = {
		[ACTIVE] = COUNTER_FLOWS_IDLE,
		[CLOSING] = COUNTER_FLOWS_ENDED,
	};
	uint32_t slot;

	for (unsigned int class = 0; class < CLASSES; class ++) {
		while ((slot = expiry_next(&s->expiry, class, now_ms)) != SLOT_NONE) {
			counters_add(s->counters, counter[class], 1);
			forget(s, slot);
		}
	}
}

uint32_t steer_count(const struct steer *s)
{
	return __atomic_load_n(&s->slots.used, __ATOMIC_RELAXED);
}
