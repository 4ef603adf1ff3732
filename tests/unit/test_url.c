/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Normal forms and keys: tables of what is equal, and of what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/url.h"

#define BOTH	     (REQUEST_PATH | REQUEST_HOST)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct slice slice(const char *text)
{
	return (struct slice){ (const uint8_t *)text, strlen(text) };
}

static void assert_slice(struct slice slice, const char *text)
{
	assert_non_null(slice.bytes);
	assert_int_equal(slice.len, strlen(text));
	assert_memory_equal(slice.bytes, text, slice.len);
}

/* In a buffer that ends where the documented room does. */
static uint8_t *normalise(const char *host, const char *path, const char *query,
			  unsigned int wanted, struct request *normal, uint8_t **rest)
{
	const struct request r = { .host = slice(host),
				   .path = slice(path),
				   .query = slice(query) };
	uint8_t *buf = malloc(URL_ROOM(r.host.len + r.path.len + r.query.len));

	assert_non_null(buf);
	*rest = buf + url_normalise(&r, wanted, normal, buf);
	return buf;
}

static void test_paths(void **state)
{
	static const struct {
		const char *path, *normal;
	} cases[] = {
		{ "/", "/" },
		{ "*", "*" },
		{ "/a/b/c.ts", "/a/b/c.ts" },
		/* Escapes of unreserved characters (RFC 3986, 6.2.2.2) */
		{ "/%61%2Db%7e%5F%2e", "/a-b~_." },
		{ "/%41%5a%30", "/AZ0" },
		/* Others keep their meaning, and get upper case digits (6.2.2.1) */
		{ "/a%2fb", "/a%2Fb" },
		{ "/%3f%23%25%20", "/%3F%23%25%20" },
		{ "/caf%c3%a9", "/caf%C3%A9" },
		/* What may not stand there as it is */
		{ "/caf\xc3\xa9", "/caf%C3%A9" },
		{ "/\"<>[]\\^`{|}", "/%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D" },
		/* Percent signs that begin no escape */
		{ "/%", "/%25" },
		{ "/%4", "/%254" },
		{ "/%zz%4g%", "/%25zz%254g%25" },
		{ "/%%41", "/%25A" },
		{ "/%%34%31", "/%2541" },
		/* Dot segments (5.2.4) */
		{ "/.", "/" },
		{ "/..", "/" },
		{ "/./a", "/a" },
		{ "/../../a", "/a" },
		{ "/a/./b/../c", "/a/c" },
		{ "/a/b/..", "/a/" },
		{ "/a/b/.", "/a/b/" },
		{ "/a/b/../..", "/" },
		{ "/a/b/../../../c/", "/c/" },
		{ "/a/%2e%2E/b", "/b" },
		{ "/a/%2e/b", "/a/b" },
		{ "/...", "/..." },
		{ "/.a/..b/c./d..", "/.a/..b/c./d.." },
		{ "/a/..%2fb", "/a/..%2Fb" },
		{ "/mid/content=5/../6", "/mid/6" },
		/* Left alone: empty segments, slash at the end, case, reserved characters */
		{ "//a///b/", "//a///b/" },
		{ "/a//../b", "/a/b" },
		{ "/A/b", "/A/b" },
		{ "/50%off", "/50%25off" },
		{ "/!$&'()*+,;=:@", "/!$&'()*+,;=:@" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request n, again;
		uint8_t *rest, *buf = normalise("", cases[i].path, "", BOTH, &n, &rest), *twice;
		char text[256];

		assert_slice(n.path, cases[i].normal);
		assert_int_equal(n.query.len, 0);
		/* The normal form is its own. */
		memcpy(text, n.path.bytes, n.path.len);
		text[n.path.len] = '\0';
		twice = normalise("", text, "", BOTH, &again, &rest);
		assert_slice(again.path, text);
		free(twice);
		free(buf);
	}
}

static void test_hosts(void **state)
{
	static const struct {
		const char *host, *normal;
	} cases[] = {
		{ "", "" },
		{ "www.example.com", "www.example.com" },
		{ "WWW.Example.COM.", "www.example.com" },
		{ "192.0.2.1", "192.0.2.1" },
		{ "[2001:DB8::1]", "[2001:db8::1]" },
		{ ".", "" },
		{ "a..", "a" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request n;
		uint8_t *rest, *buf = normalise(cases[i].host, "/", "", BOTH, &n, &rest);

		assert_slice(n.host, cases[i].normal);
		assert_slice(n.path, "/");
		free(buf);
	}
}

static void test_queries(void **state)
{
	struct request n;
	uint8_t *rest, *buf = normalise("", "/", "a=%7e&b=../%2f?/&&c", BOTH, &n, &rest);

	(void)state;
	assert_slice(n.query, "a=~&b=../%2F?/&&c");
	free(buf);
	/* Not wanted, not there. */
	buf = normalise("host", "/a", "b", REQUEST_HOST, &n, &rest);
	assert_slice(n.host, "host");
	assert_int_equal(n.path.len + n.query.len, 0);
	free(buf);
	buf = normalise("host", "/a", "b", REQUEST_PATH, &n, &rest);
	assert_int_equal(n.host.len, 0);
	free(buf);
}

static void test_keys(void **state)
{
	static const struct {
		struct key_policy policy;
		const char *path, *query, *key;
	} cases[] = {
		{ { .kind = KEY_PATH }, "/a/b", "q", "/a/b" },
		{ { .kind = KEY_PATH, .depth = 1 }, "/live/ch1/seg1.ts", "", "/live" },
		{ { .kind = KEY_PATH, .depth = 2 }, "/live/ch1/seg1.ts", "", "/live/ch1" },
		{ { .kind = KEY_PATH, .depth = 2 }, "/live/ch1/", "", "/live/ch1" },
		{ { .kind = KEY_PATH, .depth = 2 }, "/live/ch1", "", "/live/ch1" },
		{ { .kind = KEY_PATH, .depth = 3 }, "/live/ch1", "", "/live/ch1" },
		{ { .kind = KEY_PATH, .depth = 1 }, "/", "", "/" },
		{ { .kind = KEY_PATH, .depth = 1 }, "*", "", "*" },
		{ { .kind = KEY_HOST_PATH }, "/a", "q", "host/a" },
		{ { .kind = KEY_HOST_PATH, .depth = 1 }, "/a/b", "", "host/a" },
		{ { .kind = KEY_HOST }, "/a", "q", "host" },
		{ { .kind = KEY_SNI }, "", "", "host" },
		{ { .kind = KEY_SOURCE }, "/a", "q", "" },
		{ { .kind = KEY_URI }, "/a", "", "/a" },
		{ { .kind = KEY_URI }, "/a", "b=c&d", "/a?b=c&d" },
		{ { .kind = KEY_URI, .depth = 1 }, "/a/b", "c", "/a?c" },
		{ { .kind = KEY_URI, .arguments = "v id" }, "/a", "id=1&x=2&v=3", "/a?v=3&id=1&" },
		{ { .kind = KEY_URI, .arguments = "v id" }, "/a", "v=3&id=1", "/a?v=3&id=1&" },
		{ { .kind = KEY_URI, .arguments = "v" }, "/a", "vv=1&av=2&v&v=&V=3", "/a?v&v=&" },
		{ { .kind = KEY_URI, .arguments = "v" }, "/a", "", "/a?" },
		{ { .kind = KEY_URI, .arguments = "v" }, "/a", "&&x", "/a?" },
		{ { .kind = KEY_URI, .depth = 1, .arguments = "v" }, "/a/b", "v=1", "/a?v=1&" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request n;
		uint8_t *rest, *buf;

		buf = normalise("host", cases[i].path, cases[i].query, BOTH, &n, &rest);
		assert_slice(url_key(&n, &cases[i].policy, rest), cases[i].key);
		free(buf);
	}
}

/* Whatever comes, it fits into the room, and its normal form is one. */
static void test_random(void **state)
{
	static const char letters[] = "/./..%2e%2F%41%c3aZ?&=v \xc3\"";

	(void)state;
	for (int i = 0; i < 20000; i++) {
		const struct key_policy policy = { .kind = KEY_URI,
						   .depth = rand() % 3,
						   .arguments = "v a Z" };
		char path[40], query[40], text[256];
		struct request n, again;
		uint8_t *rest, *buf, *twice;

		for (size_t j = 0; j < sizeof(path); j++) {
			path[j] = letters[(size_t)rand() % (sizeof(letters) - 1)];
			query[j] = letters[(size_t)rand() % (sizeof(letters) - 1)];
		}
		path[0] = '/';
		path[(size_t)rand() % (sizeof(path) - 1) + 1] = '\0';
		query[(size_t)rand() % sizeof(query)] = '\0';
		buf = normalise("h", path, query, BOTH, &n, &rest);
		url_key(&n, &policy, rest);
		memcpy(text, n.path.bytes, n.path.len);
		text[n.path.len] = '\0';
		twice = normalise("h", text, "", BOTH, &again, &rest);
		assert_slice(again.path, text);
		free(twice);
		free(buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),	cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_queries), cmocka_unit_test(test_keys),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
