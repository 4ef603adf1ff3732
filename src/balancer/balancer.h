/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the rooms of the balancer share: the read-only rest of the process, and one worker. */
#ifndef L3DSR_BALANCER_H
#define L3DSR_BALANCER_H

#include "bridges.h"
#include "datapath.h"
#include "handover.h"
#include "lib/counters.h"
#include "lib/flow_table.h"
#include "lib/handoff.h"
#include "lib/pool.h"
#include "listener.h"
#include "os/inject.h"
#include "os/log.h"
#include "os/nft_map.h"
#include "os/worker.h"
#include "settings.h"
#include "snoop.h"
#include "steer.h"
#include "views.h"

/**
 * struct balancer - what all workers read and none writes
 * @pools:	one per settings->pools, the same numbers
 * @views:	of the pools; what is in them changes
 * @services:	(any address, 0) -> (VIP, port): number into settings->services
 * @backend_limits: by number of the backend; what they point to is for all workers
 */
struct balancer {
	const struct balancer_settings *settings;
	struct handoff_keys keys;
	struct pool **pools;
	struct views views;
	struct index services;
	struct bridges bridges;
	struct log_limit *backend_limits;
};

#define BALANCER_TABLE "l3dsr_balancer"
#define INDEX_CHAIN    "index%u" /* of that table, which writes the index into the DSCP field */

struct balancer_worker {
	const struct balancer *balancer;
	struct worker worker;
	struct counters counters;
	struct endpoint answer; /* where bridges answer this worker */
	int answer_fd;
	struct inject inject;
	struct snoop snoop;
	struct listener listener;
	struct handover_table handovers;
	struct steer steer;
	struct nft_reader nft; /* what the kernel knows of connections */
};

/** balancer_service() - the service of a packet to (@vip, @port), or NULL */
const struct service_settings *balancer_service(const struct balancer *b, const struct addr *vip,
						uint16_t port);

#endif
