/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the rooms of the bridge share: the read-only rest of the process, and one worker. */
#ifndef L3DSR_BRIDGE_H
#define L3DSR_BRIDGE_H

#include "datapath.h"
#include "lib/counters.h"
#include "lib/flow_table.h"
#include "lib/handoff.h"
#include "open.h"
#include "os/inject.h"
#include "os/worker.h"
#include "probe.h"
#include "settings.h"
#include "splice.h"
#include "splice_kernel.h"
#include "sweep.h"

/* What translated packets, our own, and those of direct connections carry for nft/bridge.nft. */
#define MARK_TRANSLATED 0x6c336473
#define MARK_INJECTED	0x6c336474
#define MARK_DIRECT	0x6c336475

/**
 * struct bridge - what all workers read and none writes
 * @kernel:	timeouts of the kernel's data plane; NULL if all is translated here
 * @far_us:	round trip time from which on a client is far, see open.h
 * @probes:	whom to give PROBEs to
 * @services:	(any address, 0) -> (VIP, port): number into settings->services
 */
struct bridge {
	const struct bridge_settings *settings;
	struct handoff_keys keys;
	const struct sweep_timeouts *kernel;
	uint32_t far_us;
	const struct probes *probes;
	struct index services;
};

struct bridge_worker {
	const struct bridge *bridge;
	struct worker worker;
	struct counters counters;
	int answer_fd; /* answers to balancers leave from here */
	struct inject inject;
	struct probe_limit probe_limit;
	struct splice_table splices;
	struct splice_kernel kernel; /* what splices.kernel points to, if it is used */
};

#endif
