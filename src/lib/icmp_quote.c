/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsing and translating ICMP errors about TCP packets. */
#include "icmp_quote.h"

#include <netinet/in.h>
#include <string.h>

#include "checksum.h"

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define ICMP_HEADER 8
#define QUOTED_TCP  8 /* ports and sequence number */

static bool is_error(uint8_t version, uint8_t type)
{
	if (version == 4) /* destination unreachable, time exceeded, parameter problem */
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4; /* the same, and packet too big */
}

/* The outer header; IPv6 errors come without extension headers. */
static enum packet_fault parse_outer(struct icmp_quote *q, size_t buffer)
{
	const uint8_t *ip = q->data;
	bool v4 = ip[0] >> 4 == 4;

	if (buffer < (v4 ? IPV4_HEADER : IPV6_HEADER))
		return PACKET_TRUNCATED;
	if (ip[v4 ? 9 : 6] != (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return PACKET_NOT_TCP;
	if (v4) {
		q->icmp = (uint16_t)((ip[0] & 0x0f) * 4);
		q->len = get_be16(ip + 2);
		if (q->icmp < IPV4_HEADER || q->len < q->icmp)
			return PACKET_BAD_IP;
		if (get_be16(ip + 6) & 0x3fff)
			return PACKET_FRAGMENT;
		q->dscp = ip[1] >> 2;
	} else {
		q->icmp = IPV6_HEADER;
		q->len = IPV6_HEADER + (size_t)get_be16(ip + 4);
		q->dscp = (uint8_t)((ip[0] & 0x0f) << 2 | ip[1] >> 6);
	}
	if (q->len > buffer)
		return PACKET_TRUNCATED;
	q->src = addr_from_bytes(v4 ? 4 : 6, ip + (v4 ? 12 : 8));
	q->dst = addr_from_bytes(v4 ? 4 : 6, ip + (v4 ? 16 : 24));
	/* As in packet_parse(): no IPv4-mapped address comes over a wire. */
	if (!v4 && (q->src.family != 6 || q->dst.family != 6))
		return PACKET_BAD_IP;
	return PACKET_OK;
}

enum packet_fault icmp_quote_parse(struct icmp_quote *q, void *data, size_t len)
{
	enum packet_fault fault;
	const uint8_t *inner;
	uint8_t version;
	size_t header;

	q->data = data;
	q->checksum = CHECKSUM_COMPLETE;
	if (len < 1)
		return PACKET_TRUNCATED;
	version = q->data[0] >> 4;
	if (version != 4 && version != 6)
		return PACKET_BAD_IP;
	fault = parse_outer(q, len);
	if (fault != PACKET_OK)
		return fault;

	header = version == 4 ? IPV4_HEADER : IPV6_HEADER;
	if (q->len < q->icmp + ICMP_HEADER + header + QUOTED_TCP)
		return PACKET_TRUNCATED;
	inner = q->data + q->icmp + ICMP_HEADER;
	if (!is_error(version, q->data[q->icmp]) || inner[0] >> 4 != version ||
	    (version == 4 && (inner[0] & 0x0f) != 5) || inner[version == 4 ? 9 : 6] != IPPROTO_TCP)
		return PACKET_NOT_TCP;

	q->inner = (uint16_t)(q->icmp + ICMP_HEADER);
	q->tcp = (uint16_t)(q->inner + header);
	q->tuple.src = addr_from_bytes(version, inner + (version == 4 ? 12 : 8));
	q->tuple.dst = addr_from_bytes(version, inner + (version == 4 ? 16 : 24));
	if (q->tuple.src.family != version || q->tuple.dst.family != version)
		return PACKET_NOT_TCP;
	q->tuple.sport = get_be16(q->data + q->tcp);
	q->tuple.dport = get_be16(q->data + q->tcp + 2);
	return PACKET_OK;
}

/* RFC 792: over the message alone; RFC 4443, 2.3: with the pseudo header. */
static uint16_t icmp_sum(const struct icmp_quote *q)
{
	size_t len = q->len - q->icmp;
	uint64_t sum = q->src.family == 4 ? 0 : csum_pseudo(&q->src, &q->dst, IPPROTO_ICMPV6, len);

	return csum_fold(csum_add(sum, q->data + q->icmp, len));
}

bool icmp_quote_checksum_ok(const struct icmp_quote *q)
{
	return icmp_sum(q) == 0;
}

static void put_checksum(uint8_t *field, uint16_t check)
{
	memcpy(field, &check, sizeof(check));
}

/* An IPv4 header of @len bytes at @ip; IPv6 has no checksum there. */
static void fill_ip_checksum(uint8_t *ip, size_t len)
{
	if (ip[0] >> 4 != 4)
		return;
	put_checksum(ip + 10, 0);
	put_checksum(ip + 10, csum_fold(csum_add(0, ip, len)));
}

static void fill_icmp_checksum(struct icmp_quote *q)
{
	uint8_t *field = q->data + q->icmp + 2;

	put_checksum(field, 0);
	put_checksum(field, icmp_sum(q));
	q->checksum = CHECKSUM_COMPLETE;
}

static void set_dst(struct icmp_quote *q, const struct addr *addr, uint8_t dscp)
{
	uint8_t *ip = q->data;

	if (addr->family == 4) {
		memcpy(ip + 16, addr->bytes, 4);
		ip[1] = (uint8_t)(dscp << 2 | (ip[1] & 0x03));
	} else {
		memcpy(ip + 24, addr->bytes, 16);
		ip[0] = (uint8_t)((ip[0] & 0xf0) | dscp >> 2);
		ip[1] = (uint8_t)(dscp << 6 | (ip[1] & 0x3f));
	}
	q->dst = *addr;
	q->dscp = dscp;
	fill_ip_checksum(ip, q->icmp);
}

void icmp_quote_to_bridge(struct icmp_quote *q, const struct addr *bridge, uint8_t index)
{
	uint64_t before = csum_pseudo(&q->src, &q->dst, IPPROTO_ICMPV6, 0), after;
	uint8_t *field = q->data + q->icmp + 2;
	uint16_t check;

	set_dst(q, bridge, index);
	if (q->src.family == 4)
		return;
	/* The pseudo header has changed: by difference (RFC 1624), so that damage is still seen. */
	after = csum_pseudo(&q->src, &q->dst, IPPROTO_ICMPV6, 0);
	memcpy(&check, field, sizeof(check));
	put_checksum(field, csum_fold(csum_unfold(check) + csum_fold(before) +
				      (uint16_t)~csum_fold(after)));
}

void icmp_quote_to_server(struct icmp_quote *q, const struct splice *s, uint16_t client_port,
			  const struct endpoint *server)
{
	uint8_t *inner = q->data + q->inner, *tcp = q->data + q->tcp;

	memcpy(inner + (server->addr.family == 4 ? 12 : 8), server->addr.bytes,
	       addr_len(&server->addr));
	fill_ip_checksum(inner, (size_t)q->tcp - q->inner);
	put_be16(tcp, server->port);
	put_be16(tcp + 2, client_port);
	put_be32(tcp + 4, get_be32(tcp + 4) - s->seq_delta);
	q->tuple.src = server->addr;
	q->tuple.sport = server->port;
	q->tuple.dport = client_port;
	set_dst(q, &server->addr, 0);
	fill_icmp_checksum(q);
}
