/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One type for an IPv4 or an IPv6 address, and the tuple that names a connection. */
#ifndef L3DSR_ADDR_H
#define L3DSR_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/**
 * struct addr - an address of either family
 * @family:	4 or 6; 0 in an address that was never set
 * @bytes:	network order; IPv4 in the first four, the rest zero
 *
 * Compared and hashed with the family. An IPv4-mapped IPv6 address (::ffff:a.b.c.d) becomes IPv4
 * on entry, so that one client has one name. No member is aligned to more than a byte: there is no
 * padding, and memcmp() of two of them is exact.
 */
struct addr {
	uint8_t family;
	uint8_t bytes[16];
};

/**
 * struct endpoint - an address and a port
 * @port:	host order
 */
struct endpoint {
	struct addr addr;
	uint16_t port;
};

/**
 * struct tuple - source and destination of a packet, or of a connection in its original direction
 * @sport, @dport:	host order
 *
 * 38 bytes without padding: hashed and compared as bytes.
 */
struct tuple {
	struct addr src, dst;
	uint16_t sport, dport;
};

_Static_assert(sizeof(struct tuple) == 38, "tuples are hashed as bytes, so without padding");

#define ADDR_STRLEN	46		  /* as INET6_ADDRSTRLEN */
#define ENDPOINT_STRLEN (ADDR_STRLEN + 8) /* "[" "]:65535" */

/** addr_from_bytes() - @bytes points to 4 (family 4) or 16 bytes (family 6) in network order */
struct addr addr_from_bytes(unsigned int family, const void *bytes);

/** addr_parse() - read a numeric address; 0, or -EINVAL if @text is not one */
int addr_parse(struct addr *addr, const char *text);

/** addr_format() - write @addr as text into @buf; returns @buf */
const char *addr_format(const struct addr *addr, char buf[ADDR_STRLEN]);

/** endpoint_format() - "a.b.c.d:port" or "[v6]:port"; returns @buf */
const char *endpoint_format(const struct addr *addr, uint16_t port, char buf[ENDPOINT_STRLEN]);

/** addr_equal() - same family and same address */
bool addr_equal(const struct addr *a, const struct addr *b);

/** addr_len() - bytes of the address on the wire: 4, 16, or 0 if it was never set */
size_t addr_len(const struct addr *addr);

/** tuple_reverse() - the tuple of a packet that goes the other way */
struct tuple tuple_reverse(const struct tuple *tuple);

/**
 * addr_to_sockaddr() - fill @ss for the socket calls
 * Returns the length to pass along, 0 if the address was never set.
 */
socklen_t addr_to_sockaddr(const struct addr *addr, uint16_t port, struct sockaddr_storage *ss);

/** addr_from_sockaddr() - 0, or -EAFNOSUPPORT; IPv4-mapped addresses become IPv4 */
int addr_from_sockaddr(struct endpoint *endpoint, const struct sockaddr_storage *ss);

#endif
