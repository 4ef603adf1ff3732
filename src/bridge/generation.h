/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a configuration makes: all that changes when it is read again. */
#ifndef L3DSR_BRIDGE_GENERATION_H
#define L3DSR_BRIDGE_GENERATION_H

#include "lib/flow_table.h"
#include "lib/handoff.h"
#include "os/nft_sets.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * A generation is made whole, and checked, before anybody sees it; then all workers share it, and none
 * writes to it. The next one is given to the workers (worker_give()), each of which goes over to it
 * between two batches of packets. Connections do not refer to it, so the one before is freed when all
 * workers have done that.
 *
 * A service that is gone, or has another web server, leaves connections behind. The ruleset goes on to
 * send their packets here, or lets the kernel translate them; new ones are refused.
 */

#define RETIRED_MAX 1024

/**
 * struct generation - read-only
 * @services:	(any address, 0) -> (VIP, port): number into settings->services
 * @retired:	services of earlier generations that are not in this one
 */
struct generation {
	struct bridge_settings *settings;
	struct handoff_keys keys;
	struct index services;
	struct service_settings *retired;
	size_t retired_count;
};

/**
 * generation_new() - what @settings make, whose they are from now on, even in case of an error
 * @before: the one in force, or NULL at the start. NULL after the reason was logged.
 */
struct generation *generation_new(struct bridge_settings *settings,
				  const struct generation *before);
void generation_free(struct generation *g);

/** generation_service() - the service of a packet to (@vip, @port) with @index, or NULL */
const struct service_settings *generation_service(const struct generation *g,
						  const struct addr *vip, uint16_t port, int index);

/**
 * generation_sets() - put what the table shall hold into @nft
 * @kernel: the kernel translates. 0, or -ENOMEM after it was logged.
 */
int generation_sets(const struct generation *g, struct nft_table *nft, bool kernel);

#endif
