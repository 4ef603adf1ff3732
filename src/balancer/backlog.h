/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel could not take for us: the backlogs of the listening sockets, looked at now and then. */
#ifndef L3DSR_BACKLOG_H
#define L3DSR_BACKLOG_H

#include <stdint.h>

#include "lib/counters.h"

/**
 * struct backlog - owned by the main thread
 * @counters:	gets backlog_dropped
 */
struct backlog {
	uint64_t dropped;
	struct counters *counters;
};

/** backlog_check() - the sockets have dropped @dropped in all so far: count what is new, and tell */
void backlog_check(struct backlog *b, uint64_t dropped, uint64_t now_ms);

#endif
