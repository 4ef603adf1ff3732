/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of src/os/config_keep.c: what a running daemon cannot change stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "capture.h"
#include "os/config.h"

struct everything {
	int number, choice, free;
	char text[16];
	struct addr addr;
	struct {
		int inner, inner_free;
	} group;
};

static const char *const choices[] = { "one", "two", NULL };

static const struct setting members[] = {
	{ .name = "inner",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(everything, group.inner) },
	{ .name = "inner_free", .type = SETTING_INT, SETTING_FIELD(everything, group.inner_free) },
	{ .name = NULL },
};

static const struct setting table[] = {
	{ .name = "number", .type = SETTING_INT, .fixed = true, SETTING_FIELD(everything, number) },
	{ .name = "choice",
	  .type = SETTING_CHOICE,
	  .fixed = true,
	  SETTING_FIELD(everything, choice),
	  .choices = choices },
	{ .name = "free", .type = SETTING_INT, SETTING_FIELD(everything, free) },
	{ .name = "text", .type = SETTING_TEXT, .fixed = true, SETTING_FIELD(everything, text) },
	{ .name = "addr", .type = SETTING_ADDR, .fixed = true, SETTING_FIELD(everything, addr) },
	{ .name = "group", .type = SETTING_GROUP, .members = members },
	{ .name = NULL },
};

static struct everything running;

static void test_nothing_changed(void **state)
{
	struct everything next = running;
	struct capture capture;
	char text[1024];

	(void)state;
	next.free = 7;
	next.group.inner_free = 8;
	capture = capture_begin();
	settings_keep(table, &next, &running);
	capture_end(&capture, text, sizeof(text));
	assert_string_equal(text, "");
	assert_int_equal(next.free, 7);
	assert_int_equal(next.group.inner_free, 8);
}

static void test_all_changed(void **state)
{
	struct everything next = { .number = 2, .choice = 1, .free = 3, .text = "new" };
	struct capture capture;
	char text[1024];

	(void)state;
	addr_parse(&next.addr, "192.0.2.2");
	next.group.inner = 5;
	next.group.inner_free = 6;
	capture = capture_begin();
	settings_keep(table, &next, &running);
	capture_end(&capture, text, sizeof(text));
	assert_non_null(strstr(text, "number = 2 takes a restart; still 1\n"));
	assert_non_null(strstr(text, "choice = \"two\" takes a restart; still \"one\"\n"));
	assert_non_null(strstr(text, "text = \"new\" takes a restart; still \"old\"\n"));
	assert_non_null(
		strstr(text, "addr = \"192.0.2.2\" takes a restart; still \"192.0.2.1\"\n"));
	assert_non_null(strstr(text, "group.inner = 5 takes a restart; still 4\n"));
	assert_null(strstr(text, "free"));
	assert_int_equal(next.number, 1);
	assert_int_equal(next.choice, 0);
	assert_int_equal(next.free, 3);
	assert_string_equal(next.text, "old");
	assert_memory_equal(&next.addr, &running.addr, sizeof(next.addr));
	assert_int_equal(next.group.inner, 4);
	assert_int_equal(next.group.inner_free, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_changed),
		cmocka_unit_test(test_all_changed),
	};

	running = (struct everything){ .number = 1, .text = "old" };
	addr_parse(&running.addr, "192.0.2.1");
	running.group.inner = 4;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
