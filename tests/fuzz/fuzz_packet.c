/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: parsing of packets, and all setters and builders on what was parsed. */
#include "fuzz.h"
#include "lib/packet.h"
#include "lib/tcp_options.h"

/* The whole input is the packet. */

static void check_bounds(const struct packet *p, size_t size)
{
	size_t options_len;

	CHECK(p->len <= size);
	CHECK(p->tcp >= 20 && p->payload >= p->tcp + 20 && p->payload <= p->len);
	CHECK(packet_options(p, &options_len) == p->data + p->tcp + 20);
	CHECK(options_len <= TCP_OPTIONS_MAX && options_len % 4 == 0);
	CHECK(packet_payload_len(p) + p->payload == p->len);
	CHECK(packet_seq_len(p) - packet_payload_len(p) <= 2);
	CHECK(p->dscp < 64);
	CHECK(p->tuple.src.family == p->tuple.dst.family);
	CHECK(p->tuple.src.family == p->data[0] >> 4);
}

/* What stands in the buffer is what the struct says. */
static void check_agreement(const struct packet *p)
{
	struct packet again;

	CHECK(packet_parse(&again, p->data, p->len) == PACKET_OK);
	CHECK(again.len == p->len && again.tcp == p->tcp && again.payload == p->payload);
	CHECK(memcmp(&again.tuple, &p->tuple, sizeof(p->tuple)) == 0);
	CHECK(again.seq == p->seq && again.ack == p->ack && again.window == p->window);
	CHECK(again.flags == p->flags && again.dscp == p->dscp);
}

/* Not a mapped one: the begin stays. */
static struct addr other_addr(struct addr addr)
{
	addr.bytes[addr_len(&addr) - 1] ^= 0xff;
	return addr;
}

static void check_setters(struct packet *p)
{
	struct addr src = other_addr(p->tuple.src), dst = other_addr(p->tuple.dst);
	uint8_t ecn = p->tuple.src.family == 4 ? p->data[1] & 3 : p->data[1] >> 4 & 3;
	bool good = packet_tcp_checksum_ok(p);
	uint64_t before = packet_header_sum(p);

	packet_set_src(p, &src, (uint16_t)~p->tuple.sport);
	packet_set_dst(p, &dst, (uint16_t)~p->tuple.dport);
	packet_set_seq(p, ~p->seq);
	packet_set_ack(p, ~p->ack);
	packet_set_window(p, (uint16_t)~p->window);
	packet_set_flags(p, (uint8_t)~p->flags);
	packet_set_dscp(p, p->dscp ^ 0x3f);
	check_agreement(p);
	CHECK((p->tuple.src.family == 4 ? p->data[1] & 3 : p->data[1] >> 4 & 3) == ecn);
	packet_checksum_adjust(p, before);
	CHECK(packet_tcp_checksum_ok(p) == good);
	packet_checksum_fill(p);
	CHECK(packet_tcp_checksum_ok(p));
	check_agreement(p);
}

/* The same packet made from nothing: without IPv4 options and IPv6 extension headers. */
static void check_build(const struct packet *p)
{
	struct packet_spec spec = {
		.tuple = p->tuple,
		.seq = p->seq,
		.ack = p->ack,
		.window = p->window,
		.flags = p->flags,
		.dscp = p->dscp,
		.payload = p->data + p->payload,
		.payload_len = packet_payload_len(p),
	};
	struct packet built;
	uint8_t *buf;
	size_t len;

	spec.options = packet_options(p, &spec.options_len);
	len = (p->tuple.src.family == 4 ? 20 : 40) + p->len - p->tcp;
	buf = fuzz_copy(NULL, 0, len);
	CHECK(packet_build(&spec, buf, len - 1) == 0);
	CHECK(packet_build(&spec, buf, len) == len);
	CHECK(packet_parse(&built, buf, len) == PACKET_OK);
	CHECK(packet_tcp_checksum_ok(&built));
	CHECK(memcmp(&built.tuple, &p->tuple, sizeof(p->tuple)) == 0);
	CHECK(built.seq == p->seq && built.ack == p->ack && built.window == p->window);
	CHECK(built.flags == p->flags && built.dscp == p->dscp);
	CHECK(memcmp(buf + built.tcp + 20, p->data + p->tcp + 20, p->len - p->tcp - 20) == 0);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(data, size, size);
	struct packet p;
	enum packet_fault fault = packet_parse(&p, copy, size);

	CHECK(fault < PACKET_FAULTS);
	CHECK(size == 0 || memcmp(copy, data, size) == 0);
	if (fault == PACKET_OK) {
		check_bounds(&p, size);
		check_agreement(&p);
		check_build(&p);
		check_setters(&p);
		packet_truncate(&p, packet_payload_len(&p) / 2);
		check_bounds(&p, size);
		check_agreement(&p);
	}
	free(copy);
	return 0;
}
