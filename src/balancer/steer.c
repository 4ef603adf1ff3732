/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of steered flows, and what a packet does to its flow. */
#include "steer.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/rewrite.h"
#include "marks.h"
#include "os/log.h"

#define LEARNED_MS 5000 /* a client repeats its data after 0.2, 0.6, 1.4, 3 seconds */
#define QUEUED_MS  200	/* for so long a packet is often in a queue */

enum { ACTIVE, CLOSING, LEARNED, CLASSES };

struct flow {
	struct addr bridge;
	uint8_t index;
	bool contested;
	uint16_t number;
	uint64_t since_ms;
	uint32_t next; /* the highest sequence number that the client has used, plus one */
};

/* Well before the kernel may forget it: then the client's port can be used again. */
static uint64_t learned_ms(uint64_t closing_ms)
{
	return closing_ms / 2 < LEARNED_MS ? closing_ms / 2 : LEARNED_MS;
}

int steer_init(struct steer *s, uint32_t capacity, bool kernel, uint64_t idle_ms,
	       uint64_t closing_ms, struct counters *counters)
{
	const uint64_t lifetime_ms[CLASSES] = {
		[ACTIVE] = idle_ms,
		[CLOSING] = closing_ms,
		[LEARNED] = learned_ms(closing_ms),
	};

	s->counters = counters;
	s->kernel = kernel;
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

void steer_lifetimes(struct steer *s, uint64_t idle_ms, uint64_t closing_ms)
{
	expiry_lifetime(&s->expiry, ACTIVE, idle_ms);
	expiry_lifetime(&s->expiry, CLOSING, closing_ms);
	expiry_lifetime(&s->expiry, LEARNED, learned_ms(closing_ms));
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

static void make_room(struct steer *s)
{
	uint32_t slot = expiry_oldest(&s->expiry, LEARNED);

	if (slot != SLOT_NONE)
		forget(s, slot);
	else
		end(s, expiry_oldest(&s->expiry, CLOSING));
}

bool steer_full(const struct steer *s)
{
	return s->slots.used == s->slots.capacity &&
	       expiry_oldest(&s->expiry, CLOSING) == SLOT_NONE &&
	       expiry_oldest(&s->expiry, LEARNED) == SLOT_NONE;
}

void steer_add(struct steer *s, const struct tuple *tuple, const struct addr *bridge,
	       uint16_t number, uint8_t index, uint32_t next, uint64_t now_ms)
{
	uint32_t slot;

	if (s->slots.used == s->slots.capacity)
		make_room(s);
	slot = slots_take(&s->slots);
	s->flows[slot] = (struct flow){
		.bridge = *bridge,
		.index = index,
		.number = number,
		.since_ms = now_ms,
		.next = next,
	};
	index_insert(&s->index, slot, tuple);
	expiry_set(&s->expiry, slot, s->kernel ? LEARNED : ACTIVE, now_ms);
}

uint32_t steer_find(const struct steer *s, const struct tuple *tuple)
{
	return index_find(&s->index, tuple);
}

bool steer_doubtful(const struct steer *s, uint32_t slot, uint64_t now_ms)
{
	return expiry_class(&s->expiry, slot) == LEARNED &&
	       now_ms - s->flows[slot].since_ms > QUEUED_MS;
}

void steer_not_learned(struct steer *s, uint32_t slot, uint64_t now_ms)
{
	static struct log_limit limit;

	counters_add(s->counters, COUNTER_FLOWS_NOT_LEARNED, 1);
	log_warning_limited(&limit, now_ms,
			    "the kernel does not learn connections: the map flows4 is full, or "
			    "somebody has emptied it");
	expiry_set(&s->expiry, slot, ACTIVE, now_ms);
}

bool steer_just_added(const struct steer *s, uint32_t slot)
{
	return !s->kernel || expiry_class(&s->expiry, slot) == LEARNED;
}

uint32_t steer_packet(struct steer *s, uint32_t slot, struct packet *p, uint64_t now_ms)
{
	struct flow *flow = &s->flows[slot];
	bool near = seq_advance(&flow->next, p);
	unsigned int class = expiry_class(&s->expiry, slot);
	bool ends = p->flags & (TCP_FIN | TCP_RST);

	if (class == ACTIVE && near && ends)
		expiry_set(&s->expiry, slot, CLOSING, now_ms);
	else if (class == CLOSING && near && !ends && packet_payload_len(p))
		expiry_set(&s->expiry, slot, ACTIVE, now_ms);
	else if (class != LEARNED)
		expiry_touch(&s->expiry, slot, now_ms);
	counters_add(s->counters, COUNTER_STEERED, 1);
	if (s->kernel)
		return (class == CLOSING || (ends && !near) ? MARK_STEER : MARK_LEARN) |
		       flow->number;
	rewrite_to_bridge(p, &flow->bridge, flow->index);
	return 0;
}

void steer_contest(struct steer *s, uint32_t slot)
{
	s->flows[slot].contested = true;
}

bool steer_contested(const struct steer *s, uint32_t slot)
{
	return s->flows[slot].contested;
}

void steer_replace(struct steer *s, uint32_t slot)
{
	counters_add(s->counters, COUNTER_FLOWS_REUSED, 1);
	forget(s, slot);
}

const struct addr *steer_bridge(const struct steer *s, uint32_t slot, uint8_t *index)
{
	*index = s->flows[slot].index;
	return &s->flows[slot].bridge;
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
	while ((slot = expiry_next(&s->expiry, LEARNED, now_ms)) != SLOT_NONE)
		forget(s, slot);
}

size_t steer_list(const struct steer *s, uint32_t *cursor, struct steer_row *rows, size_t max)
{
	size_t count = 0;

	/* As many slots as rows, so that it takes no longer when few are in use. */
	for (size_t i = 0; i < max && *cursor < s->slots.fresh; i++, (*cursor)++) {
		unsigned int class = expiry_class(&s->expiry, *cursor);

		if (class != ACTIVE && class != CLOSING)
			continue;
		rows[count++] = (struct steer_row){
			.tuple = s->index.keys[*cursor],
			.number = s->flows[*cursor].number,
			.closing = class == CLOSING,
		};
	}
	if (*cursor >= s->slots.fresh)
		*cursor = SLOT_NONE;
	return count;
}

uint32_t steer_count(const struct steer *s)
{
	return __atomic_load_n(&s->slots.used, __ATOMIC_RELAXED);
}
