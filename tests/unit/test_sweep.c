/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of bridge/sweep.c: how long an entry of the kernel was idle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/splice_kernel.h"
#include "bridge/sweep.h"

/* The kernel's defaults. */
static const struct sweep_timeouts defaults = {
	.state = {
		[CONNTRACK_ESTABLISHED] = 432000,
		[CONNTRACK_FIN_WAIT] = 120,
		[CONNTRACK_CLOSE_WAIT] = 60,
		[CONNTRACK_LAST_ACK] = 30,
		[CONNTRACK_TIME_WAIT] = 120,
		[CONNTRACK_CLOSE] = 10,
	},
	.retrans = 300,
	.unacknowledged = 300,
};

static void test_timeout_of_the_state(void **state)
{
	(void)state;
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 432000), 0);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 431940), 59);
	/* After a tick as after a second: the rest is told in whole seconds, rounded down. */
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 431999), 0);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 301), 431698);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_TIME_WAIT, 100), 19);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_CLOSE, 0), 9);
}

/* Which of the timeouts was set is not told: never more idle than it may have been. */
static void test_shorter_timeouts(void **state)
{
	(void)state;
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 300), 0);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 100), 199);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_ESTABLISHED, 10), 0);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_FIN_WAIT, 10), 0);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_FIN_WAIT, 11), 108);
}

/* Made by a process that had another configuration, or the kernel's settings were changed. */
static void test_more_than_there_is(void **state)
{
	(void)state;
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_CLOSE_WAIT, 61), 0);
	assert_int_equal(sweep_idle_s(&defaults, CONNTRACK_CLOSE + 1, 0), 0);
	assert_int_equal(sweep_idle_s(&defaults, UINT8_MAX, 5), 0);
}

/* The state does not tell whose a FIN was; that is noted in the mark. */
static void test_closing(void **state)
{
	enum { SERVER = SPLICE_KERNEL_ENDED, CLIENT = SPLICE_KERNEL_CLIENT_ENDED };
	static const struct {
		uint8_t state;
		bool fin_first;
		uint32_t ended;
		bool closing;
	} cases[] = {
		{ CONNTRACK_ESTABLISHED, false, 0, false },
		{ CONNTRACK_FIN_WAIT, true, CLIENT, false },
		{ CONNTRACK_FIN_WAIT, false, SERVER, false },
		{ CONNTRACK_CLOSE_WAIT, true, SERVER | CLIENT, false },
		{ CONNTRACK_LAST_ACK, true, CLIENT, false },
		{ CONNTRACK_LAST_ACK, true, SERVER | CLIENT, true },
		{ CONNTRACK_LAST_ACK, false, SERVER, false },
		{ CONNTRACK_TIME_WAIT, true, CLIENT, false },
		{ CONNTRACK_TIME_WAIT, false, SERVER, false },
		{ CONNTRACK_TIME_WAIT, false, SERVER | CLIENT, true },
		{ CONNTRACK_CLOSE, true, CLIENT, false },
		{ CONNTRACK_CLOSE, true, SERVER | CLIENT, true },
		{ CONNTRACK_CLOSE, false, 0, true },
		{ CONNTRACK_CLOSE, false, SERVER, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct conntrack_entry entry = {
			.state = cases[i].state,
			.fin_first = cases[i].fin_first,
			.mark = SPLICE_KERNEL_MARK | 1 | cases[i].ended,
		};

		assert_int_equal(sweep_closing(&entry), cases[i].closing);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timeout_of_the_state),
		cmocka_unit_test(test_shorter_timeouts),
		cmocka_unit_test(test_more_than_there_is),
		cmocka_unit_test(test_closing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
