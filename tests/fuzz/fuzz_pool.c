/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the choice of a backend, in any order of the backends and with any of them gone. */
#include "fuzz.h"
#include "lib/handoff.h"
#include "lib/pool.h"

/*
 * Input: count of backends, which of them are skipped, key; then of each backend its weight; then a
 * factor, and of each backend its load.
 */

#define BACKENDS_MAX 16

static char names[BACKENDS_MAX][8];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < BACKENDS_MAX; i++)
		snprintf(names[i], sizeof(names[i]), "b%u", i);
	return handoff_init();
}

/* The backends, listed forwards or backwards. */
static struct pool *make(const uint32_t *weights, uint32_t count, bool backwards)
{
	struct pool *pool = pool_new(count);

	CHECK(pool);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = backwards ? count - 1 - i : i;

		CHECK(pool_add(pool, names[n], weights[n]) == (int)i);
	}
	CHECK(pool_count(pool) == count);
	return pool;
}

/* Chosen from a list that is backwards; numbers are those of the list that is not. */
static uint32_t choose_backwards(const struct pool *pool, uint64_t key, uint64_t skip)
{
	uint32_t count = pool_count(pool), winner;
	uint64_t backwards = 0;

	for (uint32_t i = 0; i < count; i++)
		backwards |= (skip >> i & 1) << (count - 1 - i);
	winner = pool_choose(pool, key, &backwards);
	return winner == POOL_NONE ? POOL_NONE : count - 1 - winner;
}

static void check_winner(const struct pool *pool, const uint32_t *weights, uint64_t key,
			 uint64_t skip, uint32_t winner)
{
	uint32_t other = (winner + 1) % pool_count(pool);
	uint64_t without = skip | 1u << other;

	CHECK(winner < pool_count(pool) && weights[winner] && !(skip >> winner & 1));
	/* When another backend goes, the key stays. */
	if (other != winner)
		CHECK(pool_choose(pool, key, &without) == winner);
}

/* Who it would be without the factor is told as well. */
static uint32_t choose_in(const struct pool *pool, const struct pool_view *view, uint64_t key,
			  const uint64_t *skip)
{
	const struct pool_view plain = { .weights = view->weights };
	uint32_t own, same, winner = pool_choose_in(pool, view, key, skip, &own);

	CHECK(own == pool_choose_in(pool, &plain, key, skip, &same) && own == same);
	return winner;
}

/* With loads: somebody is chosen whenever there is somebody, and never one beyond its share. */
static void check_bounded(struct fuzz_input *in, const struct pool *pool, const uint32_t *weights,
			  uint64_t key, uint64_t skip, bool any)
{
	struct pool_load loads[BACKENDS_MAX];
	const struct pool_view view = {
		.weights = weights,
		.loads = loads,
		.factor = 100 + fuzz_u16(in) % (POOL_FACTOR_MAX - 99),
	};
	uint64_t all = 1, weight = 0;
	bool room = false;
	uint32_t winner;

	for (uint32_t i = 0; i < pool_count(pool); i++) {
		loads[i] = (struct pool_load){ .live = fuzz_u32(in) };
		all += weights[i] ? pool_load_now(&loads[i]) : 0;
		weight += weights[i];
	}
#define ROOM(i) (100 * weight * pool_load_now(&loads[i]) < view.factor * all * weights[i])
	for (uint32_t i = 0; i < pool_count(pool); i++)
		room |= ROOM(i) && !(skip >> i & 1);
	winner = choose_in(pool, &view, key, &skip);
	CHECK((winner != POOL_NONE) == any);
	CHECK(!room || ROOM(winner));
#undef ROOM
	CHECK(winner == POOL_NONE || (weights[winner] && !(skip >> winner & 1)));
	/* Nothing is full of nothing, so somebody has room if nobody was tried. */
	if (weight)
		CHECK(choose_in(pool, &view, key, NULL) != POOL_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint32_t count = fuzz_u8(&in) % (BACKENDS_MAX + 1), winner, second;
	uint64_t skip = fuzz_u16(&in), key = fuzz_number(&in, 8);
	uint32_t weights[BACKENDS_MAX] = { 0 };
	struct pool *pool, *backwards;
	bool any = false;

	for (uint32_t i = 0; i < count; i++) {
		weights[i] = fuzz_u16(&in);
		any |= weights[i] && !(skip >> i & 1);
	}
	pool = make(weights, count, false);
	winner = pool_choose(pool, key, &skip);
	CHECK((winner != POOL_NONE) == any);
	check_bounded(&in, pool, weights, key, skip, any);
	if (any) {
		check_winner(pool, weights, key, skip, winner);
		/* A weight of zero is the same as being skipped. */
		skip |= 1u << winner;
		second = pool_choose(pool, key, &skip);
		skip &= ~(1u << winner);
		weights[winner] = 0;
		backwards = make(weights, count, true);
		CHECK(choose_backwards(backwards, key, skip) == second);
		pool_free(backwards);
	}
	pool_free(pool);
	return 0;
}
