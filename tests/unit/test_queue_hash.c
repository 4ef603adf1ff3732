/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queue of a client, against answers of the kernel and a second jhash written round by round.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/queue_hash.h"

/* What `jhash ip saddr . tcp sport mod 4 seed 0x6c336473` of Linux 6.18 said, and its IPv6 twin. */
static const struct {
	const char *address;
	uint16_t port;
	unsigned int queue;
} kernel[] = {
	{ "192.0.2.1", 40000, 0 },
	{ "192.168.33.100", 1024, 0 },
	{ "10.0.0.1", 33000, 1 },
	{ "198.51.100.7", 65535, 1 },
	{ "39.168.95.126", 35840, 2 },
	{ "51.136.164.19", 41216, 2 },
	{ "203.0.113.255", 1, 3 },
	{ "2001:db8::1", 40000, 0 },
	{ "2001:db8:358d:e40e:a422:6ca2:b78c:7ac4", 31744, 1 },
	{ "2001:db8:cae3:e8c0:5e1a:f20:9b83:37c1", 7424, 2 },
	{ "2001:db8:1:2:3:4:5:6", 1024, 3 },
	{ "2001:db8:ffff::42", 1, 3 },
	{ "fd00::ffff:1", 65535, 3 },
};

static uint32_t rotate(uint32_t word, unsigned int by)
{
	return (uint32_t)((((uint64_t)word << 32 | word) << by) >> 32);
}

/* lookup3 of Bob Jenkins: three words, of which the one to change moves on from round to round. */
static uint32_t second_jhash(const uint8_t *key, size_t len, uint32_t seed)
{
	static const unsigned int mix[6] = { 4, 6, 8, 16, 19, 4 };
	static const unsigned int last[7] = { 14, 11, 25, 16, 4, 14, 24 };
	uint32_t w[3];

	w[0] = w[1] = w[2] = 0xdeadbeef + (uint32_t)len + seed;
	if (!len)
		return w[2];
	for (;;) {
		for (size_t i = 0; i < 12 && i < len; i++)
			w[i / 4] += (uint32_t)key[i] << i % 4 * 8;
		if (len <= 12)
			break;
		for (unsigned int i = 0; i < 6; i++) {
			uint32_t *a = &w[i % 3], *b = &w[(i + 1) % 3], *c = &w[(i + 2) % 3];

			*a = (*a - *c) ^ rotate(*c, mix[i]);
			*c += *b;
		}
		key += 12;
		len -= 12;
	}
	for (unsigned int i = 0; i < 7; i++) {
		uint32_t *c = &w[(i + 2) % 3], *b = &w[(i + 1) % 3];

		*c = (*c ^ *b) - rotate(*b, last[i]);
	}
	return w[2];
}

static unsigned int second_queue(const struct addr *addr, uint16_t port)
{
	size_t len = addr->family == 4 ? 4 : 16;
	uint8_t key[20] = { 0 };

	memcpy(key, addr->bytes, len);
	key[len] = (uint8_t)(port / 256);
	key[len + 1] = (uint8_t)(port % 256);
	return (unsigned int)((uint64_t)second_jhash(key, len + 4, 0x6c336473) * 4 / 0x100000000);
}

/* The answers that lookup3.c itself gives for its examples. */
static void test_second_jhash(void **state)
{
	static const uint8_t text[] = "Four score and seven years ago";

	(void)state;
	assert_int_equal(second_jhash(text, 0, 0), 0xdeadbeef);
	assert_int_equal(second_jhash(text, 0, 0xdeadbeef), 0xbd5b7dde);
	assert_int_equal(second_jhash(text, 30, 0), 0x17770551);
	assert_int_equal(second_jhash(text, 30, 1), 0xcd628161);
}

static void test_kernel(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(kernel) / sizeof(kernel[0]); i++) {
		struct addr addr;

		assert_int_equal(addr_parse(&addr, kernel[i].address), 0);
		assert_int_equal(queue_hash(&addr, kernel[i].port), kernel[i].queue);
		assert_int_equal(second_queue(&addr, kernel[i].port), kernel[i].queue);
	}
}

static void check_random(unsigned int family)
{
	for (unsigned int i = 0; i < 200000; i++) {
		uint16_t port = (uint16_t)(rand() >> 4);
		uint8_t bytes[16];
		struct addr addr;

		for (size_t n = 0; n < sizeof(bytes); n++)
			bytes[n] = (uint8_t)(rand() >> 8);
		addr = addr_from_bytes(family, bytes);
		assert_int_equal(queue_hash(&addr, port), second_queue(&addr, port));
	}
}

static void test_random(void **state)
{
	(void)state;
	check_random(4);
	check_random(6);
}

/* Each byte of the address and of the port counts. */
static void test_every_byte(void **state)
{
	(void)state;
	for (unsigned int family = 4; family <= 6; family += 2) {
		for (size_t at = 0; at < (family == 4 ? 6 : 18); at++) {
			unsigned int seen = 0;

			for (unsigned int value = 0; value < 256; value++) {
				uint8_t key[18] = { 0x20, 1, 2, 3, 4, 5 };
				size_t len = family == 4 ? 4 : 16;
				struct addr addr;

				key[at] = (uint8_t)value;
				addr = addr_from_bytes(family, key);
				seen |= 1u << queue_hash(&addr,
							 (uint16_t)(key[len] * 256 + key[len + 1]));
			}
			assert_int_equal(seen, 0xf);
		}
	}
}

static void check_even(const unsigned int count[QUEUE_COUNT], unsigned int total)
{
	/* A quarter each, within six standard deviations: sqrt(n * 1/4 * 3/4). */
	for (unsigned int i = 0; i < QUEUE_COUNT; i++) {
		double off = (double)count[i] - total / 4.0;

		assert_true(off * off < 36 * total * 3.0 / 16);
	}
}

/* One client with all its ports, and many clients with one port. */
static void test_even(void **state)
{
	unsigned int ports[QUEUE_COUNT] = { 0 }, clients4[QUEUE_COUNT] = { 0 },
		     clients6[QUEUE_COUNT] = { 0 };
	struct addr addr = addr_from_bytes(4, "\xc6\x33\x64\x07");

	(void)state;
	for (unsigned int port = 0; port < 65536; port++)
		ports[queue_hash(&addr, (uint16_t)port)]++;
	check_even(ports, 65536);

	for (unsigned int i = 0; i < 65536; i++) {
		uint8_t bytes[16] = { 0x20, 0x01, 0x0d, 0xb8 };

		bytes[14] = bytes[2] = (uint8_t)(i / 256);
		bytes[15] = bytes[3] = (uint8_t)(i % 256);
		addr = addr_from_bytes(4, bytes);
		clients4[queue_hash(&addr, 50000)]++;
		addr = addr_from_bytes(6, bytes);
		clients6[queue_hash(&addr, 50000)]++;
	}
	check_even(clients4, 65536);
	check_even(clients6, 65536);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_jhash), cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_random),	     cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_even),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
