/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slots, keyed hash index and expiry lists of bounded tables. */
#include "flow_table.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Slots. The stack of returned ones holds fresh - used of them; the rest was never taken. */

int slots_init(struct slots *s, uint32_t capacity)
{
	*s = (struct slots){ .capacity = capacity };
	s->free = calloc(capacity, sizeof(*s->free));
	return s->free ? 0 : -ENOMEM;
}

void slots_clean(struct slots *s)
{
	free(s->free);
	*s = (struct slots){ 0 };
}

uint32_t slots_take(struct slots *s)
{
	if (s->used < s->fresh)
		return s->free[s->fresh - ++s->used];
	if (s->fresh == s->capacity)
		return SLOT_NONE;
	s->used++;
	return s->fresh++;
}

void slots_put(struct slots *s, uint32_t slot)
{
	assert(s->used > 0 && slot < s->fresh);
	s->free[s->fresh - s->used--] = slot;
}

/*
 * Index. Buckets and chains hold slot + 1, so that the zeros of calloc() say "nothing" and memory
 * no flow ever used is not even touched.
 */

int index_init(struct index *ix, uint32_t capacity)
{
	size_t buckets = 1;

	while (buckets < capacity)
		buckets *= 2;
	*ix = (struct index){ .mask = (uint32_t)(buckets - 1) };
	ix->keys = calloc(capacity, sizeof(*ix->keys));
	ix->next = calloc(capacity, sizeof(*ix->next));
	ix->buckets = calloc(buckets, sizeof(*ix->buckets));
	if (!ix->keys || !ix->next || !ix->buckets) {
		index_clean(ix);
		return -ENOMEM;
	}
	static_assert(sizeof(ix->secret) == crypto_shorthash_KEYBYTES, "the key of SipHash");
	randombytes_buf(ix->secret, sizeof(ix->secret));
	return 0;
}

void index_clean(struct index *ix)
{
	free(ix->keys);
	free(ix->next);
	free(ix->buckets);
	*ix = (struct index){ 0 };
}

static uint32_t *bucket_of(const struct index *ix, const struct tuple *key)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint32_t hash;

	crypto_shorthash(out, (const uint8_t *)key, sizeof(*key), ix->secret);
	memcpy(&hash, out, sizeof(hash));
	return &ix->buckets[hash & ix->mask];
}

uint32_t index_find(const struct index *ix, const struct tuple *key)
{
	uint32_t link;

	for (link = *bucket_of(ix, key); link; link = ix->next[link - 1]) {
		if (memcmp(&ix->keys[link - 1], key, sizeof(*key)) == 0)
			return link - 1;
	}
	return SLOT_NONE;
}

void index_insert(struct index *ix, uint32_t slot, const struct tuple *key)
{
	uint32_t *bucket = bucket_of(ix, key);

	ix->keys[slot] = *key;
	ix->next[slot] = *bucket;
	*bucket = slot + 1;
	ix->count++;
}

void index_remove(struct index *ix, uint32_t slot)
{
	uint32_t *link = bucket_of(ix, &ix->keys[slot]);

	while (*link != slot + 1) {
		assert(*link);
		link = &ix->next[*link - 1];
	}
	*link = ix->next[slot];
	ix->next[slot] = 0;
	ix->count--;
}

/* Expiry. */

int expiry_init(struct expiry *e, uint32_t capacity, const uint64_t *lifetime_ms,
		unsigned int classes)
{
	unsigned int i;

	assert(classes <= EXPIRY_CLASSES);
	*e = (struct expiry){ 0 };
	for (i = 0; i < EXPIRY_CLASSES; i++)
		e->class[i].head = e->class[i].tail = SLOT_NONE;
	for (i = 0; i < classes; i++)
		e->class[i].lifetime_ms = lifetime_ms[i];
	e->links = calloc(capacity, sizeof(*e->links));
	return e->links ? 0 : -ENOMEM;
}

void expiry_clean(struct expiry *e)
{
	free(e->links);
	*e = (struct expiry){ 0 };
}

void expiry_lifetime(struct expiry *e, unsigned int class, uint64_t lifetime_ms)
{
	uint64_t more = lifetime_ms - e->class[class].lifetime_ms;

	if (!more)
		return;
	/* All by the same amount, so the list stays in the order of its deadlines. */
	for (uint32_t slot = e->class[class].head; slot != SLOT_NONE; slot = e->links[slot].next)
		e->links[slot].deadline_ms += more;
	e->class[class].lifetime_ms = lifetime_ms;
}

static void append(struct expiry *e, uint32_t slot, unsigned int class)
{
	struct expiry_link *link = &e->links[slot];

	link->deadline_ms = link->touched_ms + e->class[class].lifetime_ms;
	link->list = (uint8_t)(class + 1);
	link->prev = e->class[class].tail;
	link->next = SLOT_NONE;
	if (link->prev == SLOT_NONE)
		e->class[class].head = slot;
	else
		e->links[link->prev].next = slot;
	e->class[class].tail = slot;
	e->class[class].count++;
}

void expiry_set(struct expiry *e, uint32_t slot, unsigned int class, uint64_t now_ms)
{
	assert(class < EXPIRY_CLASSES);
	expiry_remove(e, slot);
	e->links[slot].touched_ms = now_ms;
	append(e, slot, class);
}

void expiry_remove(struct expiry *e, uint32_t slot)
{
	struct expiry_link *link = &e->links[slot];
	unsigned int class = expiry_class(e, slot);

	if (class == EXPIRY_NONE)
		return;
	if (link->prev == SLOT_NONE)
		e->class[class].head = link->next;
	else
		e->links[link->prev].next = link->next;
	if (link->next == SLOT_NONE)
		e->class[class].tail = link->prev;
	else
		e->links[link->next].prev = link->prev;
	e->class[class].count--;
	link->list = 0;
}

uint32_t expiry_next(struct expiry *e, unsigned int class, uint64_t now_ms)
{
	uint32_t slot;

	while ((slot = e->class[class].head) != SLOT_NONE) {
		struct expiry_link *link = &e->links[slot];

		if (link->deadline_ms > now_ms)
			return SLOT_NONE;
		expiry_remove(e, slot);
		if (link->touched_ms + e->class[class].lifetime_ms <= now_ms)
			return slot;
		append(e, slot, class);
	}
	return SLOT_NONE;
}

uint32_t expiry_oldest(const struct expiry *e, unsigned int class)
{
	return e->class[class].head;
}
