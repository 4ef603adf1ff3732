/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translation table of a splice, field by field, in exact bytes and both directions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/rewrite.h"
#include "lib/tcp_options.h"
#include "wire.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define CLIENT_PORT 40000
#define SERVER_SIDE 50001 /* the client's port towards the web server */
#define VIP_PORT    80
#define SERVER_PORT 8080

enum host { CLIENT, VIP, SERVER, BRIDGE };

static const uint8_t host4[][4] = {
	[CLIENT] = { 198, 51, 100, 7 },
	[VIP] = { 192, 168, 33, 10 },
	[SERVER] = { 192, 168, 33, 30 },
	[BRIDGE] = { 192, 168, 33, 20 },
};

static const uint8_t host6[][16] = {
	[CLIENT] = { 0x20, 1, 0x0d, 0xb8, [15] = 7 },
	[VIP] = { 0x20, 1, 0x0d, 0xb8, 0, 0x21, [15] = 0x10 },
	[SERVER] = { 0x20, 1, 0x0d, 0xb8, 0, 0x21, [15] = 0x30 },
	[BRIDGE] = { 0x20, 1, 0x0d, 0xb8, 0, 0x21, [15] = 0x20 },
};

/* isn_b 0x1000, isn_n 0xfffff000; ts_n 0x500, ts_b 0xffffff00 */
static const struct splice splice = {
	.seq_delta = 0x2000,
	.ts_delta = 0x600,
	.client_shift = 7,
	.client_shift_server = 7,
	.server_shift = 7,
	.server_shift_client = 7,
	.timestamps = true,
};

static struct addr addr_of(enum host host, unsigned int version)
{
	return addr_from_bytes(version, version == 4 ? host4[host] : host6[host]);
}

static void set_hosts(struct wire_fields *f, enum host src, uint16_t sport, enum host dst,
		      uint16_t dport)
{
	struct addr from = addr_of(src, f->version), to = addr_of(dst, f->version);

	memcpy(f->src, from.bytes, 16);
	memcpy(f->dst, to.bytes, 16);
	f->sport = sport;
	f->dport = dport;
}

static void set_options(struct wire_fields *f, const uint8_t *options, size_t len)
{
	memcpy(f->options, options, len);
	f->options_len = len;
}

/* A packet in the middle of a connection; every field holds something. */
static void base(struct wire_fields *f)
{
	*f = (struct wire_fields){
		.version = 4,
		.seq = 0x01020304,
		.ack = 0xa1b2c3d4,
		.window = 502,
		.urgent = 0x1234,
		.flags = TCP_PSH | TCP_ACK,
		.dscp = 33,
		.ecn = 2,
		.payload = "GET /",
		.payload_len = 5,
	};
}

enum direction { TO_SERVER, TO_CLIENT, DIRECTIONS };

static void rewrite(struct wire *w, enum direction direction, const struct splice *s,
		    enum packet_checksum checksum)
{
	unsigned int version = wire_version(w);
	const struct endpoint server = { addr_of(SERVER, version), SERVER_PORT },
			      vip = { addr_of(VIP, version), VIP_PORT };
	struct packet p, again;

	assert_int_equal(packet_parse(&p, w->bytes, w->len), PACKET_OK);
	p.checksum = (uint8_t)checksum;
	if (direction == TO_SERVER)
		rewrite_to_server(&p, s, SERVER_SIDE, &server);
	else
		rewrite_to_client(&p, s, &vip, CLIENT_PORT);

	/* The struct says what the bytes say. */
	assert_int_equal(packet_parse(&again, w->bytes, w->len), PACKET_OK);
	assert_memory_equal(&p.tuple, &again.tuple, sizeof(p.tuple));
	assert_int_equal(p.seq, again.seq);
	assert_int_equal(p.ack, again.ack);
	assert_int_equal(p.window, again.window);
	assert_int_equal(p.flags, again.flags);
	assert_int_equal(p.dscp, again.dscp);
}

/* One packet with each state its checksum can be in, and damaged. */
static void check_bytes(const struct wire_fields *in, const struct wire_fields *out,
			enum direction direction, const struct splice *s)
{
	struct wire before, expected, w;

	wire_make(&before, in);
	wire_make(&expected, out);

	w = before;
	rewrite(&w, direction, s, CHECKSUM_COMPLETE);
	assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));

	w = before;
	rewrite(&w, direction, s, CHECKSUM_UNVERIFIED);
	assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));

	w = before;
	wire_put(w.bytes + w.tcp + 16, wire_pseudo(&w), 2);
	rewrite(&w, direction, s, CHECKSUM_PARTIAL);
	assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));

	/* Damaged by 1: 1 from the right checksum afterwards too, 65535 being 0. */
	w = before;
	wire_put(w.bytes + w.tcp + 16, (wire_tcp_check(&w) + 1u) % 65535, 2);
	rewrite(&w, direction, s, CHECKSUM_COMPLETE);
	assert_int_equal(wire_get(w.bytes + w.tcp + 16, 2) % 65535,
			 (wire_tcp_check(&w) + 1u) % 65535);
}

/*
 * @in becomes @out, in both families; the addresses, ports and the DSCP field of the direction are
 * put in here, and the data is of even, odd and no length.
 */
static void check_with(const struct wire_fields *in, const struct wire_fields *out,
		       enum direction direction, const struct splice *s)
{
	struct wire_fields i = *in, o = *out;

	for (unsigned int n = 0; n < 6; n++) {
		i.version = o.version = n % 2 ? 6 : 4;
		i.payload_len = o.payload_len = n / 2 ? 3 + n / 2 : 0;
		if (direction == TO_SERVER) {
			set_hosts(&i, CLIENT, CLIENT_PORT, VIP, VIP_PORT);
			set_hosts(&o, CLIENT, SERVER_SIDE, SERVER, SERVER_PORT);
			o.dscp = 0;
		} else {
			set_hosts(&i, SERVER, SERVER_PORT, CLIENT, SERVER_SIDE);
			set_hosts(&o, VIP, VIP_PORT, CLIENT, CLIENT_PORT);
		}
		check_bytes(&i, &o, direction, s);
	}
}

static void check(const struct wire_fields *in, const struct wire_fields *out,
		  enum direction direction)
{
	check_with(in, out, direction, &splice);
}

static void test_table(void **state)
{
	/* NOP, NOP, timestamps */
	static const uint8_t options[] = { 1, 1, 8, 10, 0, 0, 0x11, 0x11, 0, 0, 0x22, 0x22 };
	/* TSecr + 0x600; TSval - 0x600 */
	static const uint8_t to_server[] = { 1, 1, 8, 10, 0, 0, 0x11, 0x11, 0, 0, 0x28, 0x22 };
	static const uint8_t to_client[] = { 1, 1, 8, 10, 0, 0, 0x0b, 0x11, 0, 0, 0x22, 0x22 };
	struct wire_fields in, out;

	(void)state;
	base(&in);
	set_options(&in, options, sizeof(options));

	out = in;
	out.ack = 0xa1b2a3d4;
	set_options(&out, to_server, sizeof(to_server));
	check(&in, &out, TO_SERVER);

	out = in;
	out.seq = 0x01022304;
	set_options(&out, to_client, sizeof(to_client));
	check(&in, &out, TO_CLIENT);
}

/* Urgent pointer, ECN and every flag stay; a packet without ACK has no acknowledgement.
 */
static void test_flags(void **state)
{
	static const uint8_t options[] = { 1, 1,  8, 10, 0,    0, 0x11, 0x11, 0,    0, 9, 9, 1, 1,
					   5, 10, 0, 0,	 0x30, 0, 0,	0,    0x40, 0, 1, 1, 1, 1 };
	static const uint8_t to_server[] = { 1,	 1, 8, 10,   0, 0, 0x11, 0x11, 0, 0, 15, 9, 1, 1, 5,
					     10, 0, 0, 0x10, 0, 0, 0,	 0x20, 0, 1, 1,	 1, 1 };
	static const uint8_t to_client[] = {
		1, 1,  8, 10, 0,    0, 0x0b, 0x11, 0,	 0, 9, 9, 1, 1,
		5, 10, 0, 0,  0x30, 0, 0,    0,	   0x40, 0, 1, 1, 1, 1
	};

	(void)state;
	for (unsigned int flags = 0; flags < 256; flags++) {
		struct wire_fields in, out;

		base(&in);
		in.flags = (uint8_t)flags;
		in.ecn = flags % 4;
		set_options(&in, options, sizeof(options));
		out = in;
		if (flags & TCP_ACK) {
			out.ack -= 0x2000;
			set_options(&out, to_server, sizeof(to_server));
		}
		check(&in, &out, TO_SERVER);

		out = in;
		out.seq += 0x2000;
		set_options(&out, to_client, sizeof(to_client));
		check(&in, &out, TO_CLIENT);
	}
}

/* Resets as kernels send them: with a number and no ACK, or with ACK and number 0. */
static void test_resets(void **state)
{
	struct wire_fields in, out;

	(void)state;
	base(&in);
	in.urgent = in.window = 0;
	in.ack = 0;
	in.flags = TCP_RST;
	out = in;
	check(&in, &out, TO_SERVER);
	out.seq = 0x01022304;
	check(&in, &out, TO_CLIENT);

	in.seq = 0;
	in.ack = 0x1001;
	in.flags = TCP_RST | TCP_ACK;
	out = in;
	out.ack = 0xfffff001;
	check(&in, &out, TO_SERVER);
	out = in;
	out.seq = 0x2000;
	check(&in, &out, TO_CLIENT);
}

/* Values around 2^32 with differences around 2^32. */
static void test_wrap_around(void **state)
{
	static const uint32_t edge[] = { 0,	     1,		 2,	     0x7fffffff,
					 0x80000000, 0xfffffffe, 0xffffffff, 0x12345678 };
	const size_t n = ARRAY_SIZE(edge);

	(void)state;
	for (size_t i = 0; i < n * n * n; i++) {
		uint32_t value = edge[i % n], seq_delta = edge[i / n % n],
			 ts_delta = edge[i / n / n];
		struct splice s = splice;
		struct wire_fields in, out;

		s.seq_delta = seq_delta;
		s.ts_delta = ts_delta;
		base(&in);
		/* NOP, NOP, timestamps, NOP, NOP, SACK of one block */
		set_options(&in, (const uint8_t[]){ 1, 1, 8, 10, [12] = 1, 1, 5, 10, [23] = 0 },
			    24);
		in.seq = in.ack = value;
		wire_put(in.options + 4, value, 4);
		wire_put(in.options + 8, value, 4);
		wire_put(in.options + 16, value, 4);
		wire_put(in.options + 20, value + 1, 4);

		out = in;
		out.ack = (uint32_t)(value + (0x100000000 - seq_delta));
		wire_put(out.options + 8, (uint32_t)((uint64_t)value + ts_delta), 4);
		wire_put(out.options + 16, out.ack, 4);
		wire_put(out.options + 20, out.ack + 1, 4);
		check_with(&in, &out, TO_SERVER, &s);

		out = in;
		out.seq = (uint32_t)((uint64_t)value + seq_delta);
		wire_put(out.options + 4, (uint32_t)(value + (0x100000000 - ts_delta)), 4);
		check_with(&in, &out, TO_CLIENT, &s);
	}
}

/* Options that are translated: @in as they come, @out as the web server sees them. */
struct option_case {
	uint8_t len;
	uint8_t in[40], out[40];
};

static void check_to_server(const struct option_case *c, size_t count, bool timestamps)
{
	struct splice s = splice;

	s.timestamps = timestamps;
	for (size_t i = 0; i < count; i++) {
		struct wire_fields in, out;

		base(&in);
		set_options(&in, c[i].in, c[i].len);
		out = in;
		out.ack -= 0x2000;
		set_options(&out, c[i].out, c[i].len);
		check_with(&in, &out, TO_SERVER, &s);
	}
}

/* clang-format off */
/* The acknowledgement is 0xa1b2c3d4 in these: blocks lie behind it, or below it in D-SACK. */
static const struct option_case sack_cases[] = {
	/* one block */
	{ 12, { 1, 1, 5, 10, 0xa1, 0xb2, 0xd0, 0, 0xa1, 0xb2, 0xe0, 0 },
	      { 1, 1, 5, 10, 0xa1, 0xb2, 0xb0, 0, 0xa1, 0xb2, 0xc0, 0 } },
	/* two */
	{ 20, { 1, 1, 5, 18, 0xa1, 0xb2, 0xd0, 0, 0xa1, 0xb2, 0xe0, 0,
		0xa1, 0xb3, 0x00, 0, 0xa1, 0xb3, 0x1f, 0xff },
	      { 1, 1, 5, 18, 0xa1, 0xb2, 0xb0, 0, 0xa1, 0xb2, 0xc0, 0,
		0xa1, 0xb2, 0xe0, 0, 0xa1, 0xb2, 0xff, 0xff } },
	/* three behind timestamps: all that fits */
	{ 40, { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0xfa, 0, 1, 1, 5, 26,
		0xa1, 0xb2, 0xd0, 0, 0xa1, 0xb2, 0xe0, 0, 0xa1, 0xb3, 0x10, 0, 0xa1, 0xb3, 0x20, 0,
		0xff, 0xff, 0xff, 0xff, 0, 0, 0x20, 0 },
	      { 1, 1, 8, 10, 1, 2, 3, 4, 0, 1, 0x00, 0, 1, 1, 5, 26,
		0xa1, 0xb2, 0xb0, 0, 0xa1, 0xb2, 0xc0, 0, 0xa1, 0xb2, 0xf0, 0, 0xa1, 0xb3, 0x00, 0,
		0xff, 0xff, 0xdf, 0xff, 0, 0, 0x00, 0 } },
	/* two behind timestamps */
	{ 32, { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 1, 0, 1, 1, 5, 18,
		0, 0, 0x20, 0, 0, 0, 0x20, 1, 0, 0, 0x1f, 0xff, 0, 0, 0x30, 0 },
	      { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 7, 0, 1, 1, 5, 18,
		0, 0, 0x00, 0, 0, 0, 0x00, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0 } },
	/* four, without timestamps */
	{ 36, { 1, 1, 5, 34, 0, 1, 0, 0, 0, 1, 1, 0, 0, 2, 0, 0, 0, 2, 1, 0,
		0, 3, 0, 0, 0, 3, 1, 0, 0, 4, 0, 0, 0, 4, 1, 0 },
	      { 1, 1, 5, 34, 0, 0, 0xe0, 0, 0, 0, 0xe1, 0, 0, 1, 0xe0, 0, 0, 1, 0xe1, 0,
		0, 2, 0xe0, 0, 0, 2, 0xe1, 0, 0, 3, 0xe0, 0, 0, 3, 0xe1, 0 } },
	/* D-SACK below the acknowledgement (RFC 2883, 4.1) */
	{ 12, { 1, 1, 5, 10, 0xa1, 0xb2, 0xa0, 0, 0xa1, 0xb2, 0xb0, 0 },
	      { 1, 1, 5, 10, 0xa1, 0xb2, 0x80, 0, 0xa1, 0xb2, 0x90, 0 } },
	/* D-SACK inside of the second block (RFC 2883, 4.2), behind timestamps */
	{ 32, { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 1, 0, 1, 1, 5, 18,
		0xa1, 0xb2, 0xe0, 0, 0xa1, 0xb2, 0xf0, 0, 0xa1, 0xb2, 0xd0, 0, 0xa1, 0xb3, 0x00, 0 },
	      { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 7, 0, 1, 1, 5, 18,
		0xa1, 0xb2, 0xc0, 0, 0xa1, 0xb2, 0xd0, 0, 0xa1, 0xb2, 0xb0, 0, 0xa1, 0xb2, 0xe0, 0 } },
	/* odd offsets: NOP, SACK; timestamps; end */
	{ 24, { 1, 5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 8, 10, 1, 2, 3, 4, 0, 0, 0xff, 0xff, 0 },
	      { 1, 5, 10, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 8, 10, 1, 2, 3, 4, 0, 1, 5, 0xff, 0 } },
	/* odd the other way round: an unknown option of 3 bytes; timestamps; SACK */
	{ 24, { 254, 3, 9, 8, 10, 1, 2, 3, 4, 0, 0, 0xff, 0xff, 5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0 },
	      { 254, 3, 9, 8, 10, 1, 2, 3, 4, 0, 1, 5, 0xff, 5, 10, 0, 0, 0x10, 0, 0, 0, 0x20, 0 } },
};

/* Lists that are wrong somewhere: what Linux reads is translated, the rest is left alone. */
static const struct option_case odd_cases[] = {
	/* nothing; and only NOPs */
	{ 0, { 0 }, { 0 } },
	{ 8, { 1, 1, 1, 1, 1, 1, 1, 1 }, { 1, 1, 1, 1, 1, 1, 1, 1 } },
	/* timestamps behind the end of the list */
	{ 12, { 0, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1, 0 }, { 0, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1, 0 } },
	/* timestamps; then an option of length 0 that hides a SACK */
	{ 24, { 8, 10, 0, 0, 1, 0, 0, 0, 1, 0, 99, 0, 5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0 },
	      { 8, 10, 0, 0, 1, 0, 0, 0, 7, 0, 99, 0, 5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0 } },
	/* SACK; then an option of length 1 that hides timestamps */
	{ 24, { 5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 99, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1, 0 },
	      { 5, 10, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 99, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1, 0 } },
	/* timestamps of 9 and of 11 bytes are skipped; SACK */
	{ 32, { 8, 9, 0, 0, 1, 0, 0, 0, 1, 8, 11, 0, 0, 1, 0, 0, 0, 1, 0, 0,
		5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0 },
	      { 8, 9, 0, 0, 1, 0, 0, 0, 1, 8, 11, 0, 0, 1, 0, 0, 0, 1, 0, 0,
		5, 10, 0, 0, 0x10, 0, 0, 0, 0x20, 0 } },
	/* SACK without a block, with half of one, with one and a half are skipped; timestamps */
	{ 32, { 5, 2, 5, 6, 0, 0, 0x30, 0, 5, 14, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 0, 0, 0x50, 0,
		8, 10, 0, 0, 1, 0, 0, 0, 1, 0 },
	      { 5, 2, 5, 6, 0, 0, 0x30, 0, 5, 14, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 0, 0, 0x50, 0,
		8, 10, 0, 0, 1, 0, 0, 0, 7, 0 } },
	/* timestamps one byte too long for the list; SACK far too long */
	{ 12, { 1, 1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1 }, { 1, 1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 1 } },
	{ 12, { 1, 1, 5, 34, 0, 0, 0x30, 0, 0, 0, 0x40, 0 },
	      { 1, 1, 5, 34, 0, 0, 0x30, 0, 0, 0, 0x40, 0 } },
	/* a kind without a length at the very end */
	{ 12, { 1, 8, 10, 0, 0, 1, 0, 0, 0, 1, 0, 5 }, { 1, 8, 10, 0, 0, 1, 0, 0, 0, 7, 0, 5 } },
	/* timestamps twice: the last ones are what the kernel reads */
	{ 20, { 8, 10, 0, 0, 1, 0, 0, 0, 1, 0, 8, 10, 0, 0, 2, 0, 0, 0, 2, 0 },
	      { 8, 10, 0, 0, 1, 0, 0, 0, 1, 0, 8, 10, 0, 0, 2, 0, 0, 0, 8, 0 } },
};

/* Without timestamps on both sides the option is left alone, whatever is in it. */
static const struct option_case no_timestamps_cases[] = {
	{ 24, { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0xfa, 0, 1, 1, 5, 10, 0, 0, 0x30, 0, 0, 0, 0x40, 0 },
	      { 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0xfa, 0, 1, 1, 5, 10, 0, 0, 0x10, 0, 0, 0, 0x20, 0 } },
};
/* clang-format on */

static void test_sack(void **state)
{
	(void)state;
	check_to_server(sack_cases, ARRAY_SIZE(sack_cases), true);
}

static void test_odd_options(void **state)
{
	(void)state;
	check_to_server(odd_cases, ARRAY_SIZE(odd_cases), true);
}

static void test_no_timestamps(void **state)
{
	(void)state;
	check_to_server(no_timestamps_cases, ARRAY_SIZE(no_timestamps_cases), false);
}

/*
 * The web server's SACK blocks name bytes of the client, which keep their numbers; of its
 * timestamps the first one is translated. @at: where TSval stands in the cases above, 0 for
 * nowhere.
 */
static void check_to_client(const struct option_case *c, size_t at, bool timestamps)
{
	struct splice s = splice;
	struct wire_fields in, out;

	s.timestamps = timestamps;
	base(&in);
	set_options(&in, c->in, c->len);
	out = in;
	out.seq += 0x2000;
	if (at)
		wire_put(out.options + at, wire_get(in.options + at, 4) - 0x600, 4);
	check_with(&in, &out, TO_CLIENT, &s);
}

static void test_options_to_client(void **state)
{
	static const size_t sack_at[ARRAY_SIZE(sack_cases)] = { 0, 0, 4, 4, 0, 0, 4, 13, 5 };
	static const size_t odd_at[ARRAY_SIZE(odd_cases)] = { 0, 0, 0, 2, 0, 0, 24, 0, 0, 3, 12 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sack_cases); i++)
		check_to_client(&sack_cases[i], sack_at[i], true);
	for (size_t i = 0; i < ARRAY_SIZE(odd_cases); i++)
		check_to_client(&odd_cases[i], odd_at[i], true);
	check_to_client(&no_timestamps_cases[0], 0, false);
}

/* What a window is worth: bytes in @from, units of @to, no more than fits; open if it takes 1460. */
static uint16_t plain_rescale(uint16_t window, unsigned int from, unsigned int to)
{
	uint64_t units = window;
	bool open;

	for (unsigned int i = 0; i < from; i++)
		units *= 2;
	open = units >= 1460;
	for (unsigned int i = 0; i < to; i++)
		units /= 2;
	if (units == 0 && open)
		units = 1;
	return units > 65535 ? 65535 : (uint16_t)units;
}

static void test_rescale(void **state)
{
	(void)state;
	for (unsigned int from = 0; from <= 14; from++) {
		for (unsigned int to = 0; to <= 14; to++) {
			for (unsigned int window = 0; window < 65536; window += 1 + window % 7)
				assert_int_equal(splice_rescale((uint16_t)window, from, to),
						 plain_rescale((uint16_t)window, from, to));
			assert_int_equal(splice_rescale(65535, from, to),
					 plain_rescale(65535, from, to));
		}
	}
	/* By hand: equal, larger, clamped, rounded down; to nothing only below a segment; closed. */
	assert_int_equal(splice_rescale(65535, 14, 14), 65535);
	assert_int_equal(splice_rescale(502, 7, 0), 64256);
	assert_int_equal(splice_rescale(512, 7, 0), 65535);
	assert_int_equal(splice_rescale(255, 0, 7), 1);
	assert_int_equal(splice_rescale(127, 0, 7), 0);
	assert_int_equal(splice_rescale(1459, 0, 14), 0);
	assert_int_equal(splice_rescale(1460, 0, 14), 1);
	assert_int_equal(splice_rescale(365, 2, 14), 1);
	assert_int_equal(splice_rescale(0, 7, 0), 0);
	assert_int_equal(splice_rescale(0, 0, 7), 0);
	assert_int_equal(splice_rescale(65535, 14, 0), 65535);
}

static void test_windows(void **state)
{
	static const uint16_t windows[] = { 0, 1, 127, 128, 502, 4095, 32768, 65535 };
	const size_t n = ARRAY_SIZE(windows);

	(void)state;
	for (size_t i = 0; i < 15 * 15 * n; i++) {
		unsigned int from = (unsigned int)(i / n % 15), to = (unsigned int)(i / n / 15);
		enum direction direction = i % 2 ? TO_SERVER : TO_CLIENT;
		struct splice s = splice;
		struct wire_fields in, out;

		/* The shifts of the other direction would give other windows. */
		s.client_shift = (uint8_t)(direction == TO_SERVER ? from : to + 1);
		s.client_shift_server = (uint8_t)(direction == TO_SERVER ? to : from);
		s.server_shift = (uint8_t)(direction == TO_CLIENT ? from : to + 1);
		s.server_shift_client = (uint8_t)(direction == TO_CLIENT ? to : from);
		base(&in);
		in.window = windows[(i + i / n) % n];
		out = in;
		if (direction == TO_SERVER)
			out.ack -= 0x2000;
		else
			out.seq += 0x2000;
		out.window = plain_rescale(in.window, from, to);
		check_with(&in, &out, direction, &s);

		/* RFC 7323, 2.2: the window of a SYN is never scaled. */
		in.flags |= TCP_SYN;
		out.flags |= TCP_SYN;
		out.window = in.window;
		check_with(&in, &out, direction, &s);
	}
}

/* Options as a kernel may send them, and as it would not: at random places, in random number. */
static void random_options(struct wire_fields *f)
{
	size_t at = 0;

	while (at < 40 && rand() % 5) {
		size_t blocks = 1 + (size_t)rand() % 3, pad = (size_t)rand() % 3;

		while (pad-- && at < 40)
			f->options[at++] = 1;
		if (rand() % 2 && at + 10 <= 40) {
			wire_random_bytes(f->options + at, 10);
			f->options[at] = 8;
			f->options[at + 1] = 10;
			at += 10;
		} else if (at + 2 + 8 * blocks <= 40) {
			wire_random_bytes(f->options + at, 2 + 8 * blocks);
			f->options[at] = 5;
			f->options[at + 1] = (uint8_t)(2 + 8 * blocks);
			at += 2 + 8 * blocks;
		}
	}
	f->options_len = (at + 3) / 4 * 4;
	if (rand() % 8 == 0)
		wire_random_bytes(f->options, f->options_len);
}

/* A window that survives the way from a scale of @from to one of @to and back. */
static uint16_t window_between(unsigned int from, unsigned int to)
{
	uint32_t window = wire_random() % 65536;

	return (uint16_t)(from > to ? window >> (from - to) : window >> (to - from) << (to - from));
}

static void random_splice(struct splice *s, struct splice *inverse)
{
	*s = (struct splice){
		.seq_delta = wire_random(),
		.ts_delta = wire_random(),
		.client_shift = (uint8_t)(wire_random() % 15),
		.client_shift_server = (uint8_t)(wire_random() % 15),
		.server_shift = (uint8_t)(wire_random() % 15),
		.server_shift_client = (uint8_t)(wire_random() % 15),
		.timestamps = rand() % 4,
	};
	*inverse = (struct splice){
		.seq_delta = 0 - s->seq_delta,
		.ts_delta = 0 - s->ts_delta,
		.client_shift = s->client_shift_server,
		.client_shift_server = s->client_shift,
		.server_shift = s->server_shift_client,
		.server_shift_client = s->server_shift,
		.timestamps = s->timestamps,
	};
}

/* There and back again: nothing is lost, checksums included. */
static void test_round_trip(void **state)
{
	(void)state;
	for (int i = 0; i < 50000; i++) {
		unsigned int version = rand() % 2 ? 4 : 6;
		const struct endpoint server = { addr_of(SERVER, version), SERVER_PORT },
				      vip = { addr_of(VIP, version), VIP_PORT };
		struct splice s, inverse;
		struct wire_fields f;
		struct wire w, original;
		struct packet p;

		random_splice(&s, &inverse);
		wire_random_fields(&f, version);
		random_options(&f);
		f.dscp = 0;
		if (i % 2) {
			set_hosts(&f, CLIENT, CLIENT_PORT, VIP, VIP_PORT);
			f.window = window_between(s.client_shift, s.client_shift_server);
		} else {
			set_hosts(&f, SERVER, SERVER_PORT, CLIENT, SERVER_SIDE);
			f.window = window_between(s.server_shift, s.server_shift_client);
		}
		wire_make(&w, &f);
		original = w;
		assert_int_equal(packet_parse(&p, w.bytes, w.len), PACKET_OK);
		if (i % 2) {
			rewrite_to_server(&p, &s, SERVER_SIDE, &server);
			assert_true(packet_tcp_checksum_ok(&p));
			rewrite_to_server(&p, &inverse, CLIENT_PORT, &vip);
		} else {
			rewrite_to_client(&p, &s, &vip, CLIENT_PORT);
			assert_true(packet_tcp_checksum_ok(&p));
			rewrite_to_client(&p, &inverse, &server, SERVER_SIDE);
		}
		assert_memory_equal(w.bytes, original.bytes, sizeof(w.bytes));
	}
}

/* What the client acknowledges and echoes is what the web server sent, in the server's numbers. */
static void test_echo(void **state)
{
	/* NOP, NOP, timestamps; NOP, NOP, SACK of one block */
	static const uint8_t options[24] = { 1, 1, 8, 10, [12] = 1, 1, 5, 10 };

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct wire_fields server, client;
		struct splice s, inverse;
		struct wire w, echo;
		uint32_t seq, tsval;

		random_splice(&s, &inverse);
		s.timestamps = true;
		wire_random_fields(&server, rand() % 2 ? 4 : 6);
		set_options(&server, options, 12);
		tsval = wire_random();
		wire_put(server.options + 4, tsval, 4);
		wire_make(&w, &server);
		rewrite(&w, TO_CLIENT, &s, CHECKSUM_COMPLETE);

		wire_random_fields(&client, server.version);
		client.flags = TCP_ACK;
		set_options(&client, options, sizeof(options));
		seq = wire_get(w.bytes + w.tcp + 4, 4);
		client.ack = seq + (uint32_t)server.payload_len;
		memcpy(client.options + 8, w.bytes + w.tcp + 24, 4);
		wire_put(client.options + 16, seq, 4);
		wire_put(client.options + 20, client.ack, 4);
		wire_make(&echo, &client);
		rewrite(&echo, TO_SERVER, &s, CHECKSUM_COMPLETE);
		assert_int_equal(wire_get(echo.bytes + echo.tcp + 8, 4),
				 (uint32_t)(server.seq + server.payload_len));
		assert_int_equal(wire_get(echo.bytes + echo.tcp + 28, 4), tsval);
		assert_int_equal(wire_get(echo.bytes + echo.tcp + 36, 4), server.seq);
		assert_int_equal(wire_get(echo.bytes + echo.tcp + 40, 4),
				 (uint32_t)(server.seq + server.payload_len));
	}
}

static void test_to_bridge(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		unsigned int version = rand() % 2 ? 4 : 6;
		struct addr bridge = addr_of(BRIDGE, version);
		struct wire_fields f;
		struct wire w, expected;
		struct packet p;

		wire_random_fields(&f, version);
		random_options(&f);
		wire_make(&w, &f);
		if (rand() % 2)
			wire_put(w.bytes + w.tcp + 16, wire_pseudo(&w), 2);
		assert_int_equal(packet_parse(&p, w.bytes, w.len), PACKET_OK);
		if (wire_get(w.bytes + w.tcp + 16, 2) != wire_tcp_check(&w))
			p.checksum = CHECKSUM_PARTIAL;
		f.dscp = (uint8_t)(i % 64);
		memcpy(f.dst, bridge.bytes, 16);
		rewrite_to_bridge(&p, &bridge, f.dscp);
		wire_make(&expected, &f);
		assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));
		assert_true(addr_equal(&p.tuple.dst, &bridge));
		assert_int_equal(p.dscp, f.dscp);
	}
}

/* The acknowledgement stays; data goes, and what counts or hurries it: FIN and PSH. */
static void test_strip_data(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct wire_fields f;
		struct wire w, expected;
		struct packet p;

		wire_random_fields(&f, rand() % 2 ? 4 : 6);
		random_options(&f);
		wire_make(&w, &f);
		f.payload_len = 0;
		f.flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
		wire_make(&expected, &f);
		assert_int_equal(packet_parse(&p, w.bytes, w.len), PACKET_OK);
		rewrite_strip_data(&p);
		assert_int_equal(p.len, expected.len);
		assert_int_equal(p.flags, f.flags);
		assert_int_equal(packet_payload_len(&p), 0);
		assert_memory_equal(w.bytes, expected.bytes, expected.len);
	}
}

/* NOPs take the place of every such option, wherever it stands, and of nothing else. */
static void test_hide_timestamps(void **state)
{
	static const uint8_t options[] = { 1,  8, 10, 0, 0, 0, 7,    0,	   0, 0, 9, 5,
					   10, 0, 0,  0, 1, 0, 0x10, 0x23, 1, 1, 1, 8,
					   10, 1, 1,  1, 1, 2, 2,    2,	   2, 0, 0, 0 };
	static const uint8_t hidden[] = { 1,  1, 1, 1, 1, 1, 1,	   1,	 1, 1, 1, 5,
					  10, 0, 0, 0, 1, 0, 0x10, 0x23, 1, 1, 1, 1,
					  1,  1, 1, 1, 1, 1, 1,	   1,	 1, 0, 0, 0 };
	struct wire_fields f;

	(void)state;
	base(&f);
	set_options(&f, options, sizeof(options));
	for (int i = 0; i < 20000; i++) {
		struct wire w, expected;
		struct tcp_options o;
		struct packet p;
		uint8_t *at;
		size_t len;

		wire_make(&w, &f);
		expected = w;
		assert_int_equal(packet_parse(&p, w.bytes, w.len), PACKET_OK);
		rewrite_hide_timestamps(&p);
		at = packet_options(&p, &len);
		tcp_options_parse(&o, at, len);
		assert_false(o.timestamps);
		assert_true(packet_tcp_checksum_ok(&p));
		if (i == 0) {
			set_options(&f, hidden, sizeof(hidden));
			wire_make(&expected, &f);
			assert_memory_equal(w.bytes, expected.bytes, expected.len);
		}
		assert_int_equal(p.len, expected.len);
		assert_memory_equal(w.bytes + p.payload, expected.bytes + p.payload,
				    p.len - p.payload);
		wire_random_fields(&f, rand() % 2 ? 4 : 6);
		random_options(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_resets),
		cmocka_unit_test(test_wrap_around),
		cmocka_unit_test(test_sack),
		cmocka_unit_test(test_odd_options),
		cmocka_unit_test(test_no_timestamps),
		cmocka_unit_test(test_options_to_client),
		cmocka_unit_test(test_rescale),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_to_bridge),
		cmocka_unit_test(test_strip_data),
		cmocka_unit_test(test_hide_timestamps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
