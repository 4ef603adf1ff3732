/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Health of a target: every short history of results against a model, times, weights, causes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/health.h"

#define INDEX 1
#define START 1000000

static const struct health_policy policy = {
	.interval_ms = 1000,
	.fast_ms = 100,
	.timeout_ms = 300,
	.slow_start_ms = 30000,
	.rise = 2,
	.fall = 3,
};

/* What may happen to a question. */
enum event { GOOD, REFUSED, SILENT, EVENTS };

static struct handoff_status status_of(const struct health *h, enum handoff_state state)
{
	return (struct handoff_status){ .id = h->id, .state = (uint8_t)state, .dscp = INDEX };
}

/* Ask when it is time, and let @event be the result; @now_ms moves on. Was there news? */
static bool step(struct health *h, const struct health_policy *p, enum event event,
		 uint64_t *now_ms)
{
	struct handoff_status status;

	assert_false(h->waiting);
	*now_ms = health_next_ms(h, p);
	assert_true(health_due(h, *now_ms));
	health_asked(h, *now_ms * 7, *now_ms);
	assert_false(health_due(h, *now_ms + 1000000));
	if (event == SILENT) {
		assert_true(health_next_ms(h, p) == *now_ms + p->timeout_ms);
		*now_ms = health_next_ms(h, p);
		assert_false(health_expire(h, p, *now_ms - 1));
		assert_true(h->waiting);
		return health_expire(h, p, *now_ms);
	}
	*now_ms += 1;
	status = status_of(h, event == GOOD ? HANDOFF_STATE_UP : HANDOFF_STATE_REFUSED);
	return health_answered(h, p, &status, INDEX, *now_ms);
}

static enum health_cause cause_of(enum event event)
{
	static const enum health_cause causes[] = {
		[GOOD] = HEALTH_ANSWERS, [REFUSED] = HEALTH_REFUSED, [SILENT] = HEALTH_SILENT
	};

	return causes[event];
}

/* The rules once more, told by looking back instead of by counting. */
static bool last_are(const enum event *events, unsigned int count, unsigned int from,
		     unsigned int wanted, int which)
{
	if (count - from < wanted)
		return false;
	for (unsigned int i = 0; i < wanted; i++) {
		enum event e = events[count - 1 - i];

		if (which < 0 ? e == GOOD : e != (enum event)which)
			return false;
	}
	return true;
}

static void check_history(const struct health_policy *p, const enum event *events,
			  unsigned int length)
{
	enum health_state state = HEALTH_NEW;
	enum health_cause why = HEALTH_NOTHING;
	unsigned int from = 0; /* results before this one have had their effect */
	uint64_t now_ms = START;
	struct health h;

	health_init(&h, p, 7, now_ms);
	for (unsigned int i = 0; i < length; i++) {
		bool news = step(&h, p, events[i], &now_ms), expected = false;
		enum health_state before = state;

		if (state == HEALTH_NEW && events[i] == GOOD)
			state = HEALTH_UP;
		else if (state != HEALTH_DOWN && last_are(events, i + 1, from, p->fall, -1))
			state = HEALTH_DOWN;
		else if (state == HEALTH_DOWN && last_are(events, i + 1, from, p->rise, GOOD))
			state = HEALTH_UP;
		else if (state == HEALTH_DOWN && cause_of(events[i]) != why)
			expected = events[i] != GOOD &&
				   last_are(events, i + 1, from, p->fall, (int)events[i]);
		expected |= state != before;
		if (expected) {
			from = i + 1;
			why = cause_of(events[i]);
		}
		assert_int_equal(news, expected);
		assert_int_equal(h.state, state);
		assert_int_equal(h.why.cause, why);
		assert_int_equal(h.last.cause, cause_of(events[i]));
		assert_true(h.result_ms == now_ms);
	}
}

static void test_histories(void **state)
{
	enum { LENGTH = 9, ALL = 19683 };
	enum event events[LENGTH];

	(void)state;
	for (unsigned int rule = 0; rule < 9; rule++) {
		struct health_policy p = policy;

		p.rise = 1 + rule % 3;
		p.fall = 1 + rule / 3;
		for (unsigned int n = 0; n < ALL; n++) {
			for (unsigned int i = 0, left = n; i < LENGTH; i++, left /= EVENTS)
				events[i] = left % EVENTS;
			check_history(&p, events, LENGTH);
		}
	}
}

static void assert_in(uint64_t value, uint64_t from, uint64_t to)
{
	assert_true(value >= from);
	assert_true(value <= to);
}

static void bring_up(struct health *h, uint64_t *now_ms)
{
	health_init(h, &policy, 1, START);
	*now_ms = START;
	step(h, &policy, GOOD, now_ms);
	assert_int_equal(h->state, HEALTH_UP);
}

static void test_intervals(void **state)
{
	uint64_t now_ms;
	struct health h;

	(void)state;
	for (uint32_t seed = 0; seed < 1000; seed++) {
		health_init(&h, &policy, seed, START);
		assert_in(health_next_ms(&h, &policy), START, START + 99);
	}
	bring_up(&h, &now_ms);
	for (unsigned int i = 0; i < 1000; i++) {
		assert_in(health_next_ms(&h, &policy) - h.sent_ms, 900, 1100);
		step(&h, &policy, GOOD, &now_ms);
	}
	/* In doubt: fast, and at once if the wait for the answer was longer than that. */
	step(&h, &policy, REFUSED, &now_ms);
	assert_in(health_next_ms(&h, &policy) - h.sent_ms, 90, 110);
	step(&h, &policy, SILENT, &now_ms);
	assert_true(health_next_ms(&h, &policy) == now_ms);
	/* The doubt is over, in one way or the other. */
	step(&h, &policy, GOOD, &now_ms);
	assert_in(health_next_ms(&h, &policy) - h.sent_ms, 900, 1100);
	for (unsigned int i = 0; i < policy.fall; i++)
		step(&h, &policy, REFUSED, &now_ms);
	assert_int_equal(h.state, HEALTH_DOWN);
	assert_in(health_next_ms(&h, &policy) - h.sent_ms, 900, 1100);
	step(&h, &policy, GOOD, &now_ms);
	assert_in(health_next_ms(&h, &policy) - h.sent_ms, 90, 110);
	step(&h, &policy, REFUSED, &now_ms);
	assert_in(health_next_ms(&h, &policy) - h.sent_ms, 900, 1100);
}

/* A silent bridge is DOWN within one interval of the first question that it does not answer. */
static void test_silence_is_noticed(void **state)
{
	uint64_t now_ms, first;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	first = health_next_ms(&h, &policy);
	while (h.state != HEALTH_DOWN)
		step(&h, &policy, SILENT, &now_ms);
	assert_in(now_ms - first, 0, policy.interval_ms);
}

static void test_doubt(void **state)
{
	uint64_t now_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	now_ms += 500;
	for (unsigned int i = 0; i < 100; i++)
		health_doubted(&h, &policy, now_ms);
	/* It is asked at once, and however many there were, the probe decides. */
	assert_true(health_due(&h, now_ms));
	assert_int_equal(h.state, HEALTH_UP);
	step(&h, &policy, GOOD, &now_ms);
	assert_int_equal(h.streak, 0);

	/* But no more often than in a doubt of another kind. */
	health_doubted(&h, &policy, now_ms);
	assert_true(health_next_ms(&h, &policy) == h.sent_ms + policy.fast_ms);

	/* It is worth one bad result: two more are enough. */
	step(&h, &policy, REFUSED, &now_ms);
	assert_int_equal(h.state, HEALTH_UP);
	assert_true(step(&h, &policy, REFUSED, &now_ms));
	assert_int_equal(h.state, HEALTH_DOWN);

	/* What is DOWN is not doubted. */
	health_doubted(&h, &policy, now_ms);
	assert_in(health_next_ms(&h, &policy) - h.sent_ms, 900, 1100);
	assert_int_equal(h.streak, 0);
}

/* Doubts alone never do it, not even with one between each two results, or when one is enough. */
static void test_doubt_is_not_enough(void **state)
{
	struct health_policy p = policy;
	uint64_t now_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	p.fall = 1;
	for (unsigned int i = 0; i < 10; i++) {
		health_doubted(&h, &p, now_ms);
		assert_int_equal(h.state, HEALTH_UP);
		assert_int_equal(h.streak, 0);
	}
}

static void test_doubt_while_asking(void **state)
{
	struct handoff_status status;
	uint64_t now_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	now_ms = health_next_ms(&h, &policy);
	health_asked(&h, 5, now_ms);
	health_doubted(&h, &policy, now_ms + 1);
	assert_false(health_due(&h, now_ms + 1));
	status = status_of(&h, HANDOFF_STATE_UP);
	health_answered(&h, &policy, &status, INDEX, now_ms + 2);
	assert_int_equal(h.streak, 0);
}

/* Answers to other questions, or to none. */
static void test_late_answers(void **state)
{
	struct handoff_status status;
	uint64_t now_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	status = status_of(&h, HANDOFF_STATE_REFUSED);
	assert_false(health_answered(&h, &policy, &status, INDEX, now_ms));
	assert_int_equal(h.streak, 0);
	now_ms = health_next_ms(&h, &policy);
	health_asked(&h, h.id + 1, now_ms);
	assert_false(health_answered(&h, &policy, &status, INDEX, now_ms));
	assert_int_equal(h.streak, 0);
	assert_true(h.waiting);
}

/* "Not yet" is asked again soon, and is no result. */
static void test_pending(void **state)
{
	struct handoff_status status;
	uint64_t now_ms, result_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	result_ms = h.result_ms;
	for (unsigned int i = 0; i < 20; i++) {
		now_ms = health_next_ms(&h, &policy);
		health_asked(&h, i, now_ms);
		status = status_of(&h, HANDOFF_STATE_PENDING);
		assert_false(health_answered(&h, &policy, &status, INDEX, now_ms + 1));
		assert_in(health_next_ms(&h, &policy) - h.sent_ms, 90, 110);
		assert_true(h.result_ms == result_ms);
	}
	assert_int_equal(h.state, HEALTH_UP);
	assert_int_equal(h.streak, 0);
}

/* A hint is the cause of a silence, for one question, and nothing without it. */
static void test_hints(void **state)
{
	uint64_t now_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	for (unsigned int i = 0; i < policy.fall; i++) {
		now_ms = health_next_ms(&h, &policy);
		health_asked(&h, 100 + i, now_ms);
		health_hinted(&h, 99, HEALTH_VERSION);
		health_hinted(&h, 100 + i, HEALTH_KEY);
		assert_true(h.waiting);
		assert_int_equal(h.state, HEALTH_UP);
		now_ms += policy.timeout_ms;
		assert_int_equal(health_expire(&h, &policy, now_ms), i + 1 == policy.fall);
	}
	assert_int_equal(h.state, HEALTH_DOWN);
	assert_int_equal(h.why.cause, HEALTH_KEY);
	health_hinted(&h, 100 + policy.fall - 1, HEALTH_VERSION);
	step(&h, &policy, SILENT, &now_ms);
	assert_int_equal(h.last.cause, HEALTH_SILENT);
	/* A good answer counts, whatever was hinted. */
	bring_up(&h, &now_ms);
	now_ms = health_next_ms(&h, &policy);
	health_asked(&h, 3, now_ms);
	health_hinted(&h, 3, HEALTH_KEY);
	assert_false(health_answered(
		&h, &policy,
		&(struct handoff_status){ .id = 3, .state = HANDOFF_STATE_UP, .dscp = INDEX },
		INDEX, now_ms));
	assert_int_equal(h.last.cause, HEALTH_ANSWERS);
	assert_int_equal(h.streak, 0);
}

static void test_weights(void **state)
{
	const uint32_t whole = 100 * HEALTH_WEIGHT_UNIT;
	uint64_t now_ms;
	uint32_t before = 0;
	struct health h;

	(void)state;
	health_init(&h, &policy, 1, START);
	assert_int_equal(health_weight(&h, &policy, 100, START), whole);
	bring_up(&h, &now_ms);
	assert_int_equal(health_weight(&h, &policy, 100, now_ms), whole);
	while (h.state != HEALTH_DOWN) {
		assert_int_equal(health_weight(&h, &policy, 100, now_ms), whole);
		step(&h, &policy, REFUSED, &now_ms);
	}
	assert_int_equal(health_weight(&h, &policy, 100, now_ms), 0);
	while (h.state != HEALTH_UP) {
		assert_int_equal(health_weight(&h, &policy, 100, now_ms), 0);
		step(&h, &policy, GOOD, &now_ms);
	}
	/* From nearly nothing in equal steps. */
	assert_int_equal(health_weight(&h, &policy, 100, now_ms), 1);
	assert_int_equal(health_weight(&h, &policy, 0, now_ms), 0);
	for (unsigned int ms = 0; ms < 30000; ms += 10) {
		uint32_t weight = health_weight(&h, &policy, 100, now_ms + ms);

		assert_in(weight, before, before + 3);
		before = weight;
	}
	assert_int_equal(health_weight(&h, &policy, 100, now_ms + 15000), whole / 2);
	assert_int_equal(health_weight(&h, &policy, 100, now_ms + 30000), whole);
	assert_int_equal(health_weight(&h, &policy, 1000, now_ms + 900000),
			 1000 * HEALTH_WEIGHT_UNIT);
}

/* What was drained: while it is up, as from down; what is not up has its own begin. */
static void test_start_slowly(void **state)
{
	const uint32_t whole = 100 * HEALTH_WEIGHT_UNIT;
	uint64_t now_ms;
	struct health h;

	(void)state;
	health_init(&h, &policy, 1, START);
	health_start_slowly(&h, START);
	assert_int_equal(health_weight(&h, &policy, 100, START), whole);
	bring_up(&h, &now_ms);
	health_start_slowly(&h, now_ms);
	assert_int_equal(health_weight(&h, &policy, 100, now_ms), 1);
	assert_int_equal(health_weight(&h, &policy, 100, now_ms + 15000), whole / 2);
	assert_int_equal(health_weight(&h, &policy, 100, now_ms + 30000), whole);
}

static void test_no_slow_start(void **state)
{
	struct health_policy p = policy;
	uint64_t now_ms;
	struct health h;

	(void)state;
	bring_up(&h, &now_ms);
	while (h.state != HEALTH_DOWN)
		step(&h, &policy, REFUSED, &now_ms);
	while (h.state != HEALTH_UP)
		step(&h, &policy, GOOD, &now_ms);
	p.slow_start_ms = 0;
	assert_int_equal(health_weight(&h, &p, 3, now_ms), 3 * HEALTH_WEIGHT_UNIT);
}

static void check_result(enum handoff_state state, uint8_t dscp, enum health_cause cause,
			 unsigned int detail)
{
	const struct handoff_status status = { .state = (uint8_t)state, .dscp = dscp, .http = 503 };
	struct health_result result;

	assert_int_equal(health_result_of(&status, INDEX, &result), cause != HEALTH_NOTHING);
	assert_int_equal(result.cause, cause);
	assert_int_equal(result.detail, detail);
}

static void test_results(void **state)
{
	(void)state;
	check_result(HANDOFF_STATE_PENDING, INDEX, HEALTH_NOTHING, 0);
	check_result(HANDOFF_STATE_UP, INDEX, HEALTH_ANSWERS, 0);
	check_result(HANDOFF_STATE_REFUSED, INDEX, HEALTH_REFUSED, 0);
	check_result(HANDOFF_STATE_SILENT, INDEX, HEALTH_NO_ANSWER, 0);
	check_result(HANDOFF_STATE_UNREACHABLE, INDEX, HEALTH_UNREACHABLE, 0);
	check_result(HANDOFF_STATE_HTTP, INDEX, HEALTH_HTTP, 503);
	check_result(HANDOFF_STATE_NO_HTTP, INDEX, HEALTH_NO_HTTP, 0);
	check_result(HANDOFF_STATE_SERVICE, INDEX, HEALTH_SERVICE, 0);
	check_result(HANDOFF_STATE_KEY, INDEX, HEALTH_KEY, 0);
	check_result(HANDOFF_STATE_VERSION, INDEX, HEALTH_VERSION, 0);

	/* The way matters more than the web server, but not more than who is at its end. */
	check_result(HANDOFF_STATE_UP, 0, HEALTH_DSCP_CLEARED, 0);
	check_result(HANDOFF_STATE_PENDING, 0, HEALTH_DSCP_CLEARED, 0);
	check_result(HANDOFF_STATE_UP, 46, HEALTH_DSCP_REMARKED, 46);
	check_result(HANDOFF_STATE_HTTP, 46, HEALTH_DSCP_REMARKED, 46);
	check_result(HANDOFF_STATE_SERVICE, 46, HEALTH_SERVICE, 0);
	check_result(HANDOFF_STATE_KEY, 0, HEALTH_KEY, 0);
}

static void test_texts(void **state)
{
	char text[HEALTH_TEXT_LEN], other[HEALTH_TEXT_LEN];

	(void)state;
	for (unsigned int i = 0; i < HEALTH_CAUSES; i++)
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(
				health_text(&(struct health_result){ .cause = i }, text),
				health_text(&(struct health_result){ .cause = j }, other));
	assert_string_equal(health_text(&(struct health_result){ HEALTH_HTTP, 503 }, text),
			    "the web server answers with status 503");
	assert_string_equal(health_text(&(struct health_result){ HEALTH_DSCP_REMARKED, 46 }, text),
			    "the network remarks the DSCP field, to 46");
	assert_string_equal(health_state_name(HEALTH_NEW), "new");
	assert_string_equal(health_state_name(HEALTH_UP), "up");
	assert_string_equal(health_state_name(HEALTH_DOWN), "down");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histories),
		cmocka_unit_test(test_intervals),
		cmocka_unit_test(test_silence_is_noticed),
		cmocka_unit_test(test_doubt),
		cmocka_unit_test(test_doubt_is_not_enough),
		cmocka_unit_test(test_doubt_while_asking),
		cmocka_unit_test(test_late_answers),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_hints),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_start_slowly),
		cmocka_unit_test(test_no_slow_start),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
