/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the fuzz targets of both daemons' configurations share. */
#ifndef L3DSR_TESTS_FUZZ_CONF_H
#define L3DSR_TESTS_FUZZ_CONF_H

#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

/*
 * Input: the text of the configuration. What follows a "file separator" (byte 0x1c) is a second
 * file, which the first one includes as "101".
 *
 * Both are files without a name, reached through /proc/self/fd: fuzzing leaves no file behind, and
 * an include is relative to that directory. Includes of anything else are not tried, because a
 * fuzzer that runs as root would open whatever it can spell.
 */

#define MAIN_FD	  100
#define PART_FD	  101
#define MAIN_PATH "/proc/self/fd/100"
#define INCLUDE	  "@include"

/*
 * The scanner of libconfig 1.5 collects a string in strbuf_append() and hands it (or a new empty
 * one, or the copy of a name) out of libconfig_yylex(). When the text ends inside of the string, or
 * the grammar refuses it, nobody frees it: some bytes for each file with such an error.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:^strbuf_append$\n"
	       "leak:^libconfig_yylex$\n";
}

static inline void conf_put(int fd, const void *text, size_t len)
{
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(pwrite(fd, text, len, 0) == (ssize_t)len);
}

static inline void conf_make_file(int number)
{
	int fd = memfd_create("conf", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(dup2(fd, number) == number);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	conf_make_file(MAIN_FD);
	conf_make_file(PART_FD);
	return 0;
}

/** conf_harmless() - are all includes of @text those of the second file, or of none? */
static inline bool conf_harmless(const uint8_t *text, size_t len)
{
	const uint8_t *end = text + len, *at = text;

	while ((at = memmem(at, (size_t)(end - at), INCLUDE, strlen(INCLUDE)))) {
		at += strlen(INCLUDE);
		while (at < end && (*at == ' ' || *at == '\t' || *at == '"'))
			at++;
		if (end - at < 2 || memcmp(at, "10", 2) != 0 || memchr(at, '/', (size_t)(end - at)))
			return false;
	}
	return true;
}

/** conf_write() - the files of an input; false if it is not to be tried */
static inline bool conf_write(const uint8_t *data, size_t size)
{
	const uint8_t *separator = size ? memchr(data, 0x1c, size) : NULL;
	size_t len = separator ? (size_t)(separator - data) : size;

	if (!conf_harmless(data, size))
		return false;
	conf_put(MAIN_FD, data, len);
	conf_put(PART_FD, data + len + !!separator, size - len - !!separator);
	return true;
}

/** conf_check_errors() - a refusal has a reason, told in whole lines; an acceptance has none */
static inline void conf_check_errors(bool accepted, const char *errors, size_t len)
{
	CHECK(accepted == (len == 0));
	CHECK(len == 0 || errors[len - 1] == '\n');
}

#endif
