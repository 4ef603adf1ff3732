/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bounded tables of connections: keyed hash index, slots, and expiry without a timer per flow. */
#ifndef L3DSR_FLOW_TABLE_H
#define L3DSR_FLOW_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

/*
 * DOC: Theory of operation
 *
 * Three parts that are used together or alone. All of them name things by slot, a number below
 * the capacity given at start, never by pointer; all memory is allocated at start, and pages that
 * no flow ever used cost nothing (calloc of large blocks).
 *
 * struct slots	 which of N slots are free; last in, first out, so that few pages are touched.
 * struct index	 tuple -> slot. SipHash with a random key (libsodium's shorthash), because clients
 *		 choose addresses and ports; chains through an array of next slots.
 * struct expiry classes of equal lifetime. Each class is a list in the order of its deadlines, so
 *		 only heads need a look. A packet that refreshes a flow does not move it in the
 *		 list: it writes one time stamp, and the head is put to the end when its time comes
 *		 and the stamp turns out to be newer. So a flow that was never refreshed goes on
 *		 time; one that was refreshed is never taken early, and late by less than one
 *		 lifetime.
 *
 * Not handled: sharing between threads. Each worker has tables of its own.
 */

#define SLOT_NONE UINT32_MAX

struct slots {
	uint32_t *free;
	uint32_t capacity, used, fresh;
};

/** slots_init() - 0 or -ENOMEM */
int slots_init(struct slots *s, uint32_t capacity);
void slots_clean(struct slots *s);
/** slots_take() - a free slot, or SLOT_NONE when all are taken */
uint32_t slots_take(struct slots *s);
void slots_put(struct slots *s, uint32_t slot);

struct index {
	struct tuple *keys; /* by slot */
	uint32_t *next;	    /* by slot: chain of a bucket */
	uint32_t *buckets;
	uint32_t mask, count;
	uint8_t secret[16];
};

/** index_init() - for slots 0..@capacity-1; 0 or -ENOMEM */
int index_init(struct index *ix, uint32_t capacity);
void index_clean(struct index *ix);
/** index_find() - the slot of @key, or SLOT_NONE */
uint32_t index_find(const struct index *ix, const struct tuple *key);
/** index_insert() - @key must not be there yet, @slot must be unused in this index */
void index_insert(struct index *ix, uint32_t slot, const struct tuple *key);
/** index_remove() - @slot must be in the index */
void index_remove(struct index *ix, uint32_t slot);

#define EXPIRY_CLASSES 8
#define EXPIRY_NONE    0xff

struct expiry_link {
	uint32_t prev, next;
	uint64_t deadline_ms; /* place in the list */
	uint64_t touched_ms;  /* last sign of life */
	uint8_t list;	      /* class + 1; 0: in no list */
};

struct expiry {
	struct expiry_link *links; /* by slot */
	struct {
		uint32_t head, tail, count;
		uint64_t lifetime_ms;
	} class[EXPIRY_CLASSES];
};

/** expiry_init() - @lifetime_ms gives the lifetimes of the first @classes classes; 0 or -ENOMEM */
int expiry_init(struct expiry *e, uint32_t capacity, const uint64_t *lifetime_ms,
		unsigned int classes);
void expiry_clean(struct expiry *e);
/** expiry_lifetime() - @class lives so long from now on, those that are in it too */
void expiry_lifetime(struct expiry *e, unsigned int class, uint64_t lifetime_ms);
/** expiry_set() - put @slot into @class, out of the one it was in; its lifetime begins at @now_ms
 */
void expiry_set(struct expiry *e, uint32_t slot, unsigned int class, uint64_t now_ms);
/** expiry_touch() - a sign of life: the lifetime begins again */
static inline void expiry_touch(struct expiry *e, uint32_t slot, uint64_t now_ms)
{
	e->links[slot].touched_ms = now_ms;
}
/** expiry_class() - the class that @slot is in, or EXPIRY_NONE */
static inline unsigned int expiry_class(const struct expiry *e, uint32_t slot)
{
	return e->links[slot].list ? e->links[slot].list - 1u : EXPIRY_NONE;
}
/** expiry_remove() - take @slot out of its class, if it is in one */
void expiry_remove(struct expiry *e, uint32_t slot);
/**
 * expiry_next() - a slot of @class whose lifetime is over at @now_ms, or SLOT_NONE
 * The slot is taken out of its class. Call until it returns SLOT_NONE.
 */
uint32_t expiry_next(struct expiry *e, unsigned int class, uint64_t now_ms);
/** expiry_oldest() - the slot of @class whose deadline is the nearest, or SLOT_NONE; left in place
 */
uint32_t expiry_oldest(const struct expiry *e, unsigned int class);

#endif
