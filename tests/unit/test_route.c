/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routes: which requests they are for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/route.h"

static void test_matches(void **state)
{
	static const struct {
		struct route route;
		const char *host, *path, *alpn;
		bool matches;
	} cases[] = {
		{ { "", "", "" }, "", "", "", true },
		{ { "a.example", "", "" }, "a.example", "/", "", true },
		{ { "a.example", "", "" }, "b.example", "/", "", false },
		{ { "a.example", "", "" }, "a.example.com", "/", "", false },
		{ { "a.example", "", "" }, "", "/", "", false },
		{ { "*.example", "", "" }, "a.example", "/", "", true },
		{ { "*.example", "", "" }, "a.b.example", "/", "", true },
		{ { "*.example", "", "" }, "example", "/", "", false },
		{ { "*.example", "", "" }, ".example", "/", "", false },
		{ { "*.example", "", "" }, "aexample", "/", "", false },
		{ { "", "/live/", "" }, "", "/live/1", "", true },
		{ { "", "/live/", "" }, "", "/live/", "", true },
		{ { "", "/live/", "" }, "", "/live", "", false },
		{ { "", "/live", "" }, "", "/lively", "", true },
		{ { "", "/live", "" }, "", "/vod", "", false },
		{ { "", "", "h2" }, "", "", "\x08http/1.1\x02h2", true },
		{ { "", "", "h2" }, "", "", "\x02h2", true },
		{ { "", "", "h2" }, "", "", "\x03h2c", false },
		{ { "", "", "h2" }, "", "", "", false },
		{ { "", "", "h2" }, "", "", "\x01h\x02h", false },
		{ { "", "", "h2" }, "", "", "\x02h", false },
		{ { "", "", "h2" }, "", "", "\x09h2", false },
		{ { "a.example", "/b", "h2" }, "a.example", "/b", "\x02h2", true },
		{ { "a.example", "/b", "h2" }, "a.example", "/b", "\x02h3", false },
		{ { "a.example", "/b", "h2" }, "a.example", "/c", "\x02h2", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct request r = {
			.host = { (const uint8_t *)cases[i].host, strlen(cases[i].host) },
			.path = { (const uint8_t *)cases[i].path, strlen(cases[i].path) },
			.alpn = { (const uint8_t *)cases[i].alpn, strlen(cases[i].alpn) },
		};

		assert_int_equal(route_matches(&cases[i].route, &r), cases[i].matches);
	}
}

static void test_wanted(void **state)
{
	(void)state;
	assert_int_equal(route_wanted(&(struct route){ "", "", "" }), 0);
	assert_int_equal(route_wanted(&(struct route){ "a", "", "" }), REQUEST_HOST);
	assert_int_equal(route_wanted(&(struct route){ "", "/", "" }), REQUEST_PATH);
	assert_int_equal(route_wanted(&(struct route){ "a", "", "h2" }),
			 REQUEST_HOST | REQUEST_ALPN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
