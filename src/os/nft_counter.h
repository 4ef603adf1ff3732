/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the named counters of our nft table. */
#ifndef L3DSR_NFT_COUNTER_H
#define L3DSR_NFT_COUNTER_H

#include <stdint.h>

#include "nft_reader.h"

/**
 * nft_counter_get() - the packets that the counter @name has counted; a system call and its answer
 * Returns 0, -ENOENT if there is no such table or counter, or another -errno; *@packets is left alone then.
 */
int nft_counter_get(struct nft_reader *r, const char *name, uint64_t *packets);

#endif
