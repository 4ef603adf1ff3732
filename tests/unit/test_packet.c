/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets: exact bytes, every fault at every length, and checksums against a second implementation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/packet.h"
#include "wire.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* clang-format off */
static const uint8_t ipv4_packet[] = {
	0x45, 0x29, 0x00, 0x39,			/* IPv4, 20 bytes; DSCP 10, ECT(1); 57 bytes */
	0x1c, 0x46, 0x40, 0x00,			/* id; do not fragment */
	0x3f, 0x06, 0x13, 0x63,			/* TTL 63, TCP, checksum */
	0xc6, 0x33, 0x64, 0x07,			/* 198.51.100.7 */
	0xc0, 0xa8, 0x21, 0x0a,			/* 192.168.33.10 */
	0x9c, 0x40, 0x00, 0x50,			/* 40000 -> 80 */
	0x01, 0x02, 0x03, 0x04,			/* sequence number */
	0xa1, 0xb2, 0xc3, 0xd4,			/* acknowledgement */
	0x80, 0x18, 0x01, 0xf6,			/* 32 bytes; PSH, ACK; window 502 */
	0x74, 0xc0, 0x12, 0x34,			/* checksum, urgent pointer */
	0x01, 0x01, 0x08, 0x0a,			/* NOP, NOP, timestamps */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
	'G',  'E',  'T',  ' ',  '/',
};

static const uint8_t ipv6_packet[] = {
	0x6b, 0xa5, 0x43, 0x21,			/* IPv6; DSCP 46, ECT(0); flow label 0x54321 */
	0x00, 0x25, 0x06, 0x3f,			/* 37 bytes, TCP, hop limit 63 */
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
	0x20, 0x01, 0x0d, 0xb8, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a,
	0x9c, 0x40, 0x00, 0x50,			/* 40000 -> 80 */
	0x01, 0x02, 0x03, 0x04,			/* sequence number */
	0xa1, 0xb2, 0xc3, 0xd4,			/* acknowledgement */
	0x80, 0x18, 0x01, 0xf6,			/* 32 bytes; PSH, ACK; window 502 */
	0x25, 0x0a, 0x12, 0x34,			/* checksum, urgent pointer */
	0x01, 0x01, 0x08, 0x0a,			/* NOP, NOP, timestamps */
	0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
	'G',  'E',  'T',  ' ',  '/',
};

/* What may stand between the IP header and TCP. */
static const struct {
	unsigned int version;
	uint8_t next;
	uint8_t bytes[56];
	size_t len;
} between[] = {
	{ .version = 4 },
	/* router alert; NOP, NOP, NOP, end */
	{ 4, 0, { 0x94, 4, 0, 0, 1, 1, 1, 0 }, 8 },
	/* 40 bytes, all there may be: record route, 9 addresses; end */
	{ 4, 0, { 7, 39, 4 }, 40 },
	{ .version = 6 },
	/* hop-by-hop options: TCP next, 8 bytes; router alert; PadN */
	{ 6, 0, { 6, 0, 5, 2, 0, 0, 1, 0 }, 8 },
	/* routing: TCP next, 24 bytes, type 4, no segments left */
	{ 6, 43, { 6, 2, 4, 0 }, 24 },
	/* destination options: TCP next, 16 bytes; PadN of 14 */
	{ 6, 60, { 6, 1, 1, 12 }, 16 },
	/* fragment, atomic: TCP next, offset 0, no more, id */
	{ 6, 44, { 6, 0xff, 0, 0, 1, 2, 3, 4 }, 8 },
	/* the same with the two reserved bits set, which are ignored */
	{ 6, 44, { 6, 0, 0, 6, 1, 2, 3, 4 }, 8 },
	/* hop-by-hop, destination, routing, atomic fragment, destination */
	{ 6, 0, { 60, 0, 5, 2, 0, 0, 1, 0,	43, 0, 1, 4, 0, 0, 0, 0,
		  44, 0, 4, 0, 0, 0, 0, 0,	60, 0, 0, 0, 1, 2, 3, 4,
		  6,  1, 1, 12 }, 48 },
};
/* clang-format on */

static void base_fields(struct wire_fields *f, unsigned int version)
{
	static const uint8_t client[2][16] = { { 198, 51, 100, 7 },
					       { 0x20, 1, 0x0d, 0xb8, [15] = 7 } };
	static const uint8_t vip[2][16] = { { 192, 168, 33, 10 },
					    { 0x20, 1, 0x0d, 0xb8, 0, 0x21, [15] = 10 } };

	*f = (struct wire_fields){
		.version = version,
		.sport = 40000,
		.dport = 80,
		.seq = 0x01020304,
		.ack = 0xa1b2c3d4,
		.window = 502,
		.urgent = 0x1234,
		.flags = TCP_PSH | TCP_ACK,
		.dscp = 10,
		.ecn = 1,
		.options = { 1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88 },
		.options_len = 12,
		.payload = "GET /",
		.payload_len = 5,
	};
	memcpy(f->src, client[version == 6], 16);
	memcpy(f->dst, vip[version == 6], 16);
}

/* The base packet with the headers between[@i]. */
static void make_between(struct wire *w, size_t i)
{
	struct wire_fields f;

	base_fields(&f, between[i].version);
	f.ip_next = between[i].next;
	f.ip_options_len = between[i].len;
	memcpy(f.ip_options, between[i].bytes, sizeof(between[i].bytes));
	wire_make(w, &f);
}

static enum packet_fault fault_of(const uint8_t *bytes, size_t len)
{
	uint8_t *exact = wire_exact(bytes, len);
	struct packet p;
	enum packet_fault fault = packet_parse(&p, exact, len);

	free(exact);
	return fault;
}

static void check_addr(const struct addr *addr, unsigned int family, const uint8_t *bytes)
{
	static const uint8_t zero[16];
	size_t len = family == 4 ? 4 : 16;

	assert_int_equal(addr->family, family);
	assert_memory_equal(addr->bytes, bytes, len);
	assert_memory_equal(addr->bytes + len, zero, 16 - len);
}

/* @p says what the bytes of @w say. */
static void check_parsed(const struct packet *p, const struct wire *w)
{
	const uint8_t *ip = w->bytes, *th = w->bytes + w->tcp;
	unsigned int version = wire_version(w);

	assert_int_equal(p->len, w->len);
	assert_int_equal(p->tcp, w->tcp);
	assert_int_equal(p->payload, w->payload);
	check_addr(&p->tuple.src, version, ip + (version == 4 ? 12 : 8));
	check_addr(&p->tuple.dst, version, ip + (version == 4 ? 16 : 24));
	assert_int_equal(p->tuple.sport, wire_get(th, 2));
	assert_int_equal(p->tuple.dport, wire_get(th + 2, 2));
	assert_int_equal(p->seq, wire_get(th + 4, 4));
	assert_int_equal(p->ack, wire_get(th + 8, 4));
	assert_int_equal(p->flags, th[13]);
	assert_int_equal(p->window, wire_get(th + 14, 2));
	assert_int_equal(p->dscp, version == 4 ? ip[1] / 4u : wire_get(ip, 2) / 64 % 64);
}

static void test_exact_bytes(void **state)
{
	uint8_t ipv4[sizeof(ipv4_packet)], ipv6[sizeof(ipv6_packet)];
	struct packet p;
	size_t len;

	(void)state;
	memcpy(ipv4, ipv4_packet, sizeof(ipv4));
	assert_int_equal(packet_parse(&p, ipv4, sizeof(ipv4)), PACKET_OK);
	assert_ptr_equal(p.data, ipv4);
	assert_int_equal(p.len, 57);
	assert_int_equal(p.tcp, 20);
	assert_int_equal(p.payload, 52);
	check_addr(&p.tuple.src, 4, (const uint8_t[]){ 198, 51, 100, 7 });
	check_addr(&p.tuple.dst, 4, (const uint8_t[]){ 192, 168, 33, 10 });
	assert_int_equal(p.tuple.sport, 40000);
	assert_int_equal(p.tuple.dport, 80);
	assert_int_equal(p.seq, 0x01020304);
	assert_int_equal(p.ack, 0xa1b2c3d4);
	assert_int_equal(p.window, 502);
	assert_int_equal(p.flags, TCP_PSH | TCP_ACK);
	assert_int_equal(p.dscp, 10);
	assert_int_equal(p.checksum, CHECKSUM_COMPLETE);
	assert_ptr_equal(packet_options(&p, &len), ipv4 + 40);
	assert_int_equal(len, 12);
	assert_int_equal(packet_payload_len(&p), 5);
	assert_true(packet_tcp_checksum_ok(&p));

	memcpy(ipv6, ipv6_packet, sizeof(ipv6));
	assert_int_equal(packet_parse(&p, ipv6, sizeof(ipv6)), PACKET_OK);
	assert_int_equal(p.len, 77);
	assert_int_equal(p.tcp, 40);
	assert_int_equal(p.payload, 72);
	check_addr(&p.tuple.src, 6, ipv6_packet + 8);
	check_addr(&p.tuple.dst, 6, ipv6_packet + 24);
	assert_int_equal(p.dscp, 46);
	assert_int_equal(p.tuple.sport, 40000);
	assert_int_equal(p.ack, 0xa1b2c3d4);
	assert_true(packet_tcp_checksum_ok(&p));
	/* Parsing changes nothing. */
	assert_memory_equal(ipv4, ipv4_packet, sizeof(ipv4));
	assert_memory_equal(ipv6, ipv6_packet, sizeof(ipv6));
}

static void test_between(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(between); i++) {
		struct packet p;
		struct wire w;

		make_between(&w, i);
		assert_int_equal(packet_parse(&p, w.bytes, w.len), PACKET_OK);
		check_parsed(&p, &w);
		assert_true(packet_tcp_checksum_ok(&p));
		/* Bytes behind the packet (Ethernet pads short frames) are not part of it. */
		assert_int_equal(packet_parse(&p, w.bytes, w.len + 13), PACKET_OK);
		check_parsed(&p, &w);
		assert_true(packet_tcp_checksum_ok(&p));
	}
}

static void test_seq_len(void **state)
{
	struct wire_fields f;
	struct packet p;
	struct wire w;

	(void)state;
	base_fields(&f, 4);
	for (unsigned int flags = 0; flags < 256; flags++) {
		f.flags = (uint8_t)flags;
		wire_make(&w, &f);
		assert_int_equal(packet_parse(&p, w.bytes, w.len), PACKET_OK);
		assert_int_equal(packet_seq_len(&p), 5 + (flags & 1) + (flags >> 1 & 1));
	}
}

/* The buffer ends too early, wherever it ends. */
static void test_every_truncation(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(between); i++) {
		struct wire w;

		make_between(&w, i);
		for (size_t len = 0; len < w.len; len++)
			assert_int_equal(fault_of(w.bytes, len), PACKET_TRUNCATED);
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_OK);
	}
}

/* The header itself says that the packet ends too early. */
static enum packet_fault expected_at(const struct wire *w, size_t len)
{
	if (wire_version(w) == 4 && len >= 20 && len < w->tcp)
		return PACKET_BAD_IP;
	if (len < w->tcp + 20)
		return PACKET_TRUNCATED;
	return len < w->payload ? PACKET_BAD_TCP : PACKET_OK;
}

static void test_every_total_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(between); i++) {
		struct wire w;

		make_between(&w, i);
		for (size_t len = wire_version(&w) == 4 ? 4 : 40; len <= w.len; len++) {
			bool ipv4 = wire_version(&w) == 4;

			wire_put(w.bytes + (ipv4 ? 2 : 4), (uint32_t)(len - (ipv4 ? 0 : 40)), 2);
			assert_int_equal(fault_of(w.bytes, len), expected_at(&w, len));
		}
	}
	/* Shorter than the header, in a buffer that is long enough. */
	for (uint32_t len = 0; len < 20; len++) {
		struct wire w;

		make_between(&w, 0);
		wire_put(w.bytes + 2, len, 2);
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_BAD_IP);
	}
}

static bool offset_fits(const struct wire *w, size_t tcp)
{
	size_t header = w->bytes[tcp + 12] / 16 * 4u;

	return header >= 20 && tcp + header <= w->len;
}

static void test_version_and_header_length(void **state)
{
	struct wire w;

	(void)state;
	for (unsigned int first = 0; first < 256; first++) {
		unsigned int version = first / 16, words = first % 16;

		make_between(&w, 2);
		w.bytes[0] = (uint8_t)first;
		if (version == 4 && words >= 5)
			/* The options are read as a TCP header, and have its length somewhere. */
			assert_int_equal(fault_of(w.bytes, w.len),
					 offset_fits(&w, 4 * words) ? PACKET_OK : PACKET_BAD_TCP);
		else if (version != 6)
			assert_int_equal(fault_of(w.bytes, w.len), PACKET_BAD_IP);
	}
}

static void test_data_offset(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(between); i++) {
		for (unsigned int words = 0; words < 16; words++) {
			struct wire w;

			/* 37 bytes from the TCP header to the end: nine words fit. */
			make_between(&w, i);
			w.bytes[w.tcp + 12] = (uint8_t)(words * 16);
			assert_int_equal(fault_of(w.bytes, w.len),
					 words < 5 || words > 9 ? PACKET_BAD_TCP : PACKET_OK);
		}
	}
}

static void test_protocols(void **state)
{
	(void)state;
	for (unsigned int protocol = 0; protocol < 256; protocol++) {
		/* 0, 43, 44 and 60 are headers in IPv6, and TCP would be read as one. */
		bool header = protocol == 0 || protocol == 43 || protocol == 44 || protocol == 60;
		struct wire w;

		make_between(&w, 0);
		w.bytes[9] = (uint8_t)protocol;
		assert_int_equal(fault_of(w.bytes, w.len),
				 protocol == 6 ? PACKET_OK : PACKET_NOT_TCP);
		make_between(&w, 3);
		w.bytes[6] = (uint8_t)protocol;
		if (!header)
			assert_int_equal(fault_of(w.bytes, w.len),
					 protocol == 6 ? PACKET_OK : PACKET_NOT_TCP);
		/* At the end of a chain, which is cut off behind it: 0 does not begin again. */
		make_between(&w, 4);
		w.bytes[40] = (uint8_t)protocol;
		w.bytes[48 + 1] = 0xff;
		if (!header)
			assert_int_equal(fault_of(w.bytes, w.len),
					 protocol == 6 ? PACKET_OK : PACKET_NOT_TCP);
		else if (protocol != 44)
			assert_int_equal(fault_of(w.bytes, w.len), PACKET_TRUNCATED);
	}
}

static void test_fragments(void **state)
{
	static const struct {
		uint16_t ipv4, ipv6;
		enum packet_fault fault;
	} cases[] = {
		{ 0x0000, 0x0000, PACKET_OK },	     /* whole */
		{ 0x4000, 0x0002, PACKET_OK },	     /* DF; in IPv6 a reserved bit */
		{ 0x8000, 0x0004, PACKET_OK },	     /* reserved bits */
		{ 0x2000, 0x0001, PACKET_FRAGMENT }, /* the first one */
		{ 0x2001, 0x0009, PACKET_FRAGMENT }, /* in the middle */
		{ 0x0001, 0x0008, PACKET_FRAGMENT }, /* the last one */
		{ 0x1fff, 0xfff8, PACKET_FRAGMENT }, /* the last one there can be */
		{ 0x1000, 0x8000, PACKET_FRAGMENT }, /* highest bit of the offset */
		{ 0x6000, 0xfff9, PACKET_FRAGMENT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct wire w;

		make_between(&w, 0);
		wire_put(w.bytes + 6, cases[i].ipv4, 2);
		assert_int_equal(fault_of(w.bytes, w.len), cases[i].fault);
		make_between(&w, 7);
		wire_put(w.bytes + 42, cases[i].ipv6, 2);
		assert_int_equal(fault_of(w.bytes, w.len), cases[i].fault);
		/* A later fragment of another protocol is a fragment before it is anything else. */
		w.bytes[40] = 17;
		assert_int_equal(fault_of(w.bytes, w.len),
				 cases[i].fault == PACKET_OK ? PACKET_NOT_TCP : PACKET_FRAGMENT);
	}
}

/* A TCP header so far behind that its offset does not fit into 16 bits: never read elsewhere. */
static void test_far_tcp_header(void **state)
{
	static uint8_t bytes[40 + 65535];
	const size_t first = 40 + 31 * 2048;

	(void)state;
	/* First the data lies beyond 65,535, later TCP does. */
	for (size_t tcp = 65504; tcp + 32 <= sizeof(bytes); tcp += 8) {
		struct packet p;

		memset(bytes, 0, sizeof(bytes));
		bytes[0] = 0x60;
		wire_put(bytes + 4, 65535, 2);
		bytes[6] = 60;
		bytes[8] = 0x20;
		for (size_t at = 40; at < first; at += 2048) {
			bytes[at] = 60;
			bytes[at + 1] = 255;
		}
		bytes[first] = 6;
		bytes[first + 1] = (uint8_t)((tcp - first) / 8 - 1);
		bytes[tcp + 7] = 42;
		bytes[tcp + 12] = 0x80;
		if (packet_parse(&p, bytes, sizeof(bytes)) != PACKET_OK)
			continue;
		assert_int_equal(p.tcp, tcp);
		assert_int_equal(p.payload, tcp + 32);
		assert_int_equal(p.seq, 42);
	}
}

/*
 * An IPv4-mapped address on the wire is none (RFC 4291, 2.5.5.2): it would turn into IPv4 on entry
 * and name a family that the packet does not have.
 */
static void test_mapped_addresses(void **state)
{
	static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 198, 51, 100, 7 };

	(void)state;
	for (size_t at = 8; at <= 24; at += 16) {
		struct wire w;

		make_between(&w, 3);
		memcpy(w.bytes + at, mapped, sizeof(mapped));
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_BAD_IP);
	}
}

/* Whatever comes: no access outside, and what is said to be there lies inside. */
static void test_random_bytes(void **state)
{
	unsigned int good = 0;

	(void)state;
	for (int i = 0; i < 300000; i++) {
		struct packet p;
		struct wire w;
		size_t len, options;
		uint8_t *exact;

		make_between(&w, (size_t)rand() % ARRAY_SIZE(between));
		for (int n = rand() % 6; n; n--)
			w.bytes[(size_t)rand() % (rand() % 2 ? w.payload : 10)] ^=
				(uint8_t)(rand() % 3 ? 1 << rand() % 8 : rand());
		len = rand() % 2 ? w.len : (size_t)rand() % (w.len + 9);
		exact = wire_exact(w.bytes, len);
		if (packet_parse(&p, exact, len) == PACKET_OK) {
			assert_in_range(p.len, 40, len);
			assert_in_range(p.tcp, 20, p.len - 20);
			assert_in_range(p.payload, p.tcp + 20, p.len);
			packet_options(&p, &options);
			assert_int_equal(p.tcp + 20 + options, p.payload);
			packet_checksum_adjust(&p, packet_header_sum(&p));
			packet_checksum_fill(&p);
			assert_true(packet_tcp_checksum_ok(&p));
			good++;
		}
		free(exact);
	}
	assert_in_range(good, 30000, 270000);
}

static void random_wire(struct wire *w, unsigned int version)
{
	struct wire_fields f;

	wire_random_fields(&f, version);
	f.options_len = wire_random() % 11 * 4;
	wire_random_bytes(f.options, f.options_len);
	if (version == 4) {
		f.ip_options_len = wire_random() % 11 * 4;
		wire_random_bytes(f.ip_options, f.ip_options_len);
	}
	wire_make(w, &f);
}

static void parse(struct packet *p, struct wire *w)
{
	assert_int_equal(packet_parse(p, w->bytes, w->len), PACKET_OK);
}

static void random_addr(struct addr *addr, unsigned int version)
{
	uint8_t bytes[16];

	wire_random_bytes(bytes, sizeof(bytes));
	*addr = addr_from_bytes(version, bytes);
}

/* Each setter writes its field and nothing else, in the bytes and in the struct. */
static void test_setters(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		unsigned int version = rand() % 2 ? 4 : 6;
		uint16_t v16 = (uint16_t)wire_random();
		uint32_t v32 = wire_random();
		struct wire w, expected;
		struct addr addr;
		struct packet p;

		random_wire(&w, version);
		random_addr(&addr, version);
		expected = w;
		parse(&p, &w);
		switch (i % 6) {
		case 0:
			packet_set_src(&p, &addr, v16);
			memcpy(expected.bytes + (version == 4 ? 12 : 8), addr.bytes,
			       version == 4 ? 4 : 16);
			wire_put(expected.bytes + w.tcp, v16, 2);
			break;
		case 1:
			packet_set_dst(&p, &addr, v16);
			memcpy(expected.bytes + (version == 4 ? 16 : 24), addr.bytes,
			       version == 4 ? 4 : 16);
			wire_put(expected.bytes + w.tcp + 2, v16, 2);
			break;
		case 2:
			packet_set_seq(&p, v32);
			wire_put(expected.bytes + w.tcp + 4, v32, 4);
			break;
		case 3:
			packet_set_ack(&p, v32);
			wire_put(expected.bytes + w.tcp + 8, v32, 4);
			break;
		case 4:
			packet_set_window(&p, v16);
			wire_put(expected.bytes + w.tcp + 14, v16, 2);
			break;
		case 5:
			packet_set_flags(&p, (uint8_t)v16);
			expected.bytes[w.tcp + 13] = (uint8_t)v16;
			break;
		}
		assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));
		check_parsed(&p, &expected);
	}
}

static void test_dscp(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 64 * 4 * 64; n++) {
		struct wire w, expected;
		struct wire_fields f;
		struct packet p;

		base_fields(&f, n % 2 ? 4 : 6);
		f.dscp = n / 2 % 64;
		f.ecn = n / 128 % 4;
		wire_make(&w, &f);
		f.dscp = (uint8_t)(n / 512);
		wire_make(&expected, &f);
		parse(&p, &w);
		packet_set_dscp(&p, f.dscp);
		assert_int_equal(p.dscp, f.dscp);
		packet_checksum_adjust(&p, packet_header_sum(&p));
		assert_memory_equal(w.bytes, expected.bytes, w.len);
	}
}

static void test_truncate(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(between); i++) {
		for (size_t len = 0; len <= 5; len++) {
			struct wire w, expected;
			struct packet p;

			make_between(&w, i);
			expected = w;
			expected.len = w.payload + len;
			wire_put(expected.bytes + (wire_version(&w) == 4 ? 2 : 4),
				 (uint32_t)(expected.len - (wire_version(&w) == 4 ? 0 : 40)), 2);
			parse(&p, &w);
			packet_truncate(&p, len);
			assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));
			check_parsed(&p, &expected);
			wire_check_fill(&expected);
			packet_checksum_fill(&p);
			assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));
		}
	}
}

static void test_checksum_fill(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct wire w, expected;
		struct packet p;

		random_wire(&w, rand() % 2 ? 4 : 6);
		expected = w;
		parse(&p, &w);
		assert_true(packet_tcp_checksum_ok(&p));
		/* What stood there before does not matter. */
		wire_put(w.bytes + w.tcp + 16, wire_random(), 2);
		if (wire_version(&w) == 4)
			wire_put(w.bytes + 10, wire_random(), 2);
		packet_checksum_fill(&p);
		assert_memory_equal(w.bytes, expected.bytes, w.len);
	}
}

static void test_checksum_ok(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(between); i++) {
		for (size_t bit = 0;; bit++) {
			struct packet p;
			struct wire w;

			make_between(&w, i);
			parse(&p, &w);
			if (w.tcp + bit / 8 >= w.len)
				break;
			w.bytes[w.tcp + bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_false(packet_tcp_checksum_ok(&p));
		}
	}
}

/* Anything that a rewrite may change, as random as it gets, with values that carry. */
static void change_headers(struct packet *p)
{
	static const uint32_t edges[] = { 0, 0xffffffff, 0xffff0000, 0x0000ffff, 1 };
	uint32_t value = rand() % 4 ? wire_random() : edges[(size_t)rand() % ARRAY_SIZE(edges)];
	struct addr addr;
	uint8_t *options;
	size_t len;

	random_addr(&addr, p->tuple.src.family);
	if (rand() % 2)
		packet_set_src(p, &addr, (uint16_t)value);
	if (rand() % 2)
		packet_set_dst(p, &addr, (uint16_t)(value >> 8));
	if (rand() % 2)
		packet_set_seq(p, value);
	if (rand() % 2)
		packet_set_ack(p, value + 1);
	if (rand() % 2)
		packet_set_window(p, (uint16_t)~value);
	if (rand() % 2)
		packet_set_dscp(p, value % 64);
	options = packet_options(p, &len);
	if (len && rand() % 2)
		wire_random_bytes(options, len);
}

static void test_checksum_adjust(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++) {
		struct wire w, expected;
		struct packet p;
		uint64_t before;

		random_wire(&w, rand() % 2 ? 4 : 6);
		parse(&p, &w);
		p.checksum = rand() % 2 ? CHECKSUM_COMPLETE : CHECKSUM_UNVERIFIED;
		before = packet_header_sum(&p);
		change_headers(&p);
		packet_checksum_adjust(&p, before);
		expected = w;
		wire_check_fill(&expected);
		assert_memory_equal(w.bytes, expected.bytes, w.len);
		assert_true(packet_tcp_checksum_ok(&p));
	}
}

/* How far the stored checksum is from the right one; 0 and 65535 are the same. */
static unsigned int damage_of(const struct wire *w)
{
	return (wire_get(w->bytes + w->tcp + 16, 2) + 65535 - wire_tcp_check(w)) % 65535;
}

static void test_damaged_stays_damaged(void **state)
{
	(void)state;
	for (int i = 0; i < 50000; i++) {
		unsigned int damage;
		struct packet p;
		uint64_t before;
		struct wire w;

		random_wire(&w, rand() % 2 ? 4 : 6);
		parse(&p, &w);
		if (rand() % 2 && p.payload < p.len)
			w.bytes[p.payload] ^= (uint8_t)(1 << rand() % 8);
		else
			w.bytes[w.tcp + 16 + rand() % 2] ^= (uint8_t)(1 << rand() % 8);
		damage = damage_of(&w);
		assert_int_not_equal(damage, 0);
		before = packet_header_sum(&p);
		change_headers(&p);
		packet_checksum_adjust(&p, before);
		assert_int_equal(damage_of(&w), damage);
		assert_false(packet_tcp_checksum_ok(&p));
	}
}

/* Only the sum of the pseudo header stands there: the kernel left the rest to the device. */
static void test_partial_is_filled(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct wire w, expected;
		struct packet p;
		uint64_t before;

		random_wire(&w, rand() % 2 ? 4 : 6);
		wire_put(w.bytes + w.tcp + 16, wire_pseudo(&w), 2);
		parse(&p, &w);
		p.checksum = CHECKSUM_PARTIAL;
		before = packet_header_sum(&p);
		change_headers(&p);
		packet_checksum_adjust(&p, before);
		assert_int_equal(p.checksum, CHECKSUM_COMPLETE);
		expected = w;
		wire_check_fill(&expected);
		assert_memory_equal(w.bytes, expected.bytes, w.len);
	}
}

/* The spec that describes the packet of exact bytes, as far as a spec can. */
static void test_build_exact(void **state)
{
	static const uint8_t options[] = { 1,	 1,    8,    10,   0x11, 0x22,
					   0x33, 0x44, 0x55, 0x66, 0x77, 0x88 };
	struct packet_spec spec = {
		.tuple = { .src = addr_from_bytes(4, ipv4_packet + 12),
			   .dst = addr_from_bytes(4, ipv4_packet + 16),
			   .sport = 40000,
			   .dport = 80 },
		.seq = 0x01020304,
		.ack = 0xa1b2c3d4,
		.window = 502,
		.flags = TCP_PSH | TCP_ACK,
		.dscp = 10,
		.ttl = 63,
		.options = options,
		.options_len = sizeof(options),
		.payload = "GET /",
		.payload_len = 5,
	};
	struct wire w = { .len = sizeof(ipv4_packet), .tcp = 20 };
	uint8_t buf[sizeof(ipv6_packet)];

	(void)state;
	memcpy(w.bytes, ipv4_packet, sizeof(ipv4_packet));
	w.bytes[1] = 10 * 4;		   /* no ECN */
	wire_put(w.bytes + 4, 0, 2);	   /* no id */
	wire_put(w.bytes + 20 + 18, 0, 2); /* no urgent pointer */
	wire_check_fill(&w);
	assert_int_equal(packet_build(&spec, buf, sizeof(buf)), w.len);
	assert_memory_equal(buf, w.bytes, w.len);

	spec.tuple.src = addr_from_bytes(6, ipv6_packet + 8);
	spec.tuple.dst = addr_from_bytes(6, ipv6_packet + 24);
	spec.dscp = 46;
	spec.ttl = 0;
	w.len = sizeof(ipv6_packet);
	w.tcp = 40;
	memcpy(w.bytes, ipv6_packet, sizeof(ipv6_packet));
	wire_put(w.bytes, 0x6b800000, 4); /* no ECN, no flow label */
	w.bytes[7] = 64;
	wire_put(w.bytes + 40 + 18, 0, 2);
	wire_check_fill(&w);
	assert_int_equal(packet_build(&spec, buf, sizeof(buf)), w.len);
	assert_memory_equal(buf, w.bytes, w.len);
}

static void test_build_limits(void **state)
{
	static uint8_t big[70000], payload[65536], options[44];
	struct packet_spec spec = { .options = options, .payload = payload };

	(void)state;
	for (unsigned int family = 4; family <= 6; family += 2) {
		size_t header = family == 4 ? 40 : 60;
		struct packet p;

		spec.tuple.src = spec.tuple.dst = addr_from_bytes(family, "\x20\1\x0d\xb8"
									  "0123456789ab");
		for (size_t len = 0; len <= 44; len++) {
			spec.options_len = len;
			spec.payload_len = 0;
			assert_int_equal(packet_build(&spec, big, sizeof(big)),
					 len % 4 || len > 40 ? 0 : header + len);
		}
		spec.options_len = 40;
		spec.payload_len = 3;
		for (size_t size = 0; size <= header + 43; size++) {
			uint8_t *exact = malloc(size);

			assert_int_equal(packet_build(&spec, exact, size),
					 size < header + 43 ? 0 : header + 43);
			free(exact);
		}
		/* As long as a packet can be, and a byte more. */
		spec.payload_len = 65535 - 40 - header;
		assert_int_equal(packet_build(&spec, big, sizeof(big)), 65535);
		assert_int_equal(packet_parse(&p, big, sizeof(big)), PACKET_OK);
		assert_int_equal(packet_payload_len(&p), spec.payload_len);
		assert_true(packet_tcp_checksum_ok(&p));
		spec.payload_len++;
		assert_int_equal(packet_build(&spec, big, sizeof(big)), 0);
	}
}

static void test_seq_before(void **state)
{
	(void)state;
	assert_true(seq_before(1, 2));
	assert_false(seq_before(2, 1));
	assert_false(seq_before(7, 7));
	assert_true(seq_before(0xffffffff, 0));
	assert_false(seq_before(0, 0xffffffff));
	assert_true(seq_before(0xfffffff0, 0x10));
	assert_true(seq_before(0, 0x7fffffff));
	assert_false(seq_before(0, 0x80000001));
}

static void test_big_endian(void **state)
{
	uint8_t buf[9] = { 0 };

	(void)state;
	put_be64(buf + 1, UINT64_C(0x8192a3b4c5d6e7f8));
	assert_memory_equal(buf, "\x00\x81\x92\xa3\xb4\xc5\xd6\xe7\xf8", sizeof(buf));
	assert_true(get_be64(buf + 1) == UINT64_C(0x8192a3b4c5d6e7f8));
	assert_int_equal(get_be32(buf + 1), 0x8192a3b4);
	assert_int_equal(get_be16(buf + 1), 0x8192);
	put_be32(buf + 1, 0xfedcba98);
	put_be16(buf + 5, 0x7654);
	assert_memory_equal(buf, "\x00\xfe\xdc\xba\x98\x76\x54\xe7\xf8", sizeof(buf));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_bytes),
		cmocka_unit_test(test_between),
		cmocka_unit_test(test_seq_len),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_total_length),
		cmocka_unit_test(test_version_and_header_length),
		cmocka_unit_test(test_data_offset),
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_far_tcp_header),
		cmocka_unit_test(test_mapped_addresses),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_setters),
		cmocka_unit_test(test_dscp),
		cmocka_unit_test(test_truncate),
		cmocka_unit_test(test_checksum_fill),
		cmocka_unit_test(test_checksum_ok),
		cmocka_unit_test(test_checksum_adjust),
		cmocka_unit_test(test_damaged_stays_damaged),
		cmocka_unit_test(test_partial_is_filled),
		cmocka_unit_test(test_build_exact),
		cmocka_unit_test(test_build_limits),
		cmocka_unit_test(test_seq_before),
		cmocka_unit_test(test_big_endian),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
