/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the balancer itself says on a connection: resets, duplicate ACKs, the ACK for its kernel. */
#ifndef L3DSR_REPLY_H
#define L3DSR_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/packet.h"
#include "os/inject.h"

/**
 * reply_reset() - a RST from the VIP to the client of @tuple (client to VIP)
 * @seq: what the client expects next from the VIP; @ack: its own next byte
 */
void reply_reset(struct inject *inject, const struct tuple *tuple, uint32_t seq, uint32_t ack);

/**
 * struct reply_ack - a duplicate ACK: nothing is acknowledged, later data is reported as received
 * @sack_end:	sequence number behind the last byte that arrived in order; the block reported
 *		begins one byte behind @ack, as if that byte were missing
 */
struct reply_ack {
	struct tuple tuple;
	uint32_t seq, ack;
	uint16_t window;
	bool timestamps, sack;
	uint32_t tsval, tsecr;
	uint32_t sack_end;
};

void reply_duplicate_ack(struct inject *inject, const struct reply_ack *ack);

/** reply_complete() - give this host's kernel the bare ACK that data packet @p implies */
void reply_complete(struct inject *inject, const struct packet *p);

#endif
