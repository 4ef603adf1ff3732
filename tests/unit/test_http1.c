/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HTTP/1.x requests: good ones split at every byte, bad ones refused at the first wrong byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/recogniser.h"

#define BOTH	     (REQUEST_PATH | REQUEST_HOST)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The first @len bytes of @text, in memory that ends there: a sanitizer sees every byte too many.
 */
static enum recognised recognise(const char *text, size_t len, unsigned int wanted,
				 struct request *request, uint8_t **memory)
{
	*memory = malloc(len + !len);
	assert_non_null(*memory);
	memcpy(*memory, text, len);
	return http1_recognise(*memory, len, wanted, request);
}

static void assert_slice(struct slice slice, const char *text)
{
	assert_int_equal(slice.len, strlen(text));
	assert_non_null(slice.bytes);
	assert_memory_equal(slice.bytes, text, slice.len);
}

/* More before @complete bytes, and then, with any number of bytes behind, the same request. */
static void check_good(const char *text, size_t len, size_t complete, unsigned int wanted,
		       const char *host, const char *path, const char *query)
{
	size_t n;

	for (n = 0; n <= len; n++) {
		struct request r;
		uint8_t *memory;
		enum recognised answer = recognise(text, n, wanted, &r, &memory);

		if (n < complete) {
			assert_int_equal(answer, RECOGNISED_MORE);
		} else {
			assert_int_equal(answer, RECOGNISED_REQUEST);
			assert_slice(r.path, path);
			assert_slice(r.query, query);
			assert_slice(r.host, host);
		}
		free(memory);
	}
}

static void good(const char *text, const char *host, const char *path, const char *query)
{
	check_good(text, strlen(text), strlen(text), BOTH, host, path, query);
}

/* More before byte @at, refused with it and with all that is longer. */
static void check_bad(const char *text, size_t len, size_t at, unsigned int wanted)
{
	size_t n;

	for (n = 0; n <= len; n++) {
		struct request r;
		uint8_t *memory;
		enum recognised answer = recognise(text, n, wanted, &r, &memory);

		assert_int_equal(answer, n <= at ? RECOGNISED_MORE : RECOGNISED_NOT);
		free(memory);
	}
}

/* @fine is what may still become a request, @rest begins with the byte that is not. */
static void bad(const char *fine, const char *rest)
{
	char text[512];
	size_t len = strlen(fine) + strlen(rest);

	assert_true(len < sizeof(text));
	strcpy(text, fine);
	strcat(text, rest);
	check_bad(text, len, strlen(fine), BOTH);
}

static void test_plain(void **state)
{
	(void)state;
	good("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "example.com", "/", "");
	good("GET /a/b.ts?x=1&y=?z HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n", "a.example",
	     "/a/b.ts", "x=1&y=?z");
	good("HEAD /a HTTP/1.0\r\n\r\n", "", "/a", "");
	good("GET /a? HTTP/1.1\r\nHost:x\r\n\r\n", "x", "/a", "");
	good("POST //a HTTP/1.1\r\nContent-Length: 3\r\nHost: h\r\n\r\n", "h", "//a", "");
	good("M-SEARCH /a HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/a", "");
	good("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "h", "*", "");
	good("OPTIONS /o HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/o", "");
	good("GET /\xc3\xa4\"<>|{}[]^`\\ HTTP/1.1\r\nHost: h\r\n\r\n", "h",
	     "/\xc3\xa4\"<>|{}[]^`\\", "");
}

static void test_ends_of_lines(void **state)
{
	(void)state;
	good("GET /a HTTP/1.1\nHost: h\n\n", "h", "/a", "");
	good("GET /a HTTP/1.1\r\nHost: h\n\r\n", "h", "/a", "");
	good("\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/a", "");
	good("\n\r\n\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/a", "");
	bad("\r", "\rGET / HTTP/1.1\r\n");
	bad("\r", "GET / HTTP/1.1\r\n");
	bad("GET / HTTP/1.1\r", "\r\n");
	bad("GET / HTTP/1.1\r", "Host: h\r\n\r\n");
	bad("GET / HTTP/1.1\r\nA: b\r", "c\r\n\r\n");
	bad("GET / HTTP/1.1\r\nHost: h\r\n\r", "X");
}

static void test_path_alone(void **state)
{
	static const char line[] = "GET /p?q HTTP/1.1\r\n";
	static const char text[] = "GET /p?q HTTP/1.1\r\nHost : a\r\n\0\x01";

	(void)state;
	check_good(text, sizeof(text) - 1, sizeof(line) - 1, REQUEST_PATH, "", "/p", "q");
	check_bad(text, sizeof(text) - 1, strlen("GET /p?q HTTP/1.1\r\nHost"), BOTH);
	check_bad(text, sizeof(text) - 1, strlen("GET /p?q HTTP/1.1\r\nHost"), REQUEST_HOST);
}

static void test_fragment(void **state)
{
	(void)state;
	good("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/a", "");
	good("GET /a?b#c HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/a", "b");
	good("GET /a#b?c#d HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/a", "");
	good("GET http://h#f HTTP/1.1\r\n", "h", "/", "");
}

/* The authority wins over Host, so the request line is enough for both parts. */
static void test_absolute_form(void **state)
{
	static const char line[] = "GET http://a.example:8080/p?q HTTP/1.1\r\n";
	static const char text[] = "GET http://a.example:8080/p?q HTTP/1.1\r\nHost: b\r\n\r\n";

	(void)state;
	check_good(text, sizeof(text) - 1, sizeof(line) - 1, BOTH, "a.example", "/p", "q");
	check_good(text, sizeof(text) - 1, sizeof(line) - 1, REQUEST_PATH, "a.example", "/p", "q");
	good("GET HTTP://h HTTP/1.1\r\n", "h", "/", "");
	good("GET hTTp://h?q HTTP/1.1\r\n", "h", "/", "q");
	good("GET http://h:/p HTTP/1.1\r\n", "h", "/p", "");
	good("GET http://[2001:db8::1]:80/p HTTP/1.1\r\n", "[2001:db8::1]", "/p", "");
	good("GET http://[::1] HTTP/1.1\r\n", "[::1]", "/", "");
	good("OPTIONS http://h HTTP/1.1\r\n", "h", "/", "");

	bad("GET ", "ftp://h/ HTTP/1.1\r\n");
	bad("GET http", "s://h/ HTTP/1.1\r\n");
	bad("GET http", "\x1a//h/ HTTP/1.1\r\n");
	bad("GET http:", "\x0f/h/ HTTP/1.1\r\n");
	bad("GET http://", "/p HTTP/1.1\r\n");
	bad("GET http://", " HTTP/1.1\r\n");
	bad("GET http://:80", "/p HTTP/1.1\r\n");
	bad("GET http://user", "@h/p HTTP/1.1\r\n");
	bad("GET http://user:pass", "@h/p HTTP/1.1\r\n");
	bad("GET http://h:8x", "/p HTTP/1.1\r\n");
	bad("GET http://h:8:9", "/p HTTP/1.1\r\n");
	bad("GET http://[::1", "/p HTTP/1.1\r\n");
	bad("GET http://[]", "/p HTTP/1.1\r\n");
	bad("GET http://[::1]80", "/p HTTP/1.1\r\n");
	bad("GET http://h[1]", "/p HTTP/1.1\r\n");
	bad("GET http://h", "\\p HTTP/1.1\r\n");
}

static void test_host(void **state)
{
	(void)state;
	good("GET / HTTP/1.1\r\nhOsT:\t example.com \t\r\n\r\n", "example.com", "/", "");
	good("GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n", "example.com", "/", "");
	good("GET / HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n", "[2001:db8::1]", "/", "");
	good("GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", "[2001:db8::1]", "/", "");
	good("GET / HTTP/1.1\r\nHost:\r\n\r\n", "", "/", "");
	good("GET / HTTP/1.1\r\nHost:  \r\n\r\n", "", "/", "");
	good("GET / HTTP/1.1\r\n\r\n", "", "/", "");
	good("GET / HTTP/1.1\r\nX-Host: a\r\nHosts: b\r\nHos: c\r\nHost: d\r\n\r\n", "d", "/", "");
	good("GET / HTTP/1.1\r\nA: Host: b\r\nHost: d\r\n\r\n", "d", "/", "");

	/* Two of them, equal ones too. */
	bad("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nHost: b\r", "\n\r\n");
}

static void refused(const char *text)
{
	struct request r;

	assert_int_equal(http1_recognise((const uint8_t *)text, strlen(text), BOTH, &r),
			 RECOGNISED_NOT);
}

static void test_bad_host(void **state)
{
	static const char *const values[] = { "a b",	  "a, b", "a/b",    "u@h",     "h:80:90",
					      "h:x",	  "[::1", "::1",    "[]",      "[::1]x",
					      "[::1]x:1", ":80",  "h\\",    "h\"",     "\xc3\xa4",
					      "h\x01",	  "h?",	  "[::1]]", "[[::1]]", "[a@b]" };
	char text[128];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(values); i++) {
		strcpy(text, "GET / HTTP/1.1\r\nHost: ");
		strcat(text, values[i]);
		strcat(text, "\r\n\r\n");
		refused(text);
	}
}

static void test_header_lines(void **state)
{
	(void)state;
	good("GET / HTTP/1.1\r\nA: b\r\n c\r\n\td\r\nHost: h\r\n\r\n", "h", "/", "");
	good("GET / HTTP/1.1\r\nA:\r\nHost: h\r\nB: \x01\x7f\xff\r\n\r\n", "h", "/", "");
	bad("GET / HTTP/1.1\r\nHost: h\r\n", " i\r\n\r\n");
	bad("GET / HTTP/1.1\r\nHost: h\r\n", "\ti\r\n\r\n");
	bad("GET / HTTP/1.1\r\n", " Host: h\r\n\r\n");
	bad("GET / HTTP/1.1\r\nHost", " : h\r\n\r\n");
	bad("GET / HTTP/1.1\r\nAccept", "\t: h\r\n\r\n");
	bad("GET / HTTP/1.1\r\nAccept", "\r\n\r\n");
	bad("GET / HTTP/1.1\r\n", ": h\r\n\r\n");
	bad("GET / HTTP/1.1\r\nA", "(b): c\r\n\r\n");
	check_bad("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 26, 20, BOTH);
}

static void test_request_line(void **state)
{
	(void)state;
	bad("", " GET / HTTP/1.1\r\n");
	bad("GET ", " / HTTP/1.1\r\n");
	bad("GET / ", " HTTP/1.1\r\n");
	bad("GET", "\t/ HTTP/1.1\r\n");
	bad("GET /", "\tHTTP/1.1\r\n");
	bad("GET /a", "\x01 HTTP/1.1\r\n");
	bad("GET /a", "\x7f HTTP/1.1\r\n");
	bad("GET /a?b", "\x1f HTTP/1.1\r\n");
	bad("GET /a#b", "\x1f HTTP/1.1\r\n");
	bad("GET / HTTP", "S/1.1\r\n");
	bad("GET / ", "http/1.1\r\n");
	bad("GET / HTTP/", "2.0\r\n");
	bad("GET / HTTP/1.", "x\r\n");
	bad("GET / HTTP/1.1", "1\r\n");
	bad("GET / HTTP/1.1", " \r\n");
	bad("GET ", "* HTTP/1.1\r\n");
	bad("OPTIONS *", "/ HTTP/1.1\r\n");
	bad("GET ", "index.html HTTP/1.1\r\n");
	bad("CONNECT", " h:443 HTTP/1.1\r\n");
	bad("G", "\"T / HTTP/1.1\r\n");
	check_bad("GET /\0 HTTP/1.1\r\n", 17, 5, REQUEST_PATH);
}

static void test_other_protocols(void **state)
{
	/* TLS 1.0 record, handshake, 512 bytes; ClientHello */
	static const char tls[] = { 0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, (char)0xfc };
	/* PROXY protocol, version 2 */
	static const char proxy2[] = "\r\n\r\n\0\r\nQUIT\n";

	(void)state;
	check_bad(tls, sizeof(tls), 0, BOTH);
	bad("PRI ", "* HTTP/2.0\r\n\r\nSM\r\n\r\n");
	bad("GET /", "\r\n");
	bad("GET /", "\n");
	check_bad(proxy2, sizeof(proxy2) - 1, 4, BOTH);
	bad("PROXY ", "TCP4 192.168.33.1 192.168.33.10 40000 80\r\n");
	bad("SSH-2.0-OpenSSH_9.2", "\r\n");
	bad("EHLO ", "example.com\r\n");
	bad("12345678901234567890123456789012", "3");
}

static void test_long_ones(void **state)
{
	static char text[65536];
	struct request r;
	size_t len, n;

	(void)state;
	strcpy(text, "GET /");
	memset(text + 5, 'a', 8000);
	strcpy(text + 8005, " HTTP/1.1\r\nCookie: ");
	len = strlen(text);
	memset(text + len, 'c', 12000);
	strcpy(text + len + 12000, "\r\nHost: h\r\n\r\n");
	len = strlen(text);
	for (n = 0; n < len; n += 97)
		assert_int_equal(http1_recognise((const uint8_t *)text, n, BOTH, &r),
				 RECOGNISED_MORE);
	assert_int_equal(http1_recognise((const uint8_t *)text, len, BOTH, &r), RECOGNISED_REQUEST);
	assert_int_equal(r.path.len, 8001);
	assert_slice(r.host, "h");
}

/* Mutations of good requests: no access outside, slices inside, and an answer that is final. */
static void test_mutations(void **state)
{
	static const char *const seeds[] = {
		"GET /a/b?c=d#e HTTP/1.1\r\nHost: example.com:80\r\nA: b\r\n c\r\n\r\n",
		"GET http://[::1]:80/a?b HTTP/1.0\r\n\r\n",
		"\r\nOPTIONS * HTTP/1.1\nHost: [::1]\n\n",
	};
	static const char interesting[] = "\r\n\t :/?#[]@*\x7f\x80HhTt01.\0";
	int i;

	(void)state;
	for (i = 0; i < 60000; i++) {
		enum recognised answer, before = RECOGNISED_MORE;
		char text[128];
		size_t len, n, changes = 1 + (size_t)rand() % 3;

		strcpy(text, seeds[(size_t)rand() % COUNT(seeds)]);
		len = strlen(text);
		while (changes--)
			text[(size_t)rand() % len] =
				interesting[(size_t)rand() % (sizeof(interesting) - 1)];
		for (n = 0; n <= len; n++) {
			struct request r;
			uint8_t *memory;

			answer = recognise(text, n, BOTH, &r, &memory);
			if (before != RECOGNISED_MORE)
				assert_int_equal(answer, before);
			if (answer == RECOGNISED_REQUEST) {
				assert_true(r.path.bytes >= memory && r.path.len > 0);
				assert_true(r.path.bytes + r.path.len <= memory + n);
				assert_true(r.host.bytes >= memory);
				assert_true(r.host.bytes + r.host.len <= memory + n);
				assert_true(r.query.bytes + r.query.len <= memory + n);
			}
			before = answer;
			free(memory);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	      cmocka_unit_test(test_ends_of_lines),
		cmocka_unit_test(test_path_alone),    cmocka_unit_test(test_fragment),
		cmocka_unit_test(test_absolute_form), cmocka_unit_test(test_host),
		cmocka_unit_test(test_bad_host),      cmocka_unit_test(test_header_lines),
		cmocka_unit_test(test_request_line),  cmocka_unit_test(test_other_protocols),
		cmocka_unit_test(test_long_ones),     cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
