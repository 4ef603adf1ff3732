/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which backend serves a key: weighted rendezvous hashing over the names of the backends. */
#ifndef L3DSR_POOL_H
#define L3DSR_POOL_H

#include <stddef.h>
#include <stdint.h>

/*
 * DOC: Theory of operation
 *
 * Every backend draws a number for the key, u = hash(key, name) in (0, 1], and the largest
 * weight / -ln(u) wins (weighted rendezvous hashing, Thaler and Ravishankar; Schindelhauer and
 * Schomaker for the weights). Consequences the operator can count on:
 *
 * - backends get keys in proportion to their weights;
 * - a backend that goes away gives its own keys to the others by weight, and no other key moves;
 *   a backend that comes takes only the keys it wins; a changed weight moves only what it must;
 * - the order in the configuration file, and the addresses, do not matter: only name and weight do;
 * - the second choice for a key is known beforehand: it is what would win without the first.
 *
 * A service looks at a pool through a view: weights that say how its backends are now, and, if the
 * pool is bounded, how many connections they have. Then a backend that has more than `factor` times
 * its share by weight is full, and its keys go to the next of each key's list that is not (consistent
 * hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam). There is always one that is not:
 * factor is at least 1. If those were tried already, the bound does not count.
 *
 * All balancers must agree to the last key, on any machine and with any libm, so there is no
 * floating point: log2 is a table and an interpolation in integers, and quotients are compared by
 * cross multiplication.
 */

#define POOL_NONE	UINT32_MAX
#define POOL_WEIGHT_MAX 65535
#define POOL_LOAD_MAX	(1u << 24)
#define POOL_FACTOR_MAX 1000

struct pool;

/**
 * struct pool_load - connections of a backend; written by any thread, with atomic operations
 * @live:	those it was last known to have, and those that it was given since
 * @pending:	those it is being offered
 */
struct pool_load {
	uint32_t live, pending;
};

/** pool_load_now() - both, at most POOL_LOAD_MAX */
static inline uint32_t pool_load_now(const struct pool_load *load)
{
	uint32_t live = __atomic_load_n(&load->live, __ATOMIC_RELAXED);
	uint32_t pending = __atomic_load_n(&load->pending, __ATOMIC_RELAXED);

	return live < POOL_LOAD_MAX - pending ? live + pending : POOL_LOAD_MAX;
}

/**
 * struct pool_view - how the backends are, by number; all of it may change at any time
 * @weights:	0..POOL_WEIGHT_MAX, written with atomic operations, instead of those that were added
 * @loads:	only read if there is a factor
 * @factor:	in hundredths, 100..POOL_FACTOR_MAX; 0: not bounded
 */
struct pool_view {
	const uint32_t *weights;
	const struct pool_load *loads;
	uint32_t factor;
};

/** pool_new() - for at most @capacity backends; NULL and errno ENOMEM */
struct pool *pool_new(uint32_t capacity);
void pool_free(struct pool *pool);

/**
 * pool_add() - @name is copied, and unique in the pool; @weight 1..65535, or 0: gets no key
 * Returns the backend's number, -ENOSPC beyond the capacity, -EINVAL beyond the weights, -ENOMEM.
 */
int pool_add(struct pool *pool, const char *name, uint32_t weight);

/** pool_key() - the hash of a key's bytes, to be given to pool_choose(); the same everywhere */
uint64_t pool_key(const void *bytes, size_t len);

/**
 * pool_choose() - the best backend for @key that is not in @skip
 * @skip: bitmap of backend numbers that were tried already, (capacity + 63) / 64 words, or NULL
 * Returns its number, or POOL_NONE when none is left.
 */
uint32_t pool_choose(const struct pool *pool, uint64_t key, const uint64_t *skip);
/** pool_choose_in() - the same through @view; @own gets who it would be without a factor */
uint32_t pool_choose_in(const struct pool *pool, const struct pool_view *view, uint64_t key,
			const uint64_t *skip, uint32_t *own);

/** pool_count() - backends added so far */
uint32_t pool_count(const struct pool *pool);

#endif
