/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of both families: from and to bytes, text and socket addresses. */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

struct addr addr_from_bytes(unsigned int family, const void *bytes)
{
	struct addr addr = { 0 };

	if (family == 6 && memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		family = 4;
		bytes = (const uint8_t *)bytes + sizeof(mapped_prefix);
	}
	if (family != 4 && family != 6)
		return addr;
	addr.family = (uint8_t)family;
	memcpy(addr.bytes, bytes, addr_len(&addr));
	return addr;
}

int addr_parse(struct addr *addr, const char *text)
{
	uint8_t bytes[16];

	if (inet_pton(AF_INET, text, bytes) == 1)
		*addr = addr_from_bytes(4, bytes);
	else if (inet_pton(AF_INET6, text, bytes) == 1)
		*addr = addr_from_bytes(6, bytes);
	else
		return -EINVAL;
	return 0;
}

const char *addr_format(const struct addr *addr, char buf[ADDR_STRLEN])
{
	if (addr->family == 4)
		inet_ntop(AF_INET, addr->bytes, buf, ADDR_STRLEN);
	else if (addr->family == 6)
		inet_ntop(AF_INET6, addr->bytes, buf, ADDR_STRLEN);
	else
		strcpy(buf, "none");
	return buf;
}

const char *endpoint_format(const struct addr *addr, uint16_t port, char buf[ENDPOINT_STRLEN])
{
	char text[ADDR_STRLEN];

	snprintf(buf, ENDPOINT_STRLEN, addr->family == 6 ? "[%s]:%u" : "%s:%u",
		 addr_format(addr, text), port);
	return buf;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

size_t addr_len(const struct addr *addr)
{
	return addr->family == 4 ? 4 : addr->family == 6 ? 16 : 0;
}

struct tuple tuple_reverse(const struct tuple *tuple)
{
	return (struct tuple){
		.src = tuple->dst,
		.dst = tuple->src,
		.sport = tuple->dport,
		.dport = tuple->sport,
	};
}

socklen_t addr_to_sockaddr(const struct addr *addr, uint16_t port, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };

	memset(ss, 0, sizeof(*ss));
	if (addr->family == 4) {
		memcpy(&sin.sin_addr, addr->bytes, sizeof(sin.sin_addr));
		memcpy(ss, &sin, sizeof(sin));
		return sizeof(sin);
	}
	if (addr->family == 6) {
		memcpy(&sin6.sin6_addr, addr->bytes, sizeof(sin6.sin6_addr));
		memcpy(ss, &sin6, sizeof(sin6));
		return sizeof(sin6);
	}
	return 0;
}

int addr_from_sockaddr(struct endpoint *endpoint, const struct sockaddr_storage *ss)
{
	struct sockaddr_in6 sin6;
	struct sockaddr_in sin;

	switch (ss->ss_family) {
	case AF_INET:
		memcpy(&sin, ss, sizeof(sin));
		endpoint->addr = addr_from_bytes(4, &sin.sin_addr);
		endpoint->port = ntohs(sin.sin_port);
		return 0;
	case AF_INET6:
		memcpy(&sin6, ss, sizeof(sin6));
		endpoint->addr = addr_from_bytes(6, &sin6.sin6_addr);
		endpoint->port = ntohs(sin6.sin6_port);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}
