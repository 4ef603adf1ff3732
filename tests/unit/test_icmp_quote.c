/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ICMP errors about TCP: exact bytes, every fault at every length, translation of what they quote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/icmp_quote.h"
#include "wire.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define CLIENT_PORT 40000
#define SERVER_SIDE 50001 /* the client's port towards the web server */
#define VIP_PORT    80
#define SERVER_PORT 8080

/* clang-format off */
static const uint8_t ipv4_quote[] = {
	0x45, 0x02, 0x00, 0x38,			/* IPv4, 20 bytes; DSCP 0, ECT(0); 56 bytes */
	0xbe, 0xef, 0x00, 0x00,			/* id; may be fragmented */
	0x3e, 0x01, 0xa0, 0x1f,			/* TTL 62, ICMP, checksum */
	0xcb, 0x00, 0x71, 0x01,			/* 203.0.113.1, a router */
	0xc0, 0xa8, 0x21, 0x0a,			/* 192.168.33.10, the VIP */
	0x03, 0x04, 0x53, 0x6b,			/* fragmentation needed, checksum */
	0x00, 0x00, 0x05, 0x00,			/* MTU 1280 */
	0x45, 0x00, 0x05, 0xc8,			/* quoted: IPv4, 20 bytes; 1480 bytes */
	0x1c, 0x46, 0x40, 0x00,			/* id; do not fragment */
	0x3f, 0x06, 0x0d, 0xfd,			/* TTL 63, TCP, checksum */
	0xc0, 0xa8, 0x21, 0x0a,			/* 192.168.33.10 */
	0xc6, 0x33, 0x64, 0x07,			/* 198.51.100.7, the client */
	0x00, 0x50, 0x9c, 0x40,			/* 80 -> 40000 */
	0x00, 0x00, 0x08, 0x00,			/* sequence number: all of TCP that is quoted */
};

static const uint8_t ipv6_quote[] = {
	0x60, 0x20, 0x00, 0x00,			/* IPv6; DSCP 0, ECT(0); no flow label */
	0x00, 0x38, 0x3a, 0x3e,			/* 56 bytes, ICMPv6, hop limit 62 */
	0x20, 0x01, 0x0d, 0xb8, 0, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
	0x20, 0x01, 0x0d, 0xb8, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
	0x02, 0x00, 0x0d, 0x7a,			/* packet too big, checksum */
	0x00, 0x00, 0x05, 0x00,			/* MTU 1280 */
	0x60, 0x01, 0x23, 0x45,			/* quoted: IPv6; flow label 0x12345 */
	0x05, 0xa0, 0x06, 0x3f,			/* 1440 bytes, TCP, hop limit 63 */
	0x20, 0x01, 0x0d, 0xb8, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
	0x00, 0x50, 0x9c, 0x40,			/* 80 -> 40000 */
	0x00, 0x00, 0x08, 0x00,			/* sequence number */
};

/* What is another byte afterwards, and where. */
struct patch {
	size_t at, len;
	uint8_t bytes[8];
};

static const struct patch ipv4_to_bridge[] = {
	{ 1, 1, { 0x06 } },			/* DSCP 1, ECT(0) */
	{ 10, 2, { 0xa0, 0x11 } },		/* checksum */
	{ 16, 4, { 0xc0, 0xa8, 0x21, 0x14 } },	/* 192.168.33.20 */
};

static const struct patch ipv4_to_server[] = {
	{ 10, 2, { 0xa0, 0x0b } },		/* checksum */
	{ 16, 4, { 0xc0, 0xa8, 0x21, 0x1e } },	/* 192.168.33.30 */
	{ 22, 2, { 0x2d, 0x19 } },		/* ICMP checksum */
	{ 38, 2, { 0x0d, 0xe9 } },		/* checksum of the quoted header */
	{ 40, 4, { 0xc0, 0xa8, 0x21, 0x1e } },	/* 192.168.33.30 */
	{ 48, 4, { 0x1f, 0x90, 0xc3, 0x51 } },	/* 8080 -> 50001 */
	{ 52, 4, { 0xff, 0xff, 0xe8, 0x00 } },	/* 0x800 - 0x2000 */
};

static const struct patch ipv6_to_bridge[] = {
	{ 1, 1, { 0x60 } },
	{ 39, 1, { 0x20 } },
	{ 42, 2, { 0x0d, 0x6a } },		/* ICMPv6 checksum, for the pseudo header */
};

static const struct patch ipv6_to_server[] = {
	{ 39, 1, { 0x30 } },
	{ 42, 2, { 0xe6, 0xe7 } },
	{ 71, 1, { 0x30 } },
	{ 88, 4, { 0x1f, 0x90, 0xc3, 0x51 } },
	{ 92, 4, { 0xff, 0xff, 0xe8, 0x00 } },
};
/* clang-format on */

static const uint8_t server4[] = { 192, 168, 33, 30 }, bridge4[] = { 192, 168, 33, 20 };
static const uint8_t server6[16] = { 0x20, 1, 0x0d, 0xb8, 0, 0x21, [15] = 0x30 };
static const uint8_t bridge6[16] = { 0x20, 1, 0x0d, 0xb8, 0, 0x21, [15] = 0x20 };

/**
 * struct error_fields - what an ICMP error says
 * @outer:	addresses, DSCP, ECN and IP options of the error itself; the rest is not used
 * @inner:	the packet that is quoted, which goes on behind what is quoted
 * @quoted:	how many of its bytes are
 */
struct error_fields {
	struct wire_fields outer, inner;
	uint8_t type, code;
	uint32_t rest;
	size_t quoted;
};

/* RFC 792 and RFC 4443, 2.3; wire_ip_check() wants to know where the header ends: @tcp. */
static uint16_t error_check(const struct wire *w)
{
	uint8_t tail[8] = { [7] = 58 };
	uint16_t sum = 0;

	if (wire_version(w) == 6) {
		wire_put(tail, (uint32_t)(w->len - w->tcp), 4);
		sum = wire_sum(wire_sum(0, w->bytes + 8, 32), tail, sizeof(tail));
	}
	sum = wire_sum(sum, w->bytes + w->tcp, 2);
	return (uint16_t)~wire_sum(sum, w->bytes + w->tcp + 4, w->len - w->tcp - 4);
}

static void error_check_fill(struct wire *w)
{
	if (wire_version(w) == 4)
		wire_put(w->bytes + 10, wire_ip_check(w), 2);
	wire_put(w->bytes + w->tcp + 2, error_check(w), 2);
}

/* The error that says @f, checksums right; in @w->tcp where ICMP begins, in @w->payload the quote.
 */
static void error_make(struct wire *w, const struct error_fields *f)
{
	bool v4 = f->outer.version == 4;
	struct wire inner;

	wire_make(&inner, &f->inner);
	memset(w, 0, sizeof(*w));
	w->tcp = (v4 ? wire_put_ipv4 : wire_put_ipv6)(w->bytes, &f->outer, 8 + f->quoted);
	w->bytes[v4 ? 9 : 6] = v4 ? 1 : 58;
	w->payload = w->tcp + 8;
	w->len = w->payload + f->quoted;
	assert(w->len <= WIRE_MAX && f->quoted <= inner.len);
	w->bytes[w->tcp] = f->type;
	w->bytes[w->tcp + 1] = f->code;
	wire_put(w->bytes + w->tcp + 4, f->rest, 4);
	memcpy(w->bytes + w->payload, inner.bytes, f->quoted);
	error_check_fill(w);
}

static size_t ip_header(unsigned int version)
{
	return version == 4 ? 20 : 40;
}

/* An error of a router about an answer of the VIP, as long as it may be. */
static void base(struct error_fields *f, unsigned int version)
{
	const uint8_t *quote = version == 4 ? ipv4_quote : ipv6_quote;
	size_t at = version == 4 ? 12 : 8, len = version == 4 ? 4 : 16, inner = 28 + at;

	if (version == 6)
		inner = 48 + at;
	*f = (struct error_fields){
		.outer = { .version = version, .dscp = 33, .ecn = 2 },
		.inner = { .version = version,
			   .sport = VIP_PORT,
			   .dport = CLIENT_PORT,
			   .seq = 0x01020304,
			   .ack = 0xa1b2c3d4,
			   .window = 502,
			   .flags = TCP_PSH | TCP_ACK,
			   .options = { 1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 8 },
			   .options_len = 12,
			   .payload = "HTTP/1.1 200 OK",
			   .payload_len = 15 },
		.type = version == 4 ? 3 : 2,
		.code = version == 4 ? 4 : 0,
		.rest = 1280,
	};
	memcpy(f->outer.src, quote + at, len);
	memcpy(f->outer.dst, quote + at + len, len);
	memcpy(f->inner.src, quote + inner, len);
	memcpy(f->inner.dst, quote + inner + len, len);
	f->quoted = ip_header(version) + 20 + 12 + 15;
}

static enum packet_fault fault_of(const uint8_t *bytes, size_t len)
{
	uint8_t *exact = wire_exact(bytes, len);
	struct icmp_quote q;
	enum packet_fault fault = icmp_quote_parse(&q, exact, len);

	/* What is good may be translated, and stays inside as well. */
	if (fault == PACKET_OK) {
		const struct splice s = { .seq_delta = 1 };
		const struct endpoint server = { q.dst, SERVER_PORT };

		(void)icmp_quote_checksum_ok(&q);
		icmp_quote_to_bridge(&q, &server.addr, 63);
		icmp_quote_to_server(&q, &s, SERVER_SIDE, &server);
	}
	free(exact);
	return fault;
}

static void check_addr(const struct addr *addr, unsigned int version, const uint8_t *bytes)
{
	struct addr expected = { .family = (uint8_t)version };

	memcpy(expected.bytes, bytes, version == 4 ? 4 : 16);
	assert_memory_equal(addr, &expected, sizeof(expected));
}

/* @q says what the bytes of @w say. */
static void check_parsed(const struct icmp_quote *q, const struct wire *w)
{
	unsigned int version = wire_version(w);
	size_t at = version == 4 ? 12 : 8, len = version == 4 ? 4 : 16;
	const uint8_t *inner = w->bytes + w->payload, *th = inner + ip_header(version);

	assert_int_equal(q->len, w->len);
	assert_int_equal(q->icmp, w->tcp);
	assert_int_equal(q->inner, w->payload);
	assert_int_equal(q->tcp, w->payload + ip_header(version));
	check_addr(&q->src, version, w->bytes + at);
	check_addr(&q->dst, version, w->bytes + at + len);
	check_addr(&q->tuple.src, version, inner + at);
	check_addr(&q->tuple.dst, version, inner + at + len);
	assert_int_equal(q->tuple.sport, wire_get(th, 2));
	assert_int_equal(q->tuple.dport, wire_get(th + 2, 2));
	assert_int_equal(q->dscp,
			 version == 4 ? w->bytes[1] / 4u : wire_get(w->bytes, 2) / 64 % 64);
}

static void parse(struct icmp_quote *q, struct wire *w)
{
	assert_int_equal(icmp_quote_parse(q, w->bytes, w->len), PACKET_OK);
	check_parsed(q, w);
}

static void check_patched(const uint8_t *bytes, const uint8_t *original, size_t len,
			  const struct patch *patch, size_t patches)
{
	uint8_t expected[sizeof(ipv6_quote)];

	memcpy(expected, original, len);
	for (size_t i = 0; i < patches; i++)
		memcpy(expected + patch[i].at, patch[i].bytes, patch[i].len);
	assert_memory_equal(bytes, expected, len);
}

static const struct splice splice = { .seq_delta = 0x2000, .ts_delta = 0x600, .timestamps = true };

static void test_exact_bytes_ipv4(void **state)
{
	const struct endpoint server = { addr_from_bytes(4, server4), SERVER_PORT };
	const struct addr bridge = addr_from_bytes(4, bridge4);
	struct wire w = { .len = sizeof(ipv4_quote), .tcp = 20, .payload = 28 };
	struct icmp_quote q;

	(void)state;
	memcpy(w.bytes, ipv4_quote, w.len);
	parse(&q, &w);
	assert_ptr_equal(q.data, w.bytes);
	assert_int_equal(q.icmp, 20);
	assert_int_equal(q.inner, 28);
	assert_int_equal(q.tcp, 48);
	assert_int_equal(q.dscp, 0);
	assert_int_equal(q.checksum, CHECKSUM_COMPLETE);
	assert_true(icmp_quote_checksum_ok(&q));
	/* Neither changes anything. */
	assert_memory_equal(w.bytes, ipv4_quote, w.len);

	icmp_quote_to_bridge(&q, &bridge, 1);
	check_parsed(&q, &w);
	check_patched(w.bytes, ipv4_quote, w.len, ipv4_to_bridge, ARRAY_SIZE(ipv4_to_bridge));
	assert_true(icmp_quote_checksum_ok(&q));

	icmp_quote_to_server(&q, &splice, SERVER_SIDE, &server);
	check_parsed(&q, &w);
	check_patched(w.bytes, ipv4_quote, w.len, ipv4_to_server, ARRAY_SIZE(ipv4_to_server));
	assert_true(icmp_quote_checksum_ok(&q));
}

static void test_exact_bytes_ipv6(void **state)
{
	const struct endpoint server = { addr_from_bytes(6, server6), SERVER_PORT };
	const struct addr bridge = addr_from_bytes(6, bridge6);
	struct wire w = { .len = sizeof(ipv6_quote), .tcp = 40, .payload = 48 };
	struct icmp_quote q;

	(void)state;
	memcpy(w.bytes, ipv6_quote, w.len);
	parse(&q, &w);
	assert_int_equal(q.icmp, 40);
	assert_int_equal(q.inner, 48);
	assert_int_equal(q.tcp, 88);
	assert_true(icmp_quote_checksum_ok(&q));
	assert_memory_equal(w.bytes, ipv6_quote, w.len);

	icmp_quote_to_bridge(&q, &bridge, 1);
	check_parsed(&q, &w);
	check_patched(w.bytes, ipv6_quote, w.len, ipv6_to_bridge, ARRAY_SIZE(ipv6_to_bridge));
	assert_true(icmp_quote_checksum_ok(&q));

	icmp_quote_to_server(&q, &splice, SERVER_SIDE, &server);
	check_parsed(&q, &w);
	check_patched(w.bytes, ipv6_quote, w.len, ipv6_to_server, ARRAY_SIZE(ipv6_to_server));
	assert_true(icmp_quote_checksum_ok(&q));
}

/* The buffer ends too early, wherever it ends; and with bytes behind the packet it does not. */
static void test_every_truncation(void **state)
{
	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		struct error_fields f;
		struct icmp_quote q;
		struct wire w;

		base(&f, version);
		error_make(&w, &f);
		for (size_t len = 0; len < w.len; len++)
			assert_int_equal(fault_of(w.bytes, len), PACKET_TRUNCATED);
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_OK);
		/* Ethernet pads short frames. */
		assert_int_equal(icmp_quote_parse(&q, w.bytes, w.len + 13), PACKET_OK);
		check_parsed(&q, &w);
		assert_true(icmp_quote_checksum_ok(&q));
	}
}

/* The header itself says that the packet ends early: eight bytes of TCP must be there. */
static void test_every_total_length(void **state)
{
	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		size_t first = version == 4 ? 4 : 40, least = 2 * ip_header(version) + 16;
		struct error_fields f;
		struct wire w;

		base(&f, version);
		error_make(&w, &f);
		for (size_t len = first; len <= w.len; len++) {
			enum packet_fault fault = len < least ? PACKET_TRUNCATED : PACKET_OK;

			wire_put(w.bytes + (version == 4 ? 2 : 4),
				 (uint32_t)(version == 4 ? len : len - 40), 2);
			assert_int_equal(fault_of(w.bytes, len), fault);
			if (version == 4 && len < 20)
				fault = PACKET_BAD_IP;
			/* The buffer may have more: what the header says counts. */
			assert_int_equal(fault_of(w.bytes, w.len), fault);
		}
		wire_put(w.bytes + (version == 4 ? 2 : 4), 0xffff, 2);
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_TRUNCATED);
	}
}

/* As much of TCP as a router likes to quote: never read behind it, never needed more than eight. */
static void test_every_length_of_quote(void **state)
{
	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		struct error_fields f;
		size_t most;

		base(&f, version);
		most = f.quoted;
		for (f.quoted = 0; f.quoted <= most; f.quoted++) {
			bool enough = f.quoted >= ip_header(version) + 8;
			struct icmp_quote q;
			struct wire w;

			error_make(&w, &f);
			assert_int_equal(fault_of(w.bytes, w.len),
					 enough ? PACKET_OK : PACKET_TRUNCATED);
			if (enough) {
				parse(&q, &w);
				assert_true(icmp_quote_checksum_ok(&q));
			}
		}
	}
}

static void test_types(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 256; n++) {
		unsigned int version = n % 2 ? 6 : 4, type = n / 2;
		struct error_fields f;
		struct wire w;
		bool error;

		base(&f, version);
		f.type = (uint8_t)type;
		f.code = (uint8_t)n;
		error_make(&w, &f);
		if (version == 4)
			error = type == 3 || type == 11 || type == 12;
		else
			error = type >= 1 && type <= 4;
		assert_int_equal(fault_of(w.bytes, w.len), error ? PACKET_OK : PACKET_NOT_TCP);
	}
}

/* Of the error, and of the packet that is quoted. Neither family says the other's ICMP. */
static void test_protocols(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 256; n++) {
		unsigned int version = n % 2 ? 6 : 4, protocol = n / 2;
		size_t at = version == 4 ? 9 : 6;
		struct error_fields f;
		struct wire w;

		base(&f, version);
		error_make(&w, &f);
		w.bytes[at] = (uint8_t)protocol;
		assert_int_equal(fault_of(w.bytes, w.len),
				 protocol == (version == 4 ? 1 : 58) ? PACKET_OK : PACKET_NOT_TCP);
		error_make(&w, &f);
		w.bytes[w.payload + at] = (uint8_t)protocol;
		assert_int_equal(fault_of(w.bytes, w.len),
				 protocol == 6 ? PACKET_OK : PACKET_NOT_TCP);
	}
}

/* First byte of the error: version, and with IPv4 the header length, which moves all that follows.
 */
static void test_version_and_header_length(void **state)
{
	(void)state;
	for (unsigned int words = 5; words < 16; words++) {
		struct error_fields f;
		struct icmp_quote q;
		struct wire w;

		base(&f, 4);
		f.outer.ip_options_len = (words - 5) * 4;
		memset(f.outer.ip_options, 1, sizeof(f.outer.ip_options));
		error_make(&w, &f);
		parse(&q, &w);
		assert_true(icmp_quote_checksum_ok(&q));
	}
	for (unsigned int first = 0; first < 256; first++) {
		unsigned int version = first / 16, words = first % 16;
		struct error_fields f;
		struct wire w;

		base(&f, 4);
		error_make(&w, &f);
		w.bytes[0] = (uint8_t)first;
		if (version != 4 && version != 6)
			assert_int_equal(fault_of(w.bytes, w.len), PACKET_BAD_IP);
		else if (version == 4 && words < 5)
			assert_int_equal(fault_of(w.bytes, w.len), PACKET_BAD_IP);
		else if (version == 4 && words > 5)
			/* Zeros and other fields are read as types, or as the quoted header. */
			assert_int_not_equal(fault_of(w.bytes, w.len), PACKET_OK);
	}
	for (uint32_t len = 0; len < 60; len++) {
		struct error_fields f;
		struct wire w;

		base(&f, 4);
		f.outer.ip_options_len = 40;
		error_make(&w, &f);
		wire_put(w.bytes + 2, len, 2);
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_BAD_IP);
	}
}

/* Packets with IP options are none of ours: they are not looked into. */
static void test_quoted_ip_header(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 256; n++) {
		unsigned int version = n % 2 ? 6 : 4, first = n / 2;
		struct error_fields f;
		struct wire w;
		bool fits;

		base(&f, version);
		error_make(&w, &f);
		w.bytes[w.payload] = (uint8_t)first;
		fits = version == 4 ? first == 0x45 : first / 16 == 6;
		assert_int_equal(fault_of(w.bytes, w.len), fits ? PACKET_OK : PACKET_NOT_TCP);
	}
	for (size_t len = 4; len <= 40; len += 4) {
		struct error_fields f;
		struct wire w;

		base(&f, 4);
		memset(f.inner.ip_options, 1, len);
		f.inner.ip_options_len = len;
		for (f.quoted = 28; f.quoted <= 67 + len; f.quoted++) {
			error_make(&w, &f);
			assert_int_equal(fault_of(w.bytes, w.len), PACKET_NOT_TCP);
		}
	}
	/* A family in the other one's errors. */
	for (unsigned int version = 4; version <= 6; version += 2) {
		struct error_fields f, other;
		struct wire w;

		base(&f, version);
		base(&other, 10 - version);
		f.inner = other.inner;
		f.quoted = other.quoted;
		error_make(&w, &f);
		assert_int_equal(fault_of(w.bytes, w.len), PACKET_NOT_TCP);
	}
}

static void test_fragments(void **state)
{
	static const struct {
		uint16_t field;
		enum packet_fault fault;
	} cases[] = {
		{ 0x0000, PACKET_OK },	     { 0x4000, PACKET_OK },
		{ 0x8000, PACKET_OK },	     { 0x2000, PACKET_FRAGMENT },
		{ 0x2001, PACKET_FRAGMENT }, { 0x0001, PACKET_FRAGMENT },
		{ 0x1000, PACKET_FRAGMENT }, { 0x1fff, PACKET_FRAGMENT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error_fields f;
		struct wire w;

		base(&f, 4);
		error_make(&w, &f);
		wire_put(w.bytes + 6, cases[i].field, 2);
		assert_int_equal(fault_of(w.bytes, w.len), cases[i].fault);
	}
}

/*
 * An IPv4-mapped address on the wire is none (RFC 4291, 2.5.5.2): it would turn into IPv4 on entry,
 * and make a packet of two families.
 */
static void test_mapped_addresses(void **state)
{
	static const uint8_t mapped[16] = { [10] = 0xff, 0xff, 198, 51, 100, 7 };
	static const size_t at[] = { 8, 24, 48 + 8, 48 + 24 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		struct error_fields f;
		struct wire w;

		base(&f, 6);
		error_make(&w, &f);
		memcpy(w.bytes + at[i], mapped, sizeof(mapped));
		assert_int_equal(fault_of(w.bytes, w.len),
				 at[i] < 48 ? PACKET_BAD_IP : PACKET_NOT_TCP);
	}
}

/* Every bit under the checksum counts. */
static void test_checksum_ok(void **state)
{
	(void)state;
	for (unsigned int version = 4; version <= 6; version += 2) {
		struct error_fields f;
		struct wire w;

		base(&f, version);
		/* A last byte without a second one, and with one. */
		for (unsigned int odd = 0; odd < 2; odd++) {
			error_make(&w, &f);
			for (size_t bit = w.tcp * 8; bit < w.len * 8; bit++) {
				struct icmp_quote q;

				parse(&q, &w);
				w.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
				assert_false(icmp_quote_checksum_ok(&q));
				w.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
				assert_true(icmp_quote_checksum_ok(&q));
			}
			f.quoted--;
		}
	}
}

static void random_addr(struct addr *addr, unsigned int version)
{
	uint8_t bytes[16];

	wire_random_bytes(bytes, sizeof(bytes));
	*addr = addr_from_bytes(version, bytes);
}

/* Any error about any packet, in either family. */
static void random_error(struct error_fields *f)
{
	static const uint8_t types4[] = { 3, 11, 12 };
	unsigned int version = rand() % 2 ? 4 : 6;

	memset(f, 0, sizeof(*f));
	wire_random_fields(&f->outer, version);
	wire_random_fields(&f->inner, version);
	if (version == 4) {
		f->outer.ip_options_len = wire_random() % 11 * 4;
		wire_random_bytes(f->outer.ip_options, f->outer.ip_options_len);
	}
	f->type = version == 4 ? types4[rand() % 3] : (uint8_t)(1 + rand() % 4);
	f->code = (uint8_t)rand();
	f->rest = wire_random();
	f->quoted =
		ip_header(version) + 8 + wire_random() % (12 + (uint32_t)f->inner.payload_len + 1);
}

/* How far the ICMP checksum is from the right one; 0 and 65535 are the same. */
static unsigned int damage_of(const struct wire *w)
{
	return (wire_get(w->bytes + w->tcp + 2, 2) + 65535 - error_check(w)) % 65535;
}

/* Steering changes destination and DSCP field, and what was damaged is no less so. */
static void test_to_bridge(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct error_fields f;
		struct wire w, expected;
		struct icmp_quote q;
		struct addr bridge;
		unsigned int damage;

		random_error(&f);
		error_make(&w, &f);
		if (i % 4 == 0)
			w.bytes[w.tcp + 1 + (size_t)rand() % 3] ^= (uint8_t)(1 << rand() % 8);
		damage = damage_of(&w);
		parse(&q, &w);
		random_addr(&bridge, f.outer.version);
		f.outer.dscp = (uint8_t)(i % 64);
		memcpy(f.outer.dst, bridge.bytes, 16);
		icmp_quote_to_bridge(&q, &bridge, f.outer.dscp);
		check_parsed(&q, &w);
		assert_int_equal(damage_of(&w), damage);
		assert_int_equal(icmp_quote_checksum_ok(&q), damage == 0);
		if (i % 4) {
			error_make(&expected, &f);
			assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));
		}
	}
}

/* The translation of @f by @s is @w; what lies behind the sequence number is left as it was. */
static void check_to_server(struct error_fields *f, const struct splice *s)
{
	struct endpoint server = { .port = SERVER_PORT };
	struct wire w, expected;
	struct icmp_quote q;
	uint8_t *inner;

	error_make(&w, f);
	random_addr(&server.addr, f->outer.version);
	f->outer.dscp = 0;
	memcpy(f->outer.dst, server.addr.bytes, 16);
	error_make(&expected, f);
	inner = expected.bytes + expected.payload;
	if (f->outer.version == 4) {
		memcpy(inner + 12, server.addr.bytes, 4);
		wire_put(inner + 10, 0, 2);
		wire_put(inner + 10, (uint16_t)~wire_sum(0, inner, 20), 2);
	} else {
		memcpy(inner + 8, server.addr.bytes, 16);
	}
	inner += ip_header(f->outer.version);
	wire_put(inner, SERVER_PORT, 2);
	wire_put(inner + 2, SERVER_SIDE, 2);
	wire_put(inner + 4, f->inner.seq - s->seq_delta, 4);
	error_check_fill(&expected);

	parse(&q, &w);
	q.checksum = (uint8_t)(rand() % 3);
	icmp_quote_to_server(&q, s, SERVER_SIDE, &server);
	check_parsed(&q, &w);
	assert_memory_equal(w.bytes, expected.bytes, sizeof(w.bytes));
	assert_true(icmp_quote_checksum_ok(&q));
	assert_int_equal(q.checksum, CHECKSUM_COMPLETE);
}

static void test_to_server(void **state)
{
	(void)state;
	for (int i = 0; i < 20000; i++) {
		const struct splice s = {
			.seq_delta = wire_random(),
			.ts_delta = wire_random(),
			.timestamps = rand() % 2,
		};
		struct error_fields f;

		random_error(&f);
		check_to_server(&f, &s);
	}
}

/* Sequence numbers around 2^32 with differences around 2^32. */
static void test_wrap_around(void **state)
{
	static const uint32_t edge[] = { 0,	     1,		 0x7ffffffe, 0x7fffffff,
					 0x80000000, 0xfffffffe, 0xffffffff, 0x12345678 };
	const size_t n = ARRAY_SIZE(edge);

	(void)state;
	for (size_t i = 0; i < 2 * n * n; i++) {
		const struct splice s = { .seq_delta = edge[i / n % n] };
		struct error_fields f;

		base(&f, i < n * n ? 4 : 6);
		f.inner.seq = edge[i % n];
		check_to_server(&f, &s);
		f.quoted = ip_header(f.outer.version) + 8;
		check_to_server(&f, &s);
	}
}

/* Whatever comes: no access outside, and what is said to be there lies inside. */
static void test_random_bytes(void **state)
{
	unsigned int good = 0;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct error_fields f;
		struct icmp_quote q;
		struct wire w;
		size_t len;
		uint8_t *exact;

		random_error(&f);
		error_make(&w, &f);
		for (int n = rand() % 6; n; n--)
			w.bytes[(size_t)rand() % (rand() % 2 ? w.len : 10)] ^=
				(uint8_t)(rand() % 3 ? 1 << rand() % 8 : rand());
		len = rand() % 2 ? w.len : (size_t)rand() % (w.len + 9);
		exact = wire_exact(w.bytes, len);
		if (icmp_quote_parse(&q, exact, len) == PACKET_OK) {
			assert_in_range(q.len, 56, len);
			assert_in_range(q.icmp, 20, 60);
			assert_int_equal(q.inner, q.icmp + 8);
			assert_in_range(q.tcp, q.inner + 20, q.len - 8);
			good++;
		}
		free(exact);
		(void)fault_of(w.bytes, len);
	}
	assert_in_range(good, 20000, 180000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_bytes_ipv4),
		cmocka_unit_test(test_exact_bytes_ipv6),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_total_length),
		cmocka_unit_test(test_every_length_of_quote),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_version_and_header_length),
		cmocka_unit_test(test_quoted_ip_header),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_mapped_addresses),
		cmocka_unit_test(test_checksum_ok),
		cmocka_unit_test(test_to_bridge),
		cmocka_unit_test(test_to_server),
		cmocka_unit_test(test_wrap_around),
		cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
