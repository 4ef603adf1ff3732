/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of src/os/log.c: lines on stderr, levels, errno, limits, and the way to the journal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "capture.h"
#include "os/log.h"

static void test_lines(void **state)
{
	struct capture c;
	char text[512];

	(void)state;
	log_open("name");
	log_set_level(LOG_LEVEL_INFO);
	c = capture_begin();
	log_error("one %d", 1);
	log_warning("two");
	log_info("three");
	log_debug("never seen");
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "name: error: one 1\nname: warning: two\nname: info: three\n");
}

static void test_levels(void **state)
{
	struct capture c;
	char text[512];

	(void)state;
	log_open("name");
	c = capture_begin();
	log_set_level(LOG_LEVEL_ERROR);
	log_error("a");
	log_warning("b");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("c");
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "name: error: a\nname: debug: c\n");
}

static void test_errno(void **state)
{
	struct capture c;
	char text[512];

	(void)state;
	log_open("name");
	log_set_level(LOG_LEVEL_INFO);
	c = capture_begin();
	errno = ENOENT;
	log_error_errno("file");
	assert_int_equal(errno, ENOENT);
	errno = EACCES;
	log_warning_errno("%s", "file");
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "name: error: file: No such file or directory\n"
				  "name: warning: file: Permission denied\n");
}

/* One message is one line, and no byte of it drives a terminal. */
static void test_hostile(void **state)
{
	struct capture c;
	char text[4096], longer[3000];

	(void)state;
	log_open("name");
	log_set_level(LOG_LEVEL_INFO);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	c = capture_begin();
	log_info("%s", "a\nname: error: b\x1b[2J\x7f");
	log_info("%s", longer);
	capture_end(&c, text, sizeof(text));
	assert_ptr_equal(strstr(text, "name: info: a?name: error: b?[2J?\nname: info: xxx"), text);
	assert_ptr_equal(strchr(strchr(text, '\n') + 1, '\n'), text + strlen(text) - 1);
}

static void test_limit(void **state)
{
	struct log_limit limit = { 0 };
	struct capture c;
	char text[512];

	(void)state;
	log_open("name");
	log_set_level(LOG_LEVEL_INFO);
	c = capture_begin();
	log_warning_limited(&limit, 1000, "full %d", 1);
	log_warning_limited(&limit, 1001, "full %d", 2);
	log_warning_limited(&limit, 60999, "full %d", 3);
	log_warning_limited(&limit, 61000, "full %d", 4);
	log_warning_limited(&limit, 121000, "full %d", 5);
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "name: warning: full 1\n"
				  "name: warning: full 4 (2 more since)\n"
				  "name: warning: full 5\n");
}

#define THREADS 4
#define EACH	1000

static void *complain(void *limit)
{
	for (int i = 0; i < EACH; i++)
		log_warning_limited(limit, 1000, "full");
	return NULL;
}

/* One line of all threads together, and none is forgotten. */
static void test_limit_of_threads(void **state)
{
	struct log_limit limit = { 0 };
	pthread_t threads[THREADS];
	struct capture c;
	char text[1024];

	(void)state;
	log_open("name");
	log_set_level(LOG_LEVEL_INFO);
	c = capture_begin();
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, complain, &limit), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	log_warning_limited(&limit, 61000, "full");
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, "name: warning: full\n"
				  "name: warning: full (3999 more since)\n");
}

/* A JOURNAL_STREAM that names another file, or nothing sensible, is not our stderr. */
static void test_foreign_stream(void **state)
{
	static const char *const streams[] = { "1:1", "", "8:", "x:y", "1:1 " };
	struct capture c;
	char text[512];

	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
		setenv("JOURNAL_STREAM", streams[i], 1);
		c = capture_begin();
		log_open("name");
		log_info("seen");
		capture_end(&c, text, sizeof(text));
		assert_string_equal(text, "name: info: seen\n");
	}
	unsetenv("JOURNAL_STREAM");
}

/* One that names it: the stream is the journal's, where a line begins with its priority (syslog(3)). */
static void test_journal_stream(void **state)
{
	struct capture c;
	char text[512], stream[64];
	struct stat st;

	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	c = capture_begin();
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open("l3dsr-test");
	assert_true(log_is_journal());
	log_debug("never seen");
	log_error("one\n<7>two");
	log_warning("three");
	log_info("four");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("five");
	capture_end(&c, text, sizeof(text));
	unsetenv("JOURNAL_STREAM");
	log_open("name");
	assert_false(log_is_journal());
	assert_string_equal(text, "<3>one?<7>two\n<4>three\n<6>four\n<7>five\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),	       cmocka_unit_test(test_levels),
		cmocka_unit_test(test_errno),	       cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_limit),	       cmocka_unit_test(test_foreign_stream),
		cmocka_unit_test(test_journal_stream), cmocka_unit_test(test_limit_of_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
