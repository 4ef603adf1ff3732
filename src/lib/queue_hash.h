/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hash by which the rulesets spread clients over the queues, computed outside of the kernel. */
#ifndef L3DSR_QUEUE_HASH_H
#define L3DSR_QUEUE_HASH_H

#include <stdint.h>

#include "addr.h"

#define QUEUE_COUNT	4	   /* chains q0..q3 of the rulesets */
#define QUEUE_HASH_SEED 0x6c336473 /* "l3ds", as in nft/balancer.nft and nft/bridge.nft */

/**
 * queue_hash() - the queue (0..QUEUE_COUNT-1) of a client
 * As `jhash ip saddr . tcp sport mod 4 seed 0x6c336473` in nft: jhash() of include/linux/jhash.h
 * over the concatenation, each part padded to 32 bits, then reciprocal_scale().
 */
unsigned int queue_hash(const struct addr *client, uint16_t port);

#endif
