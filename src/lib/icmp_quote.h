/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ICMP errors that quote a TCP packet: which connection they speak of, and their translation. */
#ifndef L3DSR_ICMP_QUOTE_H
#define L3DSR_ICMP_QUOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "packet.h"
#include "rewrite.h"

/*
 * DOC: Theory of operation
 *
 * A router that cannot forward an answer (VIP -> client) sends an error to the VIP and quotes the
 * begin of that packet: its IP header and at least eight bytes of TCP, ports and sequence number
 * (RFC 792; RFC 4443, 2.4). Path MTU discovery of the answers depends on it, so it must reach the
 * web server as if the packet that the web server sent had been quoted:
 *
 *		what the router quotes		what the web server sent
 * addresses	VIP -> client			server -> client
 * ports	VIP's -> client's		server's -> maybe another of the client
 * seq		as the client counts		- seq_delta, or the kernel ignores it (tcp_v4_err())
 *
 * Only quotes with a plain IP header are translated: the packets quoted are our own.
 */

/**
 * struct icmp_quote - a parsed ICMP or ICMPv6 error
 * @data, @len:	the IP packet, @len as its header says, never more than the buffer
 * @icmp:	offset of the ICMP header
 * @inner:	offset of the quoted IP header
 * @tcp:	offset of the quoted TCP header, of which at least eight bytes are there
 * @src, @dst:	of the error: a router, and the VIP
 * @tuple:	of the quoted packet
 * @checksum:	as in struct packet
 */
struct icmp_quote {
	uint8_t *data;
	size_t len;
	uint16_t icmp, inner, tcp;
	struct addr src, dst;
	struct tuple tuple;
	uint8_t dscp;
	enum packet_checksum checksum;
};

/**
 * icmp_quote_parse() - check @data against @len and fill @q
 * Returns PACKET_NOT_TCP for whatever is not an ICMP error that quotes a TCP packet of the same
 * family; on any fault @q is not to be used.
 */
enum packet_fault icmp_quote_parse(struct icmp_quote *q, void *data, size_t len);

/** icmp_quote_checksum_ok() - does the ICMP checksum fit? */
bool icmp_quote_checksum_ok(const struct icmp_quote *q);

/** icmp_quote_to_bridge() - steering: new destination address and DSCP field, nothing else */
void icmp_quote_to_bridge(struct icmp_quote *q, const struct addr *bridge, uint8_t index);

/**
 * icmp_quote_to_server() - the error as if the web server's own packet had been quoted
 * @s, @client_port, @server: as for rewrite_to_server(). The ICMP checksum is computed in full, so
 * the old one must have been right.
 */
void icmp_quote_to_server(struct icmp_quote *q, const struct splice *s, uint16_t client_port,
			  const struct endpoint *server);

#endif
