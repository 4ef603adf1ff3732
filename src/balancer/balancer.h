/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the rooms of the balancer share: one worker. */
#ifndef L3DSR_BALANCER_H
#define L3DSR_BALANCER_H

#include "bridges.h"
#include "datapath.h"
#include "generation.h"
#include "handover.h"
#include "lib/counters.h"
#include "lib/flow_table.h"
#include "listener.h"
#include "os/inject.h"
#include "os/log.h"
#include "os/nft_map.h"
#include "os/worker.h"
#include "snoop.h"
#include "steer.h"

#define BALANCER_TABLE "l3dsr_balancer"
#define INDEX_CHAIN    "index%u" /* of that table, which writes the index into the DSCP field */

struct balancer_worker {
	struct generation *generation; /* that new handovers begin with */
	const struct bridges *bridges;
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

#endif
