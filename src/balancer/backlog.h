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
	struct counters *counters;
};

/** backlog_check() - the sockets have dropped @more since the last time: count it, and tell */
void backlog_check(struct backlog *b, uint64_t more, uint64_t now_ms);

#endif
