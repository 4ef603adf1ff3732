/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table of the ruleset shall hold, as the configuration says and connections need it. */
#ifndef L3DSR_BALANCER_SETS_H
#define L3DSR_BALANCER_SETS_H

#include "os/nft_sets.h"

struct bridges;
struct generation;

/**
 * sets_make() - put all sets and rules of @g into @nft
 * @before: NULL, or the generation that is in force. Then it is what the table holds while workers go
 *	over to @g: services of both only, since there is nobody yet who knows the new ones, and soon
 *	nobody who knows the old ones.
 * Bridges that handovers of older generations may offer connections to are allowed to answer.
 * What connections in the kernel's maps need of an earlier configuration is kept: the numbers of
 * bridges, and the indexes of addresses that are no VIPs any more. 0, or -errno after the reason was
 * logged; nft_sets_close() in either case.
 */
int sets_make(struct nft_table *nft, const struct generation *g, const struct generation *before,
	      const struct bridges *bridge_numbers);

#endif
