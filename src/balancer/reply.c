/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building and sending the balancer's own packets. */
#include "reply.h"

#include "lib/tcp_options.h"

enum { OPTION_NOP = 1, OPTION_SACK = 5, OPTION_TIMESTAMPS = 8 };

void reply_reset(struct inject *inject, const struct tuple *tuple, uint32_t seq, uint32_t ack)
{
	const struct packet_spec spec = {
		.tuple = tuple_reverse(tuple),
		.seq = seq,
		.ack = ack,
		.flags = TCP_RST | TCP_ACK,
	};

	inject_build(inject, &spec);
}

static uint8_t *put_option(uint8_t *at, uint8_t kind, uint32_t first, uint32_t second)
{
	at[0] = at[1] = OPTION_NOP;
	at[2] = kind;
	at[3] = 10;
	put_be32(at + 4, first);
	put_be32(at + 8, second);
	return at + 12;
}

void reply_duplicate_ack(struct inject *inject, const struct reply_ack *ack)
{
	uint8_t options[TCP_OPTIONS_MAX], *end = options;
	struct packet_spec spec = {
		.tuple = tuple_reverse(&ack->tuple),
		.seq = ack->seq,
		.ack = ack->ack,
		.window = ack->window,
		.flags = TCP_ACK,
		.options = options,
	};

	if (ack->timestamps)
		end = put_option(end, OPTION_TIMESTAMPS, ack->tsval, ack->tsecr);
	if (ack->sack && seq_before(ack->ack + 1, ack->sack_end))
		end = put_option(end, OPTION_SACK, ack->ack + 1, ack->sack_end);
	spec.options_len = (size_t)(end - options);
	inject_build(inject, &spec);
}

void reply_complete(struct inject *inject, const struct packet *p)
{
	size_t len;
	const uint8_t *options = packet_options(p, &len);
	const struct packet_spec spec = {
		.tuple = p->tuple,
		.seq = p->seq,
		.ack = p->ack,
		.window = p->window,
		.flags = TCP_ACK,
		.options = options,
		.options_len = len,
	};

	inject_build(inject, &spec);
}
