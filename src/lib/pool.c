/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Weighted rendezvous hashing in integers. */
#include "pool.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * All that follows is a contract between balancers: the two keys, the mixer, the table of
 * logarithms and the tie-break. A change of any of them moves URLs to other caches.
 *
 * The keys of SipHash are no secrets. Whoever chooses URLs can choose the backend too; that is not
 * prevented here, and costs nobody but him the hits of a cache.
 */
static const char request_key[crypto_shorthash_KEYBYTES + 1] = "l3dsr pool key 1";
static const char backend_key[crypto_shorthash_KEYBYTES + 1] = "l3dsr pool name1";

/*
 * Logarithms have 40 fractional bits: -log2 of a 64-bit draw is less than 2^46.1, times a weight of
 * 16 bits less than 2^63. With 1024 pieces a straight line is off by less than 2^-22, and in the
 * last piece, where winners are found, by less than 0.05 % of the value.
 */
#define LOG_FRACTION 40
#define LOG_PIECES   1024

struct backend {
	char *name;
	uint64_t hash;
	uint32_t weight;
};

struct pool {
	uint32_t count, capacity;
	uint64_t log2[LOG_PIECES + 1]; /* of 1 + i / LOG_PIECES */
	struct backend backends[];
};

/*
 * log2 of 1 + @piece / LOG_PIECES: squaring doubles a logarithm, so each square tells one more of
 * its bits. The number has 63 fractional bits, which leaves the 40 that are kept undisturbed.
 */
static uint64_t log2_exact(unsigned int piece)
{
	uint64_t x = ((uint64_t)LOG_PIECES + piece) << 53, log = 0;
	unsigned int bit;

	for (bit = 0; bit < LOG_FRACTION; bit++) {
		unsigned __int128 square = (unsigned __int128)x * x;
		bool two_or_more = square >> 127;

		log = log << 1 | two_or_more;
		x = (uint64_t)(square >> (two_or_more ? 64 : 63));
	}
	return log;
}

struct pool *pool_new(uint32_t capacity)
{
	struct pool *pool;
	unsigned int i;

	pool = calloc(1, sizeof(*pool) + capacity * sizeof(pool->backends[0]));
	if (!pool)
		return NULL;
	pool->capacity = capacity;
	for (i = 0; i < LOG_PIECES; i++)
		pool->log2[i] = log2_exact(i);
	pool->log2[LOG_PIECES] = (uint64_t)1 << LOG_FRACTION;
	return pool;
}

void pool_free(struct pool *pool)
{
	uint32_t i;

	if (!pool)
		return;
	for (i = 0; i < pool->count; i++)
		free(pool->backends[i].name);
	free(pool);
}

/* SipHash-2-4, its eight bytes read in little-endian order on every machine. */
static uint64_t hash(const void *bytes, size_t len, const char *key)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t value = 0;
	unsigned int i;

	crypto_shorthash(out, bytes, len, (const uint8_t *)key);
	for (i = 0; i < sizeof(out); i++)
		value |= (uint64_t)out[i] << 8 * i;
	return value;
}

int pool_add(struct pool *pool, const char *name, uint32_t weight)
{
	struct backend *b = &pool->backends[pool->count];

	if (weight > POOL_WEIGHT_MAX)
		return -EINVAL;
	if (pool->count == pool->capacity)
		return -ENOSPC;
	b->name = strdup(name);
	if (!b->name)
		return -ENOMEM;
	b->hash = hash(name, strlen(name), backend_key);
	b->weight = weight;
	return (int)pool->count++;
}

uint64_t pool_key(const void *bytes, size_t len)
{
	return hash(bytes, len, request_key);
}

/* A bijection in which each bit of @x changes each bit of the result with probability 1/2. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* -log2((@draw + 1) / 2^64): 0 for the largest draw, 64 for the smallest. */
static uint64_t minus_log2(const struct pool *pool, uint64_t draw)
{
	uint64_t x = draw + 1, low, step;
	unsigned int zeros, piece;

	if (x == 0)
		return 0;
	zeros = (unsigned int)__builtin_clzll(x);
	x <<= zeros;
	piece = x >> 53 & (LOG_PIECES - 1);
	low = pool->log2[piece];
	step = pool->log2[piece + 1] - low;
	low += step * (x >> 21 & 0xffffffff) >> 32;
	return ((uint64_t)(zeros + 1) << LOG_FRACTION) - low;
}

static bool skipped(const uint64_t *skip, uint32_t i)
{
	return skip && skip[i / 64] >> i % 64 & 1;
}

static uint32_t weight_of(const struct pool *pool, const struct pool_view *view, uint32_t i)
{
	return view ? __atomic_load_n(&view->weights[i], __ATOMIC_RELAXED)
		    : pool->backends[i].weight;
}

/**
 * struct bound - what a backend may have: load < rate * weight / scale
 *
 * That is, with one connection more it would not have more than factor times its share of all, rounded
 * up. No product is beyond 64 bits: loads have 24, their sum 34, with the factor 44, weights 16, their
 * sum 26.
 */
struct bound {
	uint64_t rate, scale;
};

static struct bound find_bound(const struct pool *pool, const struct pool_view *view)
{
	uint64_t loads = 1, weights = 0;
	uint32_t i;

	for (i = 0; i < pool->count; i++) {
		uint32_t weight = weight_of(pool, view, i);

		weights += weight;
		if (weight)
			loads += pool_load_now(&view->loads[i]);
	}
	return (struct bound){ .rate = loads * view->factor, .scale = weights * 100 };
}

static bool full(const struct pool_view *view, const struct bound *bound, uint32_t i,
		 uint32_t weight)
{
	return pool_load_now(&view->loads[i]) * bound->scale >= bound->rate * weight;
}

struct winner {
	uint32_t number, weight;
	uint64_t log;
};

/* weight / log > the best one's weight / log, without the quotients */
static bool wins(const struct pool *pool, const struct winner *c, const struct winner *best)
{
	uint64_t mine = c->weight * best->log, theirs = best->weight * c->log;

	if (best->number == POOL_NONE || mine != theirs)
		return best->number == POOL_NONE || mine > theirs;
	return strcmp(pool->backends[c->number].name, pool->backends[best->number].name) < 0;
}

/* Returns the best one that is not full; @own gets the best one of all. */
static uint32_t choose(const struct pool *pool, const struct pool_view *view,
		       const struct bound *bound, uint64_t key, const uint64_t *skip, uint32_t *own)
{
	struct winner best = { .number = POOL_NONE }, first = best;

	for (uint32_t i = 0; i < pool->count; i++) {
		struct winner c = { .number = i, .weight = weight_of(pool, view, i) };

		if (c.weight == 0 || skipped(skip, i))
			continue;
		c.log = minus_log2(pool, mix(key ^ pool->backends[i].hash));
		if (wins(pool, &c, &first))
			first = c;
		if (bound && !full(view, bound, i, c.weight) && wins(pool, &c, &best))
			best = c;
	}
	*own = first.number;
	return best.number != POOL_NONE ? best.number : first.number;
}

uint32_t pool_choose(const struct pool *pool, uint64_t key, const uint64_t *skip)
{
	uint32_t own;

	return choose(pool, NULL, NULL, key, skip, &own);
}

uint32_t pool_choose_in(const struct pool *pool, const struct pool_view *view, uint64_t key,
			const uint64_t *skip, uint32_t *own)
{
	struct bound bound;

	if (!view->factor)
		return choose(pool, view, NULL, key, skip, own);
	bound = find_bound(pool, view);
	return choose(pool, view, &bound, key, skip, own);
}

uint32_t pool_count(const struct pool *pool)
{
	return pool->count;
}
