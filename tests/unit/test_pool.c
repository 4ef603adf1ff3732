/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Choice of backends: spread by weight, exactly the moves that must be, and golden values. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "lib/pool.h"

#define KEYS	     10000
#define MANY_KEYS    100000
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct member {
	const char *name;
	uint32_t weight;
};

static struct pool *pool_of(const struct member *members, size_t count)
{
	struct pool *pool = pool_new((uint32_t)count);
	size_t i;

	assert_non_null(pool);
	for (i = 0; i < count; i++)
		assert_int_equal(pool_add(pool, members[i].name, members[i].weight), i);
	assert_int_equal(pool_count(pool), count);
	return pool;
}

static uint64_t key_of(unsigned int n)
{
	char path[64];

	return pool_key(path, (size_t)snprintf(path, sizeof(path), "/live/%u/seg-%u.ts", n % 7, n));
}

/* The names that serve the keys, so that pools of other orders can be compared. */
static void choose_all(const struct member *members, size_t count, const char *chosen[KEYS])
{
	struct pool *pool = pool_of(members, count);
	unsigned int n;

	for (n = 0; n < KEYS; n++) {
		uint32_t i = pool_choose(pool, key_of(n), NULL);

		assert_in_range(i, 0, count - 1);
		chosen[n] = members[i].name;
	}
	pool_free(pool);
}

/* Within four standard deviations of the binomial distribution. */
static void check_share(const char *chosen[KEYS], const char *name, double share)
{
	double expected = KEYS * share, variance = KEYS * share * (1 - share);
	unsigned int n, hits = 0;

	for (n = 0; n < KEYS; n++)
		hits += strcmp(chosen[n], name) == 0;
	assert_true((hits - expected) * (hits - expected) < 4 * 4 * variance);
}

static void test_spread(void **state)
{
	static const struct member equal[] = {
		{ "cache1", 100 }, { "cache2", 100 }, { "cache3", 100 }, { "cache4", 100 }
	};
	static const struct member graded[] = {
		{ "a", 1 }, { "b", 2 }, { "c", 3 }, { "d", 10 }, { "none", 0 }
	};
	static const struct member extreme[] = { { "big", 65535 }, { "small", 6553 } };
	static const char *chosen[KEYS];
	size_t i;

	(void)state;
	choose_all(equal, 4, chosen);
	for (i = 0; i < 4; i++)
		check_share(chosen, equal[i].name, 0.25);
	choose_all(graded, 5, chosen);
	for (i = 0; i < 4; i++)
		check_share(chosen, graded[i].name, graded[i].weight / 16.0);
	for (i = 0; i < KEYS; i++)
		assert_string_not_equal(chosen[i], "none");
	choose_all(extreme, 2, chosen);
	check_share(chosen, "big", 65535.0 / (65535 + 6553));
}

static void test_spread_of_many(void **state)
{
	static struct member many[200];
	static char names[200][16];
	static const char *chosen[KEYS];
	double chi2 = 0;
	unsigned int n;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(many); i++) {
		snprintf(names[i], sizeof(names[i]), "cache%zu", i);
		many[i] = (struct member){ names[i], 100 };
	}
	choose_all(many, COUNT(many), chosen);
	for (i = 0; i < COUNT(many); i++) {
		unsigned int hits = 0;

		for (n = 0; n < KEYS; n++)
			hits += chosen[n] == names[i];
		chi2 += (hits - 50.0) * (hits - 50.0) / 50;
	}
	/* 199 degrees of freedom: mean 199, standard deviation 20. */
	assert_true(chi2 > 199 - 4 * 20 && chi2 < 199 + 4 * 20);
}

static void test_remove_and_add(void **state)
{
	static const struct member all[] = {
		{ "cache1", 100 }, { "cache2", 50 }, { "cache3", 100 }, { "cache4", 300 }
	};
	static const char *before[KEYS], *after[KEYS];
	struct member rest[3];
	size_t gone, i, k;

	(void)state;
	choose_all(all, 4, before);
	for (gone = 0; gone < 4; gone++) {
		unsigned int n, moved = 0;

		for (i = 0, k = 0; i < 4; i++) {
			if (i != gone)
				rest[k++] = all[i];
		}
		choose_all(rest, 3, after);
		for (n = 0; n < KEYS; n++) {
			if (strcmp(before[n], all[gone].name) == 0)
				moved++;
			else
				assert_string_equal(after[n], before[n]);
		}
		/* Read from right to left: one that is added takes only what it wins. */
		assert_true(moved > 0);
	}
}

static void test_weight_change(void **state)
{
	static const struct member light[] = { { "a", 100 }, { "b", 100 }, { "c", 100 } };
	static const struct member heavy[] = { { "a", 100 }, { "b", 150 }, { "c", 100 } };
	static const char *before[KEYS], *after[KEYS];
	unsigned int n, moved = 0;

	(void)state;
	choose_all(light, 3, before);
	choose_all(heavy, 3, after);
	for (n = 0; n < KEYS; n++) {
		if (strcmp(before[n], after[n]) == 0)
			continue;
		assert_string_equal(after[n], "b");
		moved++;
	}
	/* From 1/3 to 3/7 of all keys: 952, standard deviation 30. */
	assert_in_range(moved, 832, 1072);
}

/*
 * Loads before and after say how many keys must move: whoever has more than before has got them from
 * others. No more than that may move, up to one in a hundred; and the loads are those of the weights.
 */
struct moves {
	uint16_t *before, *after;
	uint32_t *loads_before, *loads_after; /* by number of the backend */
};

static struct pool *numbered(uint32_t count, uint32_t without, uint32_t heavier)
{
	struct pool *pool = pool_new(count);

	assert_non_null(pool);
	for (uint32_t i = 0; i < count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "cache%u", i);
		assert_int_equal(pool_add(pool, name,
					  i == without	 ? 0
					  : i == heavier ? 150
							 : 100),
				 i);
	}
	return pool;
}

static void choose_many(struct pool *pool, uint16_t *chosen, uint32_t *loads)
{
	memset(loads, 0, pool_count(pool) * sizeof(*loads));
	for (uint32_t n = 0; n < MANY_KEYS; n++) {
		chosen[n] = (uint16_t)pool_choose(pool, key_of(n), NULL);
		loads[chosen[n]]++;
	}
	pool_free(pool);
}

static void check_moves(const struct moves *m, uint32_t count, uint32_t changed, double share)
{
	double expected = MANY_KEYS * share, load = m->loads_after[changed];
	uint32_t moved = 0, must = 0;

	for (uint32_t n = 0; n < MANY_KEYS; n++)
		moved += m->before[n] != m->after[n];
	for (uint32_t i = 0; i < count; i++)
		if (m->loads_after[i] > m->loads_before[i])
			must += m->loads_after[i] - m->loads_before[i];
	assert_true(moved > 0);
	assert_true(moved >= must && moved <= must * 1.01);
	/* Within one in a hundred of all keys, and within four standard deviations. */
	assert_true(load > expected - MANY_KEYS * 0.01 && load < expected + MANY_KEYS * 0.01);
	assert_true((load - expected) * (load - expected) <= 4 * 4 * expected * (1 - share));
}

static void test_moves(void **state)
{
	static const uint32_t counts[] = { 2, 3, 16, 128, 1000 };
	struct moves m = {
		.before = malloc(MANY_KEYS * sizeof(*m.before)),
		.after = malloc(MANY_KEYS * sizeof(*m.after)),
		.loads_before = malloc(1000 * sizeof(*m.loads_before)),
		.loads_after = malloc(1000 * sizeof(*m.loads_after)),
	};

	(void)state;
	assert_true(m.before && m.after && m.loads_before && m.loads_after);
	for (size_t i = 0; i < COUNT(counts); i++) {
		uint32_t count = counts[i], changed = count / 2;

		/* Without it, with it, without it again, and with more weight. */
		choose_many(numbered(count, changed, count), m.before, m.loads_before);
		choose_many(numbered(count, count, count), m.after, m.loads_after);
		check_moves(&m, count, changed, 1.0 / count);
		for (uint32_t n = 0; n < MANY_KEYS; n++)
			assert_true(m.before[n] == m.after[n] || m.after[n] == changed);
		choose_many(numbered(count, changed, count), m.before, m.loads_before);
		check_moves(&(struct moves){ m.after, m.before, m.loads_after, m.loads_before },
			    count, changed, 0);
		choose_many(numbered(count, count, changed), m.before, m.loads_before);
		check_moves(&(struct moves){ m.after, m.before, m.loads_after, m.loads_before },
			    count, changed, 1.5 / (count + 0.5));
	}
	free(m.before);
	free(m.after);
	free(m.loads_before);
	free(m.loads_after);
}

static void test_order_does_not_matter(void **state)
{
	static const struct member one[] = { { "a", 1 }, { "b", 2 }, { "c", 3 }, { "d", 4 } };
	static const struct member other[] = { { "c", 3 }, { "a", 1 }, { "d", 4 }, { "b", 2 } };
	static const char *first[KEYS], *second[KEYS];
	unsigned int n;

	(void)state;
	choose_all(one, 4, first);
	choose_all(other, 4, second);
	for (n = 0; n < KEYS; n++)
		assert_string_equal(first[n], second[n]);
}

/* Only proportions count: no rounding that depends on the size of the weights. */
static void test_scaled_weights(void **state)
{
	static const struct member small[] = { { "a", 1 }, { "b", 2 }, { "c", 5 } };
	static const struct member large[] = { { "a", 13107 }, { "b", 26214 }, { "c", 65535 } };
	static const char *first[KEYS], *second[KEYS];
	unsigned int n;

	(void)state;
	choose_all(small, 3, first);
	choose_all(large, 3, second);
	for (n = 0; n < KEYS; n++)
		assert_string_equal(first[n], second[n]);
}

static void test_second_choice(void **state)
{
	static const struct member all[] = {
		{ "a", 100 }, { "b", 200 }, { "c", 300 }, { "d", 400 }
	};
	struct pool *pool = pool_of(all, 4);
	unsigned int n;

	(void)state;
	for (n = 0; n < KEYS; n++) {
		uint32_t first = pool_choose(pool, key_of(n), NULL), i, second;
		uint64_t skip = (uint64_t)1 << first;
		struct pool *rest = pool_new(4);

		assert_non_null(rest);
		/* The same numbers, but the winner gets nothing. */
		for (i = 0; i < 4; i++)
			pool_add(rest, all[i].name, i == first ? 0 : all[i].weight);
		second = pool_choose(pool, key_of(n), &skip);
		assert_int_not_equal(second, first);
		assert_int_equal(second, pool_choose(rest, key_of(n), NULL));
		pool_free(rest);
	}
	pool_free(pool);
}

static void test_skip_until_none(void **state)
{
	enum { BACKENDS = 130 };
	struct pool *pool = pool_new(BACKENDS);
	uint64_t skip[(BACKENDS + 63) / 64] = { 0 };
	bool seen[BACKENDS] = { false };
	uint32_t i, n;

	(void)state;
	assert_non_null(pool);
	assert_int_equal(pool_choose(pool, 0, NULL), POOL_NONE);
	for (i = 0; i < BACKENDS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "b%u", i);
		assert_int_equal(pool_add(pool, name, i == 77 ? 0 : 1 + i), i);
	}
	for (n = 0; n < BACKENDS - 1; n++) {
		i = pool_choose(pool, 12345, skip);
		assert_in_range(i, 0, BACKENDS - 1);
		assert_int_not_equal(i, 77);
		assert_false(seen[i]);
		seen[i] = true;
		skip[i / 64] |= (uint64_t)1 << i % 64;
	}
	assert_int_equal(pool_choose(pool, 12345, skip), POOL_NONE);
	pool_free(pool);
}

static void test_limits(void **state)
{
	struct pool *pool = pool_new(2);
	char name[] = "a";

	(void)state;
	assert_non_null(pool);
	assert_int_equal(pool_add(pool, "big", 65536), -EINVAL);
	assert_int_equal(pool_add(pool, name, 65535), 0);
	name[0] = 'b';
	assert_int_equal(pool_add(pool, name, 0), 1);
	assert_int_equal(pool_add(pool, "c", 1), -ENOSPC);
	assert_int_equal(pool_count(pool), 2);
	assert_int_equal(pool_choose(pool, 1, NULL), 0);
	pool_free(pool);
	pool_free(NULL);
}

/*
 * Balancers of different builds must agree, and caches must stay warm over an upgrade: these values
 * were computed a second time with real logarithms, and must never change.
 */
static void test_golden(void **state)
{
	static const struct member members[] = {
		{ "cache1", 100 }, { "cache2", 100 }, { "cache3", 200 }, { "cache4", 1 }
	};
	static const struct {
		const char *path;
		uint64_t key;
		uint32_t first, second;
	} golden[] = {
		{ "/", 0x65c3d5a8303ae822, 1, 0 },
		{ "/index.html", 0xad6fd9f80f63bfd0, 1, 2 },
		{ "/live/7/segment-000001.ts", 0xba7ce146f6427fad, 2, 1 },
		{ "/live/7/segment-000002.ts", 0x36e9d58f3a50bd06, 2, 0 },
		{ "", 0xbc0b3f3642ae4aa6, 0, 1 },
		{ "/a", 0xbce7b69eed5f99e2, 0, 1 },
		{ "/b", 0x211d5c7456a390c0, 2, 1 },
		{ "/c", 0xf548dc0c83e2a6f4, 2, 0 },
	};
	struct pool *pool = pool_of(members, COUNT(members));
	uint64_t digest = 0;
	unsigned int n;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(golden); i++) {
		uint64_t key = pool_key(golden[i].path, strlen(golden[i].path)), skip;

		assert_int_equal(key, golden[i].key);
		assert_int_equal(pool_choose(pool, key, NULL), golden[i].first);
		skip = (uint64_t)1 << golden[i].first;
		assert_int_equal(pool_choose(pool, key, &skip), golden[i].second);
	}
	for (n = 0; n < KEYS; n++)
		digest = digest * 6364136223846793005 + pool_choose(pool, key_of(n), NULL);
	assert_int_equal(digest, 0x204bcb2279ae0c81);
	pool_free(pool);
}

static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;
	int i;

	for (i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

static uint64_t undo_shift(uint64_t y, unsigned int shift)
{
	uint64_t x = y;
	unsigned int known;

	for (known = shift; known < 64; known += shift)
		x = y ^ x >> shift;
	return x;
}

/* The key for which the backend @name draws @draw. */
static uint64_t key_for_draw(const char *name, uint64_t draw)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t hash = 0;
	unsigned int i;

	crypto_shorthash(out, (const uint8_t *)name, strlen(name),
			 (const uint8_t *)"l3dsr pool name1");
	for (i = 0; i < sizeof(out); i++)
		hash |= (uint64_t)out[i] << 8 * i;
	draw = undo_shift(draw, 31) * inverse(0x94d049bb133111eb);
	draw = undo_shift(draw, 27) * inverse(0xbf58476d1ce4e5b9);
	return undo_shift(draw, 30) ^ hash;
}

/* The two ends of the logarithm: the largest draw beats every weight, the smallest loses. */
static void test_extreme_draws(void **state)
{
	static const struct member light[] = { { "a", 65535 }, { "b", 1 }, { "c", 65535 } };
	static const struct member equal[] = { { "a", 7 }, { "b", 7 } };
	struct pool *pool = pool_of(light, 3);

	(void)state;
	assert_int_equal(pool_choose(pool, key_for_draw("b", UINT64_MAX), NULL), 1);
	assert_int_equal(pool_choose(pool, key_for_draw("b", UINT64_MAX - 1), NULL), 1);
	pool_free(pool);

	pool = pool_of(equal, 2);
	assert_int_equal(pool_choose(pool, key_for_draw("a", 0), NULL), 1);
	assert_int_equal(pool_choose(pool, key_for_draw("b", 0), NULL), 0);
	pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_spread_of_many),
		cmocka_unit_test(test_remove_and_add),
		cmocka_unit_test(test_weight_change),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_order_does_not_matter),
		cmocka_unit_test(test_scaled_weights),
		cmocka_unit_test(test_second_choice),
		cmocka_unit_test(test_skip_until_none),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_extreme_draws),
		cmocka_unit_test(test_golden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
