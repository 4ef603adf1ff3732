/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Status lines, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/http_status.h"
#include "wire.h"

static int status_of(const char *text, size_t len)
{
	uint8_t *exact = wire_exact((const uint8_t *)text, len);
	int status = http_status(exact, len);

	free(exact);
	return status;
}

static void test_status_lines(void **state)
{
	static const struct {
		const char *text;
		int status;
	} table[] = {
		{ "HTTP/1.1 200 OK\r\n", 200 },
		{ "HTTP/1.0 503 Service Unavailable\r\n", 503 },
		{ "HTTP/1.1 204 \r\n",
		  204 }, /* RFC 9112, 4: the blank stands without a reason, too */
		{ "HTTP/1.1 204\r\n", 204 }, /* and is left out by some */
		{ "HTTP/1.1 204\n", 204 },
		{ "HTTP/1.1 999 x", 999 },
		{ "HTTP/1.1 099 x", HTTP_STATUS_NONE },
		{ "HTTP/1.1 2000 x", HTTP_STATUS_NONE },
		{ "HTTP/1.1 20 OK", HTTP_STATUS_NONE },
		{ "HTTP/1.1  200 OK", HTTP_STATUS_NONE },
		{ "HTTP/2.0 200 OK", HTTP_STATUS_NONE },
		{ "HTTP/1.x 200 OK", HTTP_STATUS_NONE },
		{ "http/1.1 200 OK", HTTP_STATUS_NONE },
		{ "SSH-2.0-x", HTTP_STATUS_NONE },
		{ "\r\nHTTP/1.1 200 OK", HTTP_STATUS_NONE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_int_equal(status_of(table[i].text, strlen(table[i].text)), table[i].status);
}

static void test_pieces(void **state)
{
	static const char text[] = "HTTP/1.1 404 Not Found\r\n";

	(void)state;
	for (size_t len = 0; len < sizeof(text); len++)
		assert_int_equal(status_of(text, len),
				 len < HTTP_STATUS_LEN ? HTTP_STATUS_MORE : 404);
}

/* Another byte anywhere: another status, or none. */
static void test_every_byte(void **state)
{
	static const char good[] = "HTTP/1.1 234 ";

	(void)state;
	for (size_t at = 0; at < HTTP_STATUS_LEN; at++) {
		for (unsigned int c = 0; c < 256; c++) {
			char text[HTTP_STATUS_LEN];
			int status;

			memcpy(text, good, sizeof(text));
			text[at] = (char)c;
			status = status_of(text, sizeof(text));
			if (c == (unsigned char)good[at])
				assert_int_equal(status, 234);
			else if (at == 7 && c >= '0' && c <= '9')
				assert_int_equal(status, 234);
			else if (at >= 9 && at < 12 && c >= (at == 9 ? '1' : '0') && c <= '9')
				assert_int_not_equal(status, 234);
			else if (at == 12 && (c == '\r' || c == '\n'))
				assert_int_equal(status, 234);
			else
				assert_int_equal(status, HTTP_STATUS_NONE);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_lines),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
