/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of src/ctl/table.c: one answer, as text and as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "ctl/table.h"

static enum table_line add(struct table *t, const char *text, char **error)
{
	char line[256];

	strcpy(line, text);
	return table_line(t, line, strlen(line), error);
}

static void assert_prints(void (*print)(const struct table *t, FILE *out), const struct table *t,
			  const char *expected)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	print(t, out);
	fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

static void test_prints(void **state)
{
	struct table t = { .column_count = 0 };

	(void)state;
	assert_int_equal(add(&t, "columns\ts:name\tn:weight\ts:why", NULL), TABLE_MORE);
	assert_prints(table_print_text, &t, "name  weight  why\n");
	assert_prints(table_print_json, &t, "[]\n");
	assert_int_equal(add(&t, "row\ta long one\t7\t", NULL), TABLE_MORE);
	assert_int_equal(add(&t, "row\tc\t\tunknown", NULL), TABLE_MORE);
	assert_int_equal(add(&t, "row\tb\\xff\"\t12345678.50\tno \\\\", NULL), TABLE_MORE);
	assert_int_equal(add(&t, "done", NULL), TABLE_DONE);
	assert_prints(table_print_text, &t,
		      "name             weight  why\n"
		      "a long one            7  -\n"
		      "c                     -  unknown\n"
		      "b\\xff\"      12345678.50  no \\\\\n");
	assert_prints(table_print_json, &t,
		      "[\n {\"name\": \"a long one\", \"weight\": 7, \"why\": \"\"},\n"
		      " {\"name\": \"c\", \"weight\": null, \"why\": \"unknown\"},\n"
		      " {\"name\": \"b\\\\xff\\\"\", \"weight\": 12345678.50, \"why\": \"no "
		      "\\\\\\\\\"}\n]\n");
	table_clean(&t);
}

static void test_many_rows(void **state)
{
	struct table t = { .column_count = 0 };

	(void)state;
	assert_int_equal(add(&t, "columns\tn:a\tn:b", NULL), TABLE_MORE);
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(add(&t, "row\t1\t2", NULL), TABLE_MORE);
	assert_int_equal(t.count, 10000);
	table_clean(&t);
}

static void test_error(void **state)
{
	struct table t = { .column_count = 0 };
	char *error = NULL;

	(void)state;
	assert_int_equal(add(&t, "error\tit is so", &error), TABLE_ERROR);
	assert_string_equal(error, "it is so");
	free(error);
	table_clean(&t);
}

static void test_broken(void **state)
{
	static const char *const lines[] = {
		"",	      "what",	     "columns",	     "columns\tx:a",	 "columns\ta",
		"row\t1\t",   "row\t1",	     "row",	     "row\tx\ty",	 "row\t \ty",
		"row\t01\ty", "row\t1.\ty",  "row\t.1\t",    "row\t-1\t",	 "done\tmore",
		"error",      "error\ta\tb", "row\t1\ta\tb", "columns\tn:again", "row\t\x1b[1m\ty",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct table t = { .column_count = 0 };
		char *error;

		/* Of these one is right for two columns, and not for none. */
		if (strcmp(lines[i], "row\t1\t") != 0)
			assert_int_equal(add(&t, "columns\tn:a\ts:b", NULL), TABLE_MORE);
		assert_int_equal(add(&t, lines[i], &error), TABLE_BROKEN);
		table_clean(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prints),
		cmocka_unit_test(test_many_rows),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
