/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP options: exact bytes of SYNs and ACKs, all SACK shapes, and everything that may be wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/packet.h"
#include "lib/tcp_options.h"

/* MSS 1460; SACK permitted; timestamps 0x11223344, 0; NOP; window scale 7 */
static const uint8_t linux_syn[] = { 2,	   4,	 0x05, 0xb4, 4, 2, 8, 10, 0x11, 0x22,
				     0x33, 0x44, 0,    0,    0, 0, 1, 3,  3,	7 };

static void test_linux_syn(void **state)
{
	uint8_t buf[TCP_OPTIONS_MAX];
	struct tcp_options o;

	(void)state;
	assert_int_equal(tcp_options_parse(&o, linux_syn, sizeof(linux_syn)), 0);
	assert_int_equal(o.mss, 1460);
	assert_int_equal(o.wscale, 7);
	assert_true(o.sack_permitted);
	assert_true(o.timestamps);
	assert_int_equal(o.tsval, 0x11223344);
	assert_int_equal(o.tsecr, 0);
	assert_int_equal(o.ts_at, 8);
	assert_int_equal(o.sack_blocks, 0);

	assert_int_equal(tcp_options_write_syn(&o, buf), sizeof(linux_syn));
	assert_memory_equal(buf, linux_syn, sizeof(linux_syn));
}

static void test_nothing(void **state)
{
	struct tcp_options o;

	(void)state;
	assert_int_equal(tcp_options_parse(&o, NULL, 0), 0);
	assert_int_equal(o.mss, 0);
	assert_int_equal(o.wscale, -1);
	assert_false(o.sack_permitted);
	assert_false(o.timestamps);
	assert_int_equal(o.sack_blocks, 0);
}

static void check_written(const struct tcp_options *o, const uint8_t *bytes, size_t len)
{
	uint8_t buf[TCP_OPTIONS_MAX];

	assert_int_equal(tcp_options_write_syn(o, buf), len);
	assert_memory_equal(buf, bytes, len);
}

static void test_write_orders(void **state)
{
	/* MSS 536 */
	static const uint8_t mss[] = { 2, 4, 0x02, 0x18 };
	/* MSS 536; NOP, NOP; SACK permitted */
	static const uint8_t sack[] = { 2, 4, 0x02, 0x18, 1, 1, 4, 2 };
	/* MSS 536; NOP, NOP; timestamps 1, 2 */
	static const uint8_t ts[] = { 2, 4, 0x02, 0x18, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2 };
	/* MSS 536; NOP; window scale 14; NOP, NOP; SACK permitted */
	static const uint8_t wscale[] = { 2, 4, 0x02, 0x18, 1, 3, 3, 14, 1, 1, 4, 2 };

	(void)state;
	check_written(&(struct tcp_options){ .wscale = -1 }, mss, 0);
	check_written(&(struct tcp_options){ .mss = 536, .wscale = -1 }, mss, sizeof(mss));
	check_written(&(struct tcp_options){ .mss = 536, .wscale = -1, .sack_permitted = true },
		      sack, sizeof(sack));
	check_written(
		&(struct tcp_options){
			.mss = 536, .wscale = -1, .timestamps = true, .tsval = 1, .tsecr = 2 },
		ts, sizeof(ts));
	check_written(&(struct tcp_options){ .mss = 536, .wscale = 14, .sack_permitted = true },
		      wscale, sizeof(wscale));
}

/* Every combination is read as it was written, in whole words. */
static void test_round_trip(void **state)
{
	uint8_t buf[TCP_OPTIONS_MAX];
	struct tcp_options in, out;
	unsigned int i;

	(void)state;
	for (i = 0; i < 16; i++) {
		size_t len;

		in = (struct tcp_options){ .wscale = -1 };
		if (i & 1)
			in.mss = 1400;
		if (i & 2)
			in.wscale = 0;
		in.sack_permitted = i & 4;
		in.timestamps = i & 8;
		if (in.timestamps)
			in.tsval = 0xfffffffe;
		len = tcp_options_write_syn(&in, buf);
		assert_int_equal(len % 4, 0);
		assert_in_range(len, 0, 20);
		assert_int_equal(tcp_options_parse(&out, buf, len), 0);
		assert_int_equal(out.mss, in.mss);
		assert_int_equal(out.wscale, in.wscale);
		assert_int_equal(out.sack_permitted, in.sack_permitted);
		assert_int_equal(out.timestamps, in.timestamps);
		assert_int_equal(out.tsval, in.tsval);
	}
}

static void test_sack_shapes(void **state)
{
	unsigned int blocks;

	(void)state;
	for (blocks = 1; blocks <= 4; blocks++) {
		/* NOP, NOP; SACK of n blocks; up to three leave room for timestamps in front */
		uint8_t buf[TCP_OPTIONS_MAX] = { 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5 };
		size_t at = blocks == 4 ? 0 : 12, i;
		struct tcp_options o;

		buf[at + 2] = 5;
		buf[at + 3] = (uint8_t)(2 + 8 * blocks);
		for (i = 0; i < 2 * blocks; i++)
			put_be32(buf + at + 4 + 4 * i, (uint32_t)(0xfffffff0 + 8 * i));
		assert_int_equal(tcp_options_parse(&o, buf, at + 4 + 8 * blocks), 0);
		assert_int_equal(o.sack_blocks, blocks);
		assert_int_equal(o.sack_at, at + 4);
		assert_int_equal(get_be32(buf + o.sack_at), 0xfffffff0);
		assert_int_equal(o.timestamps, blocks != 4);
		if (o.timestamps) {
			assert_int_equal(o.ts_at, 4);
			assert_int_equal(o.tsecr, 2);
		}
	}
}

static void test_skipped(void **state)
{
	/*
	 * NOP; kind 254 (experiment) of 6 bytes that look like an MSS; kind 34 (Fast Open), empty;
	 * MSS 1000; end; window scale 5 behind the end
	 */
	static const uint8_t bytes[] = {
		1, 254, 6, 2, 4, 9, 9, 34, 2, 2, 4, 0x03, 0xe8, 0, 3, 3, 5
	};
	struct tcp_options o;

	(void)state;
	assert_int_equal(tcp_options_parse(&o, bytes, sizeof(bytes)), 0);
	assert_int_equal(o.mss, 1000);
	assert_int_equal(o.wscale, -1);
}

static void test_scale_limit(void **state)
{
	static const uint8_t bytes[] = { 3, 3, 15 }, huge[] = { 3, 3, 255 };
	struct tcp_options o;

	(void)state;
	assert_int_equal(tcp_options_parse(&o, bytes, sizeof(bytes)), 0);
	assert_int_equal(o.wscale, 14);
	assert_int_equal(tcp_options_parse(&o, huge, sizeof(huge)), 0);
	assert_int_equal(o.wscale, 14);
}

static void test_last_one_counts(void **state)
{
	/* MSS 1000, MSS 1200 */
	static const uint8_t bytes[] = { 2, 4, 0x03, 0xe8, 2, 4, 0x04, 0xb0 };
	struct tcp_options o;

	(void)state;
	assert_int_equal(tcp_options_parse(&o, bytes, sizeof(bytes)), 0);
	assert_int_equal(o.mss, 1200);
}

static void test_bad_lengths(void **state)
{
	static const struct {
		uint8_t bytes[12];
		size_t len;
	} bad[] = {
		{ { 2, 4, 0x05, 0xb4, 8, 0 }, 6 },		/* length 0: no endless loop */
		{ { 2, 4, 0x05, 0xb4, 8, 1 }, 6 },		/* length 1 */
		{ { 2, 4, 0x05, 0xb4, 99, 1 }, 6 },		/* length 1, unknown */
		{ { 2, 4, 0x05, 0xb4, 8 }, 5 },			/* no length at all */
		{ { 2, 4, 0x05, 0xb4, 8, 10, 1, 2 }, 8 },	/* timestamps cut off */
		{ { 2, 4, 0x05, 0xb4, 99, 255 }, 6 },		/* unknown, beyond the end */
		{ { 3, 2, 2, 4, 0x05, 0xb4 }, 6 },		/* window scale without value */
		{ { 4, 3, 0, 2, 4, 0x05, 0xb4 }, 7 },		/* SACK permitted with a value */
		{ { 5, 2, 2, 4, 0x05, 0xb4 }, 6 },		/* SACK without a block */
		{ { 5, 6, 0, 0, 0, 0, 2, 4, 0x05, 0xb4 }, 10 }, /* SACK, half a block */
		{ { 8, 6, 0, 0, 0, 0, 2, 4, 0x05, 0xb4 }, 10 }, /* timestamps, one of two */
		{ { 2, 3, 9, 2, 4, 0x05, 0xb4 }, 7 },		/* MSS of one byte */
	};
	struct tcp_options o;
	size_t i;

	/* The MSS in front of the bad one is read, and the one behind it if it can be skipped. */
	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		/* Memory of exactly that size, so that a sanitizer sees each byte too many. */
		uint8_t *exact = malloc(bad[i].len);

		assert_non_null(exact);
		memcpy(exact, bad[i].bytes, bad[i].len);
		assert_int_equal(tcp_options_parse(&o, exact, bad[i].len), -EBADMSG);
		assert_int_equal(o.mss, 1460);
		assert_int_equal(o.wscale, -1);
		assert_false(o.sack_permitted);
		assert_false(o.timestamps);
		assert_int_equal(o.sack_blocks, 0);
		free(exact);
	}
}

static void test_too_long(void **state)
{
	static const uint8_t nops[TCP_OPTIONS_MAX + 1] = { 1 };
	struct tcp_options o;

	(void)state;
	assert_int_equal(tcp_options_parse(&o, nops, sizeof(nops)), -EBADMSG);
}

/* Whatever comes: no access outside, and what is said to be there lies inside. */
static void test_random_bytes(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 200000; i++) {
		size_t len = (size_t)rand() % (TCP_OPTIONS_MAX + 1), n;
		uint8_t *bytes = malloc(len + 1);
		struct tcp_options o;

		assert_non_null(bytes);
		for (n = 0; n < len; n++)
			bytes[n] = (uint8_t)(rand() % 4 ? rand() % 12 : rand());
		tcp_options_parse(&o, bytes, len);
		assert_in_range(o.sack_at + 8 * o.sack_blocks, 0, len);
		if (o.timestamps) {
			assert_in_range(o.ts_at + 8, 0, len);
			assert_int_equal(o.tsval, get_be32(bytes + o.ts_at));
		}
		assert_in_range(o.wscale + 1, 0, TCP_WSCALE_MAX + 1);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linux_syn),    cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_write_orders), cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_sack_shapes),  cmocka_unit_test(test_skipped),
		cmocka_unit_test(test_scale_limit),  cmocka_unit_test(test_last_one_counts),
		cmocka_unit_test(test_bad_lengths),  cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
