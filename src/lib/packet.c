/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsing, changing and building TCP packets over IPv4 and IPv6. */
#include "packet.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#include "checksum.h"
#include "tcp_options.h"

#define IPV4_HEADER    20
#define IPV6_HEADER    40
#define TCP_HEADER     20
#define TCP_HEADER_MAX 60

/* Offsets inside the TCP header (RFC 9293, 3.1). */
enum { TH_SPORT = 0, TH_DPORT = 2, TH_SEQ = 4, TH_ACK = 8, TH_OFFSET = 12, TH_FLAGS = 13 };
enum { TH_WINDOW = 14, TH_CHECK = 16 };

static enum packet_fault parse_ipv4(struct packet *p, size_t buffer)
{
	const uint8_t *ip = p->data;
	size_t header;

	if (buffer < IPV4_HEADER)
		return PACKET_TRUNCATED;
	header = (ip[0] & 0x0fu) * 4u;
	p->len = get_be16(ip + 2);
	if (header < IPV4_HEADER || p->len < header)
		return PACKET_BAD_IP;
	if (p->len > buffer)
		return PACKET_TRUNCATED;
	if (get_be16(ip + 6) & 0x3fff) /* MF or an offset; DF and the reserved bit do not matter */
		return PACKET_FRAGMENT;
	if (ip[9] != IPPROTO_TCP)
		return PACKET_NOT_TCP;

	p->dscp = ip[1] >> 2;
	p->tuple.src = addr_from_bytes(4, ip + 12);
	p->tuple.dst = addr_from_bytes(4, ip + 16);
	p->tcp = (uint16_t)header;
	return PACKET_OK;
}

/*
 * Hop-by-hop options, routing and destination options are walked (RFC 8200, 4). A fragment header
 * that says "this is all" (RFC 6946) is one more header; any other makes it a fragment. Behind an
 * authentication header nothing may be translated, so that is not TCP to us.
 */
static enum packet_fault walk_ipv6(const struct packet *p, size_t *at, uint8_t *protocol)
{
	uint8_t next = p->data[6];

	*at = IPV6_HEADER;
	for (;;) {
		const uint8_t *header = p->data + *at;
		size_t len;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			break;
		if (*at + 8 > p->len)
			return PACKET_TRUNCATED;
		if (next == IPPROTO_FRAGMENT && get_be16(header + 2) & 0xfff9)
			return PACKET_FRAGMENT;
		len = next == IPPROTO_FRAGMENT ? 8 : (header[1] + 1u) * 8u;
		next = header[0];
		*at += len;
		if (*at > p->len)
			return PACKET_TRUNCATED;
	}
	*protocol = next;
	return PACKET_OK;
}

static enum packet_fault parse_ipv6(struct packet *p, size_t buffer)
{
	const uint8_t *ip = p->data;
	enum packet_fault fault;
	uint8_t protocol;
	size_t at;

	if (buffer < IPV6_HEADER)
		return PACKET_TRUNCATED;
	p->len = IPV6_HEADER + (size_t)get_be16(ip + 4);
	if (p->len > buffer)
		return PACKET_TRUNCATED;
	fault = walk_ipv6(p, &at, &protocol);
	if (fault != PACKET_OK)
		return fault;
	if (protocol != IPPROTO_TCP)
		return PACKET_NOT_TCP;

	p->dscp = (uint8_t)((ip[0] & 0x0f) << 2 | ip[1] >> 6);
	p->tuple.src = addr_from_bytes(6, ip + 8);
	p->tuple.dst = addr_from_bytes(6, ip + 24);
	/* IPv4-mapped addresses stand for IPv4 in sockets, never on a wire (RFC 4038, 4.2). */
	if (p->tuple.src.family != 6 || p->tuple.dst.family != 6)
		return PACKET_BAD_IP;
	/* Behind 64 KiB of extension headers: nobody sends that, and offsets have 16 bits. */
	if (at + TCP_HEADER_MAX > UINT16_MAX)
		return PACKET_BAD_IP;
	p->tcp = (uint16_t)at;
	return PACKET_OK;
}

static enum packet_fault parse_tcp(struct packet *p)
{
	const uint8_t *th = p->data + p->tcp;
	size_t header;

	if (p->len - p->tcp < TCP_HEADER)
		return PACKET_TRUNCATED;
	header = (size_t)(th[TH_OFFSET] >> 4) * 4;
	if (header < TCP_HEADER || header > p->len - p->tcp)
		return PACKET_BAD_TCP;

	p->payload = (uint16_t)(p->tcp + header);
	p->tuple.sport = get_be16(th + TH_SPORT);
	p->tuple.dport = get_be16(th + TH_DPORT);
	p->seq = get_be32(th + TH_SEQ);
	p->ack = get_be32(th + TH_ACK);
	p->flags = th[TH_FLAGS];
	p->window = get_be16(th + TH_WINDOW);
	p->checksum = CHECKSUM_COMPLETE;
	return PACKET_OK;
}

enum packet_fault packet_parse(struct packet *p, void *data, size_t len)
{
	enum packet_fault fault;

	p->data = data;
	if (len < 1)
		return PACKET_TRUNCATED;
	switch (p->data[0] >> 4) {
	case 4:
		fault = parse_ipv4(p, len);
		break;
	case 6:
		fault = parse_ipv6(p, len);
		break;
	default:
		return PACKET_BAD_IP;
	}
	return fault == PACKET_OK ? parse_tcp(p) : fault;
}

static uint64_t pseudo_sum(const struct packet *p)
{
	return csum_pseudo(&p->tuple.src, &p->tuple.dst, IPPROTO_TCP, p->len - p->tcp);
}

bool packet_tcp_checksum_ok(const struct packet *p)
{
	return csum_fold(csum_add(pseudo_sum(p), p->data + p->tcp, p->len - p->tcp)) == 0;
}

/* The IPv4 header checksum; IPv6 has none. */
static void fill_ip_checksum(struct packet *p)
{
	uint16_t check = 0;

	if (p->tuple.src.family != 4)
		return;
	memcpy(p->data + 10, &check, sizeof(check));
	check = csum_fold(csum_add(0, p->data, p->tcp));
	memcpy(p->data + 10, &check, sizeof(check));
}

void packet_checksum_fill(struct packet *p)
{
	uint8_t *field = p->data + p->tcp + TH_CHECK;
	uint16_t check = 0;

	fill_ip_checksum(p);
	memcpy(field, &check, sizeof(check));
	check = csum_fold(csum_add(pseudo_sum(p), p->data + p->tcp, p->len - p->tcp));
	memcpy(field, &check, sizeof(check));
	p->checksum = CHECKSUM_COMPLETE;
}

uint64_t packet_header_sum(const struct packet *p)
{
	return csum_add(pseudo_sum(p), p->data + p->tcp, (size_t)p->payload - p->tcp);
}

void packet_checksum_adjust(struct packet *p, uint64_t before)
{
	uint8_t *field = p->data + p->tcp + TH_CHECK;
	uint16_t check, old = csum_fold(before), new = csum_fold(packet_header_sum(p));
	uint64_t sum;

	if (p->checksum == CHECKSUM_PARTIAL) {
		packet_checksum_fill(p);
		return;
	}
	fill_ip_checksum(p);

	/*
	 * RFC 1624: HC' = ~(~HC + ~m + m'). The stored checksum stood in both header sums with the
	 * same value, so it cancels. csum_fold() gives complements: ~m is old, m' is ~new.
	 */
	memcpy(&check, field, sizeof(check));
	sum = csum_unfold(check) + old + (uint16_t) ~new;
	check = csum_fold(sum);
	memcpy(field, &check, sizeof(check));
}

static void put_addr(struct packet *p, size_t v4_at, size_t v6_at, const struct addr *addr)
{
	assert(addr->family == p->data[0] >> 4);
	memcpy(p->data + (addr->family == 4 ? v4_at : v6_at), addr->bytes, addr_len(addr));
}

void packet_set_src(struct packet *p, const struct addr *addr, uint16_t port)
{
	put_addr(p, 12, 8, addr);
	put_be16(p->data + p->tcp + TH_SPORT, port);
	p->tuple.src = *addr;
	p->tuple.sport = port;
}

void packet_set_dst(struct packet *p, const struct addr *addr, uint16_t port)
{
	put_addr(p, 16, 24, addr);
	put_be16(p->data + p->tcp + TH_DPORT, port);
	p->tuple.dst = *addr;
	p->tuple.dport = port;
}

void packet_set_seq(struct packet *p, uint32_t seq)
{
	put_be32(p->data + p->tcp + TH_SEQ, seq);
	p->seq = seq;
}

void packet_set_ack(struct packet *p, uint32_t ack)
{
	put_be32(p->data + p->tcp + TH_ACK, ack);
	p->ack = ack;
}

void packet_set_window(struct packet *p, uint16_t window)
{
	put_be16(p->data + p->tcp + TH_WINDOW, window);
	p->window = window;
}

void packet_set_flags(struct packet *p, uint8_t flags)
{
	p->data[p->tcp + TH_FLAGS] = flags;
	p->flags = flags;
}

void packet_set_dscp(struct packet *p, uint8_t dscp)
{
	uint8_t *ip = p->data;

	if (p->tuple.src.family == 4) {
		ip[1] = (uint8_t)(dscp << 2 | (ip[1] & 0x03));
	} else {
		ip[0] = (uint8_t)((ip[0] & 0xf0) | dscp >> 2);
		ip[1] = (uint8_t)(dscp << 6 | (ip[1] & 0x3f));
	}
	p->dscp = dscp;
}

void packet_truncate(struct packet *p, size_t payload_len)
{
	assert(payload_len <= packet_payload_len(p));
	p->len = p->payload + payload_len;
	if (p->tuple.src.family == 4)
		put_be16(p->data + 2, (uint16_t)p->len);
	else
		put_be16(p->data + 4, (uint16_t)(p->len - IPV6_HEADER));
}

static size_t build_ip(const struct packet_spec *spec, uint8_t *ip, size_t tcp_len)
{
	uint8_t ttl = spec->ttl ? spec->ttl : 64;

	if (spec->tuple.src.family == 4) {
		memset(ip, 0, IPV4_HEADER);
		ip[0] = 0x45;
		ip[1] = (uint8_t)(spec->dscp << 2);
		put_be16(ip + 2, (uint16_t)(IPV4_HEADER + tcp_len));
		ip[6] = 0x40; /* DF: as every packet of Linux's TCP */
		ip[8] = ttl;
		ip[9] = IPPROTO_TCP;
		memcpy(ip + 12, spec->tuple.src.bytes, 4);
		memcpy(ip + 16, spec->tuple.dst.bytes, 4);
		return IPV4_HEADER;
	}
	memset(ip, 0, IPV6_HEADER);
	ip[0] = (uint8_t)(0x60 | spec->dscp >> 2);
	ip[1] = (uint8_t)(spec->dscp << 6);
	put_be16(ip + 4, (uint16_t)tcp_len);
	ip[6] = IPPROTO_TCP;
	ip[7] = ttl;
	memcpy(ip + 8, spec->tuple.src.bytes, 16);
	memcpy(ip + 24, spec->tuple.dst.bytes, 16);
	return IPV6_HEADER;
}

size_t packet_build(const struct packet_spec *spec, uint8_t *buf, size_t size)
{
	size_t ip_len = spec->tuple.src.family == 4 ? IPV4_HEADER : IPV6_HEADER;
	size_t header = TCP_HEADER + spec->options_len, total = ip_len + header + spec->payload_len;
	struct packet p;
	uint8_t *th;

	if (spec->options_len > TCP_OPTIONS_MAX || spec->options_len % 4 || total > size ||
	    total > UINT16_MAX)
		return 0;

	th = buf + build_ip(spec, buf, header + spec->payload_len);
	memset(th, 0, TCP_HEADER);
	put_be16(th + TH_SPORT, spec->tuple.sport);
	put_be16(th + TH_DPORT, spec->tuple.dport);
	put_be32(th + TH_SEQ, spec->seq);
	put_be32(th + TH_ACK, spec->ack);
	th[TH_OFFSET] = (uint8_t)(header / 4 << 4);
	th[TH_FLAGS] = spec->flags;
	put_be16(th + TH_WINDOW, spec->window);
	if (spec->options_len)
		memcpy(th + TCP_HEADER, spec->options, spec->options_len);
	if (spec->payload_len)
		memcpy(th + header, spec->payload, spec->payload_len);

	if (packet_parse(&p, buf, total) != PACKET_OK)
		return 0;
	packet_checksum_fill(&p);
	return total;
}
