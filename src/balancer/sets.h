/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table of the ruleset shall hold, as the configuration says and connections need it. */
#ifndef L3DSR_BALANCER_SETS_H
#define L3DSR_BALANCER_SETS_H

#include "os/nft_sets.h"

struct balancer;

/**
 * sets_make() - open @nft, and put all sets and rules into it
 * What connections in the kernel's maps need of an earlier configuration is kept: the numbers of
 * bridges, and the indexes of addresses that are no VIPs any more. 0, or -errno after the reason was
 * logged; nft_sets_close() in either case.
 */
int sets_make(struct nft_table *nft, const struct balancer *b);

#endif
