/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of src/lib/words.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "lib/words.h"

static void test_escape(void **state)
{
	char out[256 * WORDS_ESCAPED + 1];
	char all[255];

	(void)state;
	assert_int_equal(words_escape("a\\b\tc\n\xff ~\x7f", 10, out), 23);
	assert_string_equal(out, "a\\\\b\\x09c\\x0a\\xff ~\\x7f");
	assert_int_equal(words_escape("\0", 1, out), 4);
	assert_string_equal(out, "\\x00");
	assert_int_equal(words_escape("", 0, out), 0);
	assert_string_equal(out, "");
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)(i + 1);
	words_escape(all, sizeof(all), out);
	assert_int_equal(words_unescape(out), 0);
	assert_memory_equal(out, all, sizeof(all));
	assert_int_equal(out[sizeof(all)], '\0');
}

static void test_unescape(void **state)
{
	static const char *const wrong[] = { "\\",    "a\\b",  "\\x",	"\\x1",
					     "\\x1g", "\\xG1", "\\x00", "\\x0A" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char word[16];

		strcpy(word, wrong[i]);
		assert_int_equal(words_unescape(word), -EINVAL);
	}
}

static void test_split(void **state)
{
	char line[] = "show\tflows\t\tb c\t";
	char *words[5];

	(void)state;
	assert_int_equal(words_split(line, strlen(line), words, 5), 5);
	assert_string_equal(words[0], "show");
	assert_string_equal(words[1], "flows");
	assert_string_equal(words[2], "");
	assert_string_equal(words[3], "b c");
	assert_string_equal(words[4], "");
}

static void test_split_refuses(void **state)
{
	char many[] = "a\tb\tc", zero[] = "a\0b", high[] = "\x80", newline[] = "a\nb", empty[] = "";
	char *words[3];

	(void)state;
	assert_int_equal(words_split(many, 5, words, 2), -E2BIG);
	assert_int_equal(words_split(zero, 3, words, 3), -EINVAL);
	assert_int_equal(words_split(high, 1, words, 3), -EINVAL);
	assert_int_equal(words_split(newline, 3, words, 3), -EINVAL);
	assert_int_equal(words_split(empty, 0, words, 3), 1);
	assert_string_equal(words[0], "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_unescape),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_split_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
