/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools as services see them: weights that change, loads that are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "lib/pool.h"

#define KEYS 20000

static struct pool *make(const uint32_t *weights, uint32_t count)
{
	struct pool *pool = pool_new(count);

	assert_non_null(pool);
	for (uint32_t i = 0; i < count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "cache%u", i);
		assert_int_equal(pool_add(pool, name, weights[i]), i);
	}
	return pool;
}

static uint64_t key_of(unsigned int n)
{
	return pool_key(&n, sizeof(n));
}

/* Who it would be without the factor is told as well. */
static uint32_t choose_in(const struct pool *pool, const struct pool_view *view, uint64_t key,
			  const uint64_t *skip)
{
	const struct pool_view plain = { .weights = view->weights };
	uint32_t own, same, winner = pool_choose_in(pool, view, key, skip, &own);

	assert_int_equal(own, pool_choose_in(pool, &plain, key, skip, &same));
	assert_int_equal(own, same);
	return winner;
}

/* Weights of a view are what a pool with these weights would do. */
static void test_weights(void **state)
{
	static const uint32_t was[4] = { 100, 100, 100, 100 }, is[4] = { 100, 0, 7, 6400 };
	struct pool *pool = make(was, 4), *other = make(is, 4);
	const struct pool_view view = { .weights = is };

	(void)state;
	for (unsigned int n = 0; n < KEYS; n++)
		assert_int_equal(choose_in(pool, &view, key_of(n), NULL),
				 pool_choose(other, key_of(n), NULL));
	pool_free(pool);
	pool_free(other);
}

static void test_nobody(void **state)
{
	static const uint32_t was[2] = { 1, 1 }, is[2] = { 0, 0 };
	static const struct pool_load loads[2];
	struct pool *pool = make(was, 2);
	const struct pool_view view = { .weights = is, .loads = loads, .factor = 100 };

	(void)state;
	assert_int_equal(choose_in(pool, &view, 1, NULL), POOL_NONE);
	pool_free(pool);
}

/* One more, or the bound as it is written in words: ceil(factor * (all + 1) * weight / weights). */
static uint64_t bound_of(const struct pool_view *view, uint32_t count, uint32_t i)
{
	uint64_t weights = 0, loads = 1;

	for (uint32_t j = 0; j < count; j++) {
		weights += view->weights[j];
		loads += view->weights[j] ? pool_load_now(&view->loads[j]) : 0;
	}
	return (view->factor * loads * view->weights[i] + 100 * weights - 1) / (100 * weights);
}

/* A key that all want: nobody gets beyond its bound, and each overflow goes to the next of the list. */
static void test_hot_key(void **state)
{
	static const uint32_t weights[4] = { 100, 200, 100, 100 };
	struct pool_load loads[4] = { { 0 } };
	struct pool *pool = make(weights, 4);
	const struct pool_view view = { .weights = weights, .loads = loads, .factor = 125 };
	const uint64_t key = key_of(5);

	(void)state;
	for (unsigned int n = 0; n < 1000; n++) {
		uint64_t skip = 0;
		uint32_t i = choose_in(pool, &view, key, NULL), expected;

		/* The first of the key's own list that has room. */
		while (expected = pool_choose(pool, key, &skip), assert_in_range(expected, 0, 3),
		       pool_load_now(&loads[expected]) + 1 > bound_of(&view, 4, expected))
			skip |= (uint64_t)1 << expected;
		assert_int_equal(i, expected);
		loads[i].live += n % 2;
		loads[i].pending += !(n % 2);
		assert_true(pool_load_now(&loads[i]) <= bound_of(&view, 4, i));
	}
	/* The first of the list has what it may have, and would get the next one at the latest. */
	assert_in_range(pool_load_now(&loads[pool_choose(pool, key, NULL)]),
			bound_of(&view, 4, pool_choose(pool, key, NULL)) - 1,
			bound_of(&view, 4, pool_choose(pool, key, NULL)));
	pool_free(pool);
}

/* Balanced pools are left alone: keys keep their caches. */
static void test_even_load(void **state)
{
	static const uint32_t weights[3] = { 64, 64, 64 };
	static const struct pool_load loads[3] = { { .live = 100 },
						   { .live = 101 },
						   { .live = 99 } };
	struct pool *pool = make(weights, 3);
	const struct pool_view view = { .weights = weights, .loads = loads, .factor = 125 };

	(void)state;
	for (unsigned int n = 0; n < KEYS; n++)
		assert_int_equal(choose_in(pool, &view, key_of(n), NULL),
				 pool_choose(pool, key_of(n), NULL));
	pool_free(pool);
}

/* Of a full backend only its own keys move. One without a weight has no share, and no say. */
static void test_overflow(void **state)
{
	static const uint32_t weights[4] = { 64, 64, 64, 0 };
	static const struct pool_load loads[4] = {
		{ .live = 100 }, { .live = 300 }, { .live = 100 }, { .live = 1u << 23 }
	};
	struct pool *pool = make(weights, 4);
	const struct pool_view view = { .weights = weights, .loads = loads, .factor = 125 };
	const uint64_t second = 1 << 1;
	unsigned int moved = 0;

	(void)state;
	for (unsigned int n = 0; n < KEYS; n++) {
		uint32_t own = pool_choose(pool, key_of(n), NULL);
		uint32_t now = choose_in(pool, &view, key_of(n), NULL);

		if (own == 1)
			own = pool_choose(pool, key_of(n), &second);
		else
			moved += now != own;
		assert_int_equal(now, own);
	}
	assert_int_equal(moved, 0);
	pool_free(pool);
}

/* When only those are left that are full, one of them is better than none. */
static void test_tried(void **state)
{
	static const uint32_t weights[2] = { 64, 64 };
	static const struct pool_load loads[2] = { { .live = 10 }, { .live = 1000 } };
	struct pool *pool = make(weights, 2);
	const struct pool_view view = { .weights = weights, .loads = loads, .factor = 100 };
	const uint64_t first = 1;

	(void)state;
	for (unsigned int n = 0; n < 100; n++) {
		assert_int_equal(choose_in(pool, &view, key_of(n), NULL), 0);
		assert_int_equal(choose_in(pool, &view, key_of(n), &first), 1);
	}
	pool_free(pool);
}

/* Nothing overflows: the heaviest, the fullest and the most there can be. */
static void test_limits(void **state)
{
	enum { COUNT = 1024 };
	static uint32_t weights[COUNT];
	static struct pool_load loads[COUNT];
	struct pool *pool;
	const struct pool_view view = { .weights = weights,
					.loads = loads,
					.factor = POOL_FACTOR_MAX };

	(void)state;
	for (unsigned int i = 0; i < COUNT; i++) {
		weights[i] = POOL_WEIGHT_MAX;
		loads[i] = (struct pool_load){ .live = UINT32_MAX, .pending = 7 };
		assert_int_equal(pool_load_now(&loads[i]), POOL_LOAD_MAX);
	}
	pool = make(weights, COUNT);
	/* All are equal, so none is full. */
	for (unsigned int n = 0; n < 100; n++)
		assert_int_equal(choose_in(pool, &view, key_of(n), NULL),
				 pool_choose(pool, key_of(n), NULL));
	/* With the smallest weight, the fullest is. */
	weights[3] = 1;
	for (unsigned int n = 0; n < KEYS; n++)
		assert_int_not_equal(choose_in(pool, &view, key_of(n), NULL), 3);
	pool_free(pool);
}

static int setup(void **state)
{
	(void)state;
	return sodium_init() < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),	 cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_hot_key),	 cmocka_unit_test(test_even_load),
		cmocka_unit_test(test_overflow), cmocka_unit_test(test_tried),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
