/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counters: names and sentences as an operator needs them, and every fault in a counter of its own.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/counters.h"

static void test_names(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < COUNTER_COUNT; i++) {
		const char *name = counter_name(i);

		assert_true(islower(name[0]));
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"),
				 strlen(name));
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(name, counter_name(j));
	}
}

/* The name is the enum's in lower case: what stands in the code is what the operator reads. */
static void test_names_are_those_of_the_enum(void **state)
{
	static const char *const id[] = {
#define TEXT(id, name, scope, sentence) #id,
		COUNTERS(TEXT)
#undef TEXT
	};

	(void)state;
	for (unsigned int i = 0; i < COUNTER_COUNT; i++) {
		const char *name = counter_name(i);

		assert_int_equal(strlen(name), strlen(id[i]));
		for (size_t n = 0; name[n]; n++)
			assert_int_equal(toupper(name[n]), id[i][n]);
	}
}

static void test_sentences(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < COUNTER_COUNT; i++) {
		const char *sentence = counter_sentence(i);
		bool drop = strncmp(counter_name(i), "drop_", 5) == 0;

		assert_true(isalpha(sentence[0]));
		assert_true(isalpha(sentence[strlen(sentence) - 1]) ||
			    isdigit(sentence[strlen(sentence) - 1]) ||
			    sentence[strlen(sentence) - 1] == '_');
		assert_int_equal(strncmp(sentence, "dropped: ", 9) == 0, drop);
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(sentence, counter_sentence(j));
	}
}

static void test_scopes(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < COUNTER_COUNT; i++)
		assert_in_range(counter_scope(i), COUNTER_BALANCER, COUNTER_BOTH);
	assert_int_equal(COUNTER_BOTH, COUNTER_BALANCER | COUNTER_BRIDGE);
	assert_int_equal(counter_scope(COUNTER_PACKETS), COUNTER_BOTH);
	assert_int_equal(counter_scope(COUNTER_REQUESTS), COUNTER_BALANCER);
	assert_int_equal(counter_scope(COUNTER_SPLICED), COUNTER_BRIDGE);
}

/* Each fault is counted for itself, in a counter of dropped packets that both daemons have. */
static void check_fault(enum counter which, bool taken[COUNTER_COUNT])
{
	assert_in_range(which, 0, COUNTER_COUNT - 1);
	assert_false(taken[which]);
	taken[which] = true;
	assert_int_equal(strncmp(counter_name(which), "drop_", 5), 0);
	assert_int_equal(counter_scope(which), COUNTER_BOTH);
}

static void test_faults(void **state)
{
	bool taken[COUNTER_COUNT] = { false };

	(void)state;
	for (unsigned int fault = PACKET_OK + 1; fault < PACKET_FAULTS; fault++)
		check_fault(counter_of_packet_fault(fault), taken);
	for (unsigned int fault = HANDOFF_OK + 1; fault < HANDOFF_FAULTS; fault++)
		check_fault(counter_of_handoff_fault(fault), taken);
}

static void test_fault_names(void **state)
{
	(void)state;
	assert_int_equal(counter_of_packet_fault(PACKET_TRUNCATED), COUNTER_DROP_TRUNCATED);
	assert_int_equal(counter_of_packet_fault(PACKET_BAD_IP), COUNTER_DROP_BAD_IP);
	assert_int_equal(counter_of_packet_fault(PACKET_FRAGMENT), COUNTER_DROP_FRAGMENT);
	assert_int_equal(counter_of_packet_fault(PACKET_NOT_TCP), COUNTER_DROP_NOT_TCP);
	assert_int_equal(counter_of_packet_fault(PACKET_BAD_TCP), COUNTER_DROP_BAD_TCP);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_TRUNCATED),
			 COUNTER_DROP_HANDOFF_TRUNCATED);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_FOREIGN), COUNTER_DROP_HANDOFF_FOREIGN);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_BAD_VERSION),
			 COUNTER_DROP_HANDOFF_VERSION);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_BAD_TYPE), COUNTER_DROP_HANDOFF_TYPE);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_UNKNOWN_KEY), COUNTER_DROP_HANDOFF_KEY);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_FORGED), COUNTER_DROP_HANDOFF_FORGED);
	assert_int_equal(counter_of_handoff_fault(HANDOFF_BAD_FIELD), COUNTER_DROP_HANDOFF_FIELD);
}

static void test_add(void **state)
{
	struct counters c = { { 0 } };

	(void)state;
	for (unsigned int i = 0; i < COUNTER_COUNT; i++)
		counters_add(&c, i, i);
	counters_add(&c, COUNTER_VERDICTS, UINT64_C(1) << 40);
	for (unsigned int i = 0; i < COUNTER_COUNT; i++)
		assert_int_equal(counters_get(&c, i),
				 i + (i == COUNTER_VERDICTS ? UINT64_C(1) << 40 : 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_names_are_those_of_the_enum),
		cmocka_unit_test(test_sentences),
		cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_fault_names),
		cmocka_unit_test(test_add),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
