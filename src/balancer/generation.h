/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a configuration makes: all that changes when it is read again. */
#ifndef L3DSR_BALANCER_GENERATION_H
#define L3DSR_BALANCER_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "bridges.h"
#include "inherited.h"
#include "lib/flow_table.h"
#include "lib/handoff.h"
#include "lib/pool.h"
#include "lib/queue_hash.h"
#include "listener.h"
#include "os/log.h"
#include "settings.h"
#include "views.h"

/*
 * DOC: Theory of operation
 *
 * A generation is made whole, and checked, before anybody sees it; then all workers share it, and none
 * writes to it. The next one is made beside it by the main thread and given to the workers, each of
 * which goes over to it between two batches of packets (worker_give()). There is no lock.
 *
 * A handover has begun with the service, route and pool of one generation and stays with them, so that a
 * generation is needed until the last of its handovers is over. Each worker counts those of its own, and
 * when all workers are ahead and all counts are zero, nobody will ever look at it again. Connections
 * that are steered do not refer to it.
 *
 * The listening sockets go from one generation to the next. Those of new services are opened by the
 * main thread, worker after worker (listener_open()), before the ruleset names the service. Those of a
 * service that is gone are closed by their workers, after the ruleset has ceased to name it.
 */

#define RETIRED_MAX 1024

/** struct generation_part - what is one worker's alone */
struct generation_part {
	struct listening *listening; /* by number of the service */
	uint32_t handovers;	     /* that refer to the generation */
} __attribute__((aligned(64)));

/**
 * struct generation - read-only but for @part, @older and @readers
 * @pools:	one per settings->pools, the same numbers
 * @views:	of the pools; what is in them changes
 * @services:	(any address, 0) -> (VIP, port): number into settings->services
 * @numbers:	of bridges, by backend_settings.number
 * @backend_limits: by the same; what they limit is for all workers
 * @retired:	services of earlier generations whose connections need this process
 * @older, @readers:	the one before, while somebody needs it; and who does beside handovers. Both are
 *	the main thread's
 */
struct generation {
	struct balancer_settings *settings;
	struct handoff_keys keys;
	struct pool **pools;
	struct views views;
	struct index services;
	uint16_t *numbers;
	struct log_limit *backend_limits;
	struct endpoint *retired;
	size_t retired_count;
	struct generation *older;
	unsigned int readers;
	struct generation_part part[QUEUE_COUNT];
};

/**
 * generation_new() - what @settings make, whose they are from now on, even in case of an error
 * @before: the one in force, or NULL at the start
 * @inherited: at the start, sockets of the process before; those that it does not want are shut down
 * NULL after the reason was logged.
 */
struct generation *generation_new(struct balancer_settings *settings,
				  const struct generation *before, struct bridges *bridges,
				  struct inherited *inherited);

/** generation_close() - its listening sockets, but for those that @other has too; it may be NULL */
void generation_close(struct generation *g, const struct generation *other);
void generation_free(struct generation *g);

/**
 * generation_collect() - free those older than @g that nobody needs
 * Once all workers have adopted @g. Returns whether there were any.
 */
bool generation_collect(struct generation *g);

/** generation_service() - the service of a packet to (@vip, @port), or NULL */
const struct service_settings *generation_service(const struct generation *g,
						  const struct addr *vip, uint16_t port);

#endif
