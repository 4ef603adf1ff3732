/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses: bytes, text and socket addresses of both families. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "lib/addr.h"

static const uint8_t v4[4] = { 192, 168, 33, 10 };
/* 2001:db8::33:10 */
static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [13] = 0x33, [15] = 0x10 };
/* ::ffff:192.168.33.10 */
static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 192, 168, 33, 10 };

static void test_from_bytes(void **state)
{
	struct addr a = addr_from_bytes(4, v4);
	static const uint8_t zero[12];

	(void)state;
	assert_int_equal(a.family, 4);
	assert_memory_equal(a.bytes, v4, 4);
	assert_memory_equal(a.bytes + 4, zero, 12);
	assert_int_equal(addr_len(&a), 4);

	a = addr_from_bytes(6, v6);
	assert_int_equal(a.family, 6);
	assert_memory_equal(a.bytes, v6, 16);
	assert_int_equal(addr_len(&a), 16);

	a = addr_from_bytes(5, v6);
	assert_int_equal(a.family, 0);
	assert_int_equal(addr_len(&a), 0);
}

static void test_mapped_becomes_ipv4(void **state)
{
	struct addr a = addr_from_bytes(4, v4), b = addr_from_bytes(6, mapped), c;
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
	struct sockaddr_storage ss = { 0 };
	struct endpoint e;

	(void)state;
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(addr_parse(&c, "::ffff:192.168.33.10"), 0);
	assert_memory_equal(&a, &c, sizeof(a));
	memcpy(&sin6.sin6_addr, mapped, sizeof(mapped));
	memcpy(&ss, &sin6, sizeof(sin6));
	assert_int_equal(addr_from_sockaddr(&e, &ss), 0);
	assert_memory_equal(&a, &e.addr, sizeof(a));
	assert_int_equal(e.port, 80);
}

static void test_parse_refuses(void **state)
{
	static const char *const bad[] = { "",
					   "192.168.33",
					   "192.168.33.256",
					   "1.2.3.4.5",
					   " 1.2.3.4",
					   "1.2.3.4 ",
					   "0x7f.0.0.1",
					   "1.2.3.4:80",
					   "[2001:db8::1]",
					   "fe80::1%lo",
					   "2001:db8::1::",
					   "localhost",
					   "192.168.33.1/24" };
	struct addr a, before;
	size_t i;

	(void)state;
	assert_int_equal(addr_parse(&a, "10.0.0.1"), 0);
	before = a;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(addr_parse(&a, bad[i]), -EINVAL);
		assert_memory_equal(&a, &before, sizeof(a));
	}
}

static void test_format(void **state)
{
	static const char *const same[] = {
		"0.0.0.0",
		"192.168.33.10",
		"255.255.255.255",
		"::",
		"::1",
		"2001:db8::33:10",
		"2001:db8:1111:2222:3333:4444:5555:6666",
	};
	struct addr a, none = { 0 };
	char text[ENDPOINT_STRLEN];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		assert_int_equal(addr_parse(&a, same[i]), 0);
		assert_string_equal(addr_format(&a, text), same[i]);
	}
	assert_string_equal(addr_format(&none, text), "none");
	a = addr_from_bytes(4, v4);
	assert_string_equal(endpoint_format(&a, 80, text), "192.168.33.10:80");
	a = addr_from_bytes(6, v6);
	assert_string_equal(endpoint_format(&a, 65535, text), "[2001:db8::33:10]:65535");
}

static void test_longest_endpoint_fits(void **state)
{
	uint8_t longest[16];
	char text[ENDPOINT_STRLEN];
	struct addr a;

	(void)state;
	memset(longest, 0xff, sizeof(longest));
	a = addr_from_bytes(6, longest);
	assert_string_equal(endpoint_format(&a, 65535, text),
			    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

static void test_equal(void **state)
{
	/* The bytes of 192.168.33.10 with zeros behind them are an IPv6 address too. */
	static const uint8_t alike[16] = { 192, 168, 33, 10 };
	struct addr a = addr_from_bytes(4, v4), b = addr_from_bytes(6, alike);

	(void)state;
	assert_memory_equal(a.bytes, b.bytes, sizeof(a.bytes));
	assert_false(addr_equal(&a, &b));
	assert_true(addr_equal(&a, &a));
	b = a;
	b.bytes[3]++;
	assert_false(addr_equal(&a, &b));
}

static void test_reverse(void **state)
{
	struct tuple t = { addr_from_bytes(4, v4), addr_from_bytes(6, v6), 40000, 80 };
	struct tuple r = tuple_reverse(&t), back = tuple_reverse(&r);

	(void)state;
	assert_true(addr_equal(&r.src, &t.dst));
	assert_true(addr_equal(&r.dst, &t.src));
	assert_int_equal(r.sport, 80);
	assert_int_equal(r.dport, 40000);
	assert_memory_equal(&t, &back, sizeof(t));
}

static void test_sockaddr(void **state)
{
	struct addr a = addr_from_bytes(4, v4), none = { 0 };
	struct sockaddr_storage ss;
	struct sockaddr_in sin;
	struct endpoint e;

	(void)state;
	assert_int_equal(addr_to_sockaddr(&a, 8080, &ss), sizeof(struct sockaddr_in));
	memcpy(&sin, &ss, sizeof(sin));
	assert_int_equal(sin.sin_family, AF_INET);
	assert_int_equal(sin.sin_port, htons(8080));
	assert_memory_equal(&sin.sin_addr, v4, 4);
	assert_int_equal(addr_from_sockaddr(&e, &ss), 0);
	assert_true(addr_equal(&e.addr, &a));
	assert_int_equal(e.port, 8080);

	a = addr_from_bytes(6, v6);
	assert_int_equal(addr_to_sockaddr(&a, 443, &ss), sizeof(struct sockaddr_in6));
	assert_int_equal(addr_from_sockaddr(&e, &ss), 0);
	assert_true(addr_equal(&e.addr, &a));
	assert_int_equal(e.port, 443);

	assert_int_equal(addr_to_sockaddr(&none, 80, &ss), 0);
	ss.ss_family = AF_UNIX;
	assert_int_equal(addr_from_sockaddr(&e, &ss), -EAFNOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_bytes),
		cmocka_unit_test(test_mapped_becomes_ipv4),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_longest_endpoint_fits),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_sockaddr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
