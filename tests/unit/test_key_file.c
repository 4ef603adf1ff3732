/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of src/os/key_file.c: what is accepted as a key file, and why the rest is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"
#include "os/key_file.h"
#include "os/log.h"

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F"

static char directory[] = "/tmp/l3dsr-test-XXXXXX";
static char path[sizeof(directory) + 8];

static int make_directory(void **state)
{
	(void)state;
	log_open("test");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/key", directory);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path) && errno != ENOENT ? -1 : 0;
}

static int remove_directory(void **state)
{
	(void)state;
	return rmdir(directory);
}

static void write_file(const char *text, size_t len, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* Load, and hold the result and the message (behind "test: error: PATH") against what is due. */
static void expect(int result, const char *message, struct handoff_keys *keys)
{
	char text[512], due[512] = "";
	struct capture c;
	int got;

	if (message)
		snprintf(due, sizeof(due), "test: error: %s%s\n", path, message);
	c = capture_begin();
	got = key_file_load(path, keys);
	capture_end(&c, text, sizeof(text));
	assert_string_equal(text, due);
	assert_int_equal(got, result);
	if (result)
		assert_int_equal(keys->count, 0);
}

static void refuse(const char *text, const char *message)
{
	struct handoff_keys keys;

	write_file(text, strlen(text), 0600);
	expect(-EINVAL, message, &keys);
}

static void test_good(void **state)
{
	static const char text[] = "# keys of the handoff\n\n"
				   "  7\t" HEX "   # signs\n"
				   "65535 " HEX "\n"
				   "1 " HEX; /* no end of line */
	struct handoff_keys keys;

	(void)state;
	write_file(text, strlen(text), 0600);
	expect(0, NULL, &keys);
	assert_int_equal(keys.count, 3);
	assert_int_equal(keys.key[0].id, 7);
	assert_int_equal(keys.key[1].id, 65535);
	assert_int_equal(keys.key[2].id, 1);
	for (unsigned int i = 0; i < HANDOFF_KEY_LEN; i++)
		assert_int_equal(keys.key[2].key[i], i);
}

static void test_lines(void **state)
{
	static const char no_id[] = ":1: the line does not begin with a key id; an id is 1 to "
				    "65535, followed by a space";
	static const char no_key[] = ":1: the line holds no key; a key is 64 hexadecimal digits";
	static const char goes_on[] = ":1: the line goes on behind the key; a key is 64 "
				      "hexadecimal digits";
	char longer[400];

	(void)state;
	refuse("0 " HEX "\n", no_id);
	refuse("65536 " HEX "\n", no_id);
	refuse("4294967297 " HEX "\n", no_id);
	refuse("-1 " HEX "\n", no_id);
	refuse("1" HEX "\n", no_id);
	refuse("1\n", no_key);
	refuse(HEX "\n", no_id);
	refuse("1 " HEX "0\n", goes_on);
	refuse("1 " HEX " x\n", goes_on);
	refuse("1 0x" HEX "\n", no_key);
	refuse("1 0001\n", no_key);
	refuse("# first\n1 " HEX "\n1 " HEX "\n",
	       ":3: the line has the id of an earlier line; each id stands for one key");
	memset(longer, '#', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	refuse(longer, ":1: the line is too long, or holds a byte that is no text");
}

static void test_zero_byte(void **state)
{
	static const char text[] = "1 " HEX "\n2\0 " HEX "\n";
	struct handoff_keys keys;

	(void)state;
	write_file(text, sizeof(text) - 1, 0600);
	expect(-EINVAL, ":2: the line is too long, or holds a byte that is no text", &keys);
}

static void test_empty(void **state)
{
	static const char none[] = ": holds no key; l3dsrctl genkey makes a file with one";

	(void)state;
	refuse("", none);
	refuse("\n# 1 " HEX "\n", none);
}

static void test_many(void **state)
{
	char text[9 * 80] = "";
	struct handoff_keys keys;

	(void)state;
	for (int i = 1; i <= 9; i++) {
		char line[80];

		snprintf(line, sizeof(line), "%d " HEX "\n", i);
		strcat(text, line);
		if (i == 8) {
			write_file(text, strlen(text), 0600);
			expect(0, NULL, &keys);
			assert_int_equal(keys.count, 8);
		}
	}
	refuse(text, ":9: the line holds a ninth key; at most 8 keys are accepted at a time");
}

static void test_modes(void **state)
{
	static const mode_t good[] = { 0600, 0400, 0640, 0440, 0700 };
	static const mode_t bad[] = { 0604, 0602, 0601, 0620, 0610, 0644, 0666, 0660 };
	struct handoff_keys keys;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		write_file("1 " HEX "\n", sizeof(HEX) + 2, good[i]);
		expect(0, NULL, &keys);
		assert_int_equal(keys.count, 1);
		unlink(path);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char message[128];

		snprintf(message, sizeof(message),
			 ": mode %04o lets others at the keys; make it 0600 or 0640", bad[i]);
		write_file("1 " HEX "\n", sizeof(HEX) + 2, bad[i]);
		expect(-EPERM, message, &keys);
		unlink(path);
	}
}

static void test_owner(void **state)
{
	struct handoff_keys keys;
	char message[160];

	(void)state;
	if (geteuid())
		skip(); /* only root can give a file away */
	write_file("1 " HEX "\n", sizeof(HEX) + 2, 0600);
	assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
	snprintf(
		message, sizeof(message),
		": belongs to user 12345; it must belong to root or to the user of this program, 0");
	expect(-EPERM, message, &keys);
}

static void test_kinds(void **state)
{
	struct handoff_keys keys;

	(void)state;
	expect(-ENOENT,
	       ": No such file or directory: `l3dsrctl genkey`, run by root, makes a file with a key",
	       &keys);
	assert_int_equal(mkdir(path, 0700), 0);
	expect(-EINVAL, ": not a regular file", &keys);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect(-EINVAL, ": not a regular file", &keys);
}

static void test_generate(void **state)
{
	struct handoff_keys first, second;
	struct stat st;

	(void)state;
	assert_int_equal(key_file_generate(path, 0), -EINVAL);
	assert_int_equal(key_file_generate(path, 65536), -EINVAL);
	assert_int_equal(access(path, F_OK), -1);

	umask(0);
	assert_int_equal(key_file_generate(path, 258), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | (!geteuid() && getgrnam("l3dsr") ? 0640 : 0600));
	expect(0, NULL, &first);
	assert_int_equal(first.count, 1);
	assert_int_equal(first.key[0].id, 258);

	assert_int_equal(key_file_generate(path, 258), -EEXIST);
	expect(0, NULL, &second);
	assert_memory_equal(&first.key[0], &second.key[0], sizeof(first.key[0]));

	assert_int_equal(unlink(path), 0);
	assert_int_equal(key_file_generate(path, 258), 0);
	expect(0, NULL, &second);
	assert_memory_not_equal(&first.key[0].key, &second.key[0].key, HANDOFF_KEY_LEN);
}

#define TEST(name) cmocka_unit_test_teardown(name, remove_file)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_good),  TEST(test_lines), TEST(test_zero_byte),
		TEST(test_empty), TEST(test_many),  TEST(test_modes),
		TEST(test_owner), TEST(test_kinds), TEST(test_generate),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
