/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Translating the packets of a spliced connection, and steering them to their bridge. */
#include "rewrite.h"

#include <string.h>

#include "tcp_options.h"

uint16_t splice_rescale(uint16_t window, unsigned int from, unsigned int to)
{
	uint32_t bytes = (uint32_t)window << from, units = bytes >> to;

	if (!units && bytes >= SPLICE_OPEN_BYTES)
		return 1;
	return units > UINT16_MAX ? UINT16_MAX : (uint16_t)units;
}

/* Timestamp option and SACK blocks of a packet, for the two directions. */
static void add_to_option(uint8_t *field, uint32_t delta)
{
	put_be32(field, get_be32(field) + delta);
}

static void rescale_window(struct packet *p, unsigned int from, unsigned int to)
{
	if (from != to && !(p->flags & TCP_SYN))
		packet_set_window(p, splice_rescale(p->window, from, to));
}

void rewrite_to_server(struct packet *p, const struct splice *s, uint16_t client_port,
		       const struct endpoint *server)
{
	uint64_t before = packet_header_sum(p);
	struct tcp_options o;
	struct addr client = p->tuple.src;
	uint8_t *options;
	size_t len;

	packet_set_src(p, &client, client_port);
	packet_set_dst(p, &server->addr, server->port);
	packet_set_dscp(p, 0);
	rescale_window(p, s->client_shift, s->client_shift_server);
	if (p->flags & TCP_ACK) {
		packet_set_ack(p, p->ack - s->seq_delta);
		options = packet_options(p, &len);
		/* A malformed option ends the list for the web server's kernel as it does here. */
		(void)tcp_options_parse(&o, options, len);
		for (unsigned int edge = 0; edge < 2u * o.sack_blocks; edge++)
			add_to_option(options + o.sack_at + 4 * edge, -s->seq_delta);
		if (o.timestamps && s->timestamps)
			add_to_option(options + o.ts_at + 4, s->ts_delta);
	}
	packet_checksum_adjust(p, before);
}

void rewrite_to_client(struct packet *p, const struct splice *s, const struct endpoint *vip,
		       uint16_t client_port)
{
	uint64_t before = packet_header_sum(p);
	struct tcp_options o;
	struct addr client = p->tuple.dst;
	uint8_t *options;
	size_t len;

	packet_set_src(p, &vip->addr, vip->port);
	packet_set_dst(p, &client, client_port);
	packet_set_seq(p, p->seq + s->seq_delta);
	rescale_window(p, s->server_shift, s->server_shift_client);
	if (s->timestamps) {
		options = packet_options(p, &len);
		(void)tcp_options_parse(&o, options, len);
		if (o.timestamps)
			add_to_option(options + o.ts_at, -s->ts_delta);
	}
	packet_checksum_adjust(p, before);
}

void rewrite_to_bridge(struct packet *p, const struct addr *bridge, uint8_t index)
{
	uint64_t before = packet_header_sum(p);

	packet_set_dst(p, bridge, p->tuple.dport);
	packet_set_dscp(p, index);
	packet_checksum_adjust(p, before);
}

void rewrite_hide_timestamps(struct packet *p)
{
	size_t len;
	uint8_t *options = packet_options(p, &len);
	struct tcp_options o;

	for (;;) {
		(void)tcp_options_parse(&o, options, len);
		if (!o.timestamps)
			break;
		memset(options + o.ts_at - 2, 1, 10); /* NOP, over kind, length and both values */
	}
	packet_checksum_fill(p);
}

void rewrite_strip_data(struct packet *p)
{
	packet_truncate(p, 0);
	packet_set_flags(p, p->flags & (uint8_t) ~(TCP_FIN | TCP_PSH));
	packet_checksum_fill(p);
}
