/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the rooms of the bridge share: one worker. */
#ifndef L3DSR_BRIDGE_H
#define L3DSR_BRIDGE_H

#include "datapath.h"
#include "generation.h"
#include "lib/counters.h"
#include "open.h"
#include "os/inject.h"
#include "os/worker.h"
#include "probe.h"
#include "splice.h"
#include "splice_kernel.h"
#include "sweep.h"

/* What translated packets, our own, and those of direct connections carry for nft/bridge.nft. */
#define MARK_TRANSLATED 0x6c336473
#define MARK_INJECTED	0x6c336474
#define MARK_DIRECT	0x6c336475

/**
 * struct bridge_worker - one worker
 * @generation:	what all of them read and none writes
 * @far_us:	round trip time from which on a client is far, see open.h
 * @probes:	whom to give PROBEs to
 */
struct bridge_worker {
	const struct generation *generation;
	uint32_t far_us;
	const struct probes *probes;
	struct worker worker;
	struct counters counters;
	int answer_fd; /* answers to balancers leave from here */
	struct inject inject;
	struct probe_limit probe_limit;
	struct splice_table splices;
	struct splice_kernel kernel; /* what splices.kernel points to, if it is used */
};

#endif
