/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checksums against a second implementation that goes byte by byte, and by difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/checksum.h"
#include "lib/packet.h"

/* RFC 1071 as it is told to beginners: big-endian words, the last byte padded, carry added. */
static uint16_t plain_sum(uint16_t sum, const uint8_t *p, size_t len)
{
	uint32_t total = sum;
	size_t i;

	for (i = 0; i < len; i++) {
		total += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		total = (total & 0xffff) + (total >> 16);
	}
	return (uint16_t)total;
}

static uint16_t plain_checksum(const uint8_t *p, size_t len)
{
	return (uint16_t)~plain_sum(0, p, len);
}

/* What csum_fold() stores, read from the wire. */
static uint16_t folded(uint64_t sum)
{
	uint16_t check = csum_fold(sum);
	uint8_t wire[2];

	memcpy(wire, &check, sizeof(check));
	return get_be16(wire);
}

static uint8_t *random_bytes(uint8_t *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		buf[i] = (uint8_t)(rand() >> 8);
	return buf;
}

static void test_known(void **state)
{
	/*
	 * The example of RFC 1071, 3: words 0001 f203 f4f5 f6f7, sum ddf2.
	 */
	static const uint8_t rfc1071[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
	/*
	 * IPv4, header 20 bytes, TOS 0, total length 60, id 0x1c46, DF, TTL 64, TCP,
	 * checksum 0xb1e6, 172.16.10.99 -> 172.16.10.12
	 */
	static const uint8_t ip[] = { 0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06,
				      0xb1, 0xe6, 0xac, 0x10, 0x0a, 0x63, 0xac, 0x10, 0x0a, 0x0c };

	(void)state;
	assert_int_equal(folded(csum_add(0, rfc1071, sizeof(rfc1071))), 0xffff - 0xddf2);
	assert_int_equal(csum_fold(csum_add(0, ip, sizeof(ip))), 0);
	assert_int_equal(folded(csum_add(csum_add(0, ip, 10), ip + 12, 8)), 0xb1e6);
	assert_int_equal(csum_fold(0), 0xffff);
	assert_int_equal(csum_fold(csum_add(0, NULL, 0)), 0xffff);
}

static void test_every_length_and_alignment(void **state)
{
	uint8_t buf[300 + 8];
	size_t len, offset;

	(void)state;
	random_bytes(buf, sizeof(buf));
	for (offset = 0; offset < 8; offset++) {
		for (len = 0; len <= 300; len++)
			assert_int_equal(folded(csum_add(0, buf + offset, len)),
					 plain_checksum(buf + offset, len));
	}
}

static void test_large_and_extreme(void **state)
{
	static uint8_t buf[65535];
	size_t len;

	(void)state;
	random_bytes(buf, sizeof(buf));
	assert_int_equal(folded(csum_add(0, buf, sizeof(buf))), plain_checksum(buf, sizeof(buf)));
	memset(buf, 0xff, sizeof(buf));
	for (len = sizeof(buf) - 40; len <= sizeof(buf); len++)
		assert_int_equal(folded(csum_add(0, buf, len)), plain_checksum(buf, len));
	/* A start value that overflows with the first word. */
	assert_int_equal(folded(csum_add(UINT64_MAX, buf, 64)), 0x0000);
	assert_int_equal(folded(csum_add(UINT64_MAX, buf, 7)), 0x00ff);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(folded(csum_add(0, buf, sizeof(buf))), 0xffff);
}

static void test_pieces(void **state)
{
	uint8_t buf[200];
	size_t cut;

	(void)state;
	random_bytes(buf, sizeof(buf));
	for (cut = 0; cut <= sizeof(buf); cut += 2)
		assert_int_equal(
			folded(csum_add(csum_add(0, buf, cut), buf + cut, sizeof(buf) - cut)),
			plain_checksum(buf, sizeof(buf)));
}

/* One random packet of @len bytes, checksum at 16; then @change bytes at @at become others. */
static void change_once(size_t len, size_t at, size_t change, bool extreme)
{
	struct addr addr = addr_from_bytes(4, "\xc0\xa8\x21\x0a");
	uint64_t pseudo = csum_pseudo(&addr, &addr, 6, len), sum;
	uint8_t packet[128], old[128];
	uint16_t check = 0, full;

	random_bytes(packet, len);
	if (extreme)
		memset(packet, rand() & 1 ? 0xff : 0, len);
	memcpy(packet + 16, &check, sizeof(check));
	check = csum_fold(csum_add(pseudo, packet, len));

	memcpy(old, packet, len);
	random_bytes(packet + at, change);
	if (rand() % 4 == 0)
		memset(packet + at, rand() & 1 ? 0xff : 0, change);
	full = csum_fold(csum_add(pseudo, packet, len));

	sum = csum_sub(csum_unfold(check), old + at, change);
	assert_int_equal(csum_fold(csum_add(sum, packet + at, change)), full);
	/* The other way round is the same sum. */
	sum = csum_add(csum_unfold(check), packet + at, change);
	assert_int_equal(csum_fold(csum_sub(sum, old + at, change)), full);
}

static void test_difference(void **state)
{
	static const size_t offsets[] = { 0, 4, 8, 14, 20, 24, 40 };
	int i;

	(void)state;
	for (i = 0; i < 400000; i++) {
		size_t at = offsets[(size_t)rand() % (sizeof(offsets) / sizeof(offsets[0]))];

		change_once(60 + (size_t)rand() % 60, at, at == 14 ? 2 : 2 + rand() % 2 * 2,
			    rand() % 8 == 0);
	}
}

static void test_difference_rfc1624(void **state)
{
	/*
	 * RFC 1624, 4: the header's other words sum up to cd7a, a word of value 5555 becomes 3285.
	 * Checksum dd2f before, 0000 (and not ffff) behind.
	 */
	static const uint8_t check[2] = { 0xdd, 0x2f }, from[2] = { 0x55, 0x55 },
			     to[2] = { 0x32, 0x85 };
	uint16_t stored;

	(void)state;
	memcpy(&stored, check, sizeof(stored));
	assert_int_equal(folded(csum_add(csum_sub(csum_unfold(stored), from, 2), to, 2)), 0x0000);
}

static void test_pseudo(void **state)
{
	/* 192.168.33.10, 192.168.33.20, 0, protocol 6, length 0x0123 */
	static const uint8_t v4[] = { 192, 168, 33, 10, 192, 168, 33, 20, 0, 6, 0x01, 0x23 };
	/* 2001:db8::1, 2001:db8::2, length 0x00012345 (a jumbogram), three zeros, next header 6 */
	static const uint8_t v6[] = { 0x20, 0x01, 0x0d, 0xb8, 0,    0,	  0, 0, 0, 0, 0, 0, 0, 0, 0,
				      1,    0x20, 1,	0x0d, 0xb8, 0,	  0, 0, 0, 0, 0, 0, 0, 0, 0,
				      0,    2,	  0,	1,    0x23, 0x45, 0, 0, 0, 6 };
	struct addr a = addr_from_bytes(4, v4), b = addr_from_bytes(4, v4 + 4);

	(void)state;
	assert_int_equal(folded(csum_pseudo(&a, &b, 6, 0x0123)), plain_checksum(v4, sizeof(v4)));
	a = addr_from_bytes(6, v6);
	b = addr_from_bytes(6, v6 + 16);
	assert_int_equal(folded(csum_pseudo(&a, &b, 6, 0x12345)), plain_checksum(v6, sizeof(v6)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_every_length_and_alignment),
		cmocka_unit_test(test_large_and_extreme),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_difference),
		cmocka_unit_test(test_difference_rfc1624),
		cmocka_unit_test(test_pseudo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
