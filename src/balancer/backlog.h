/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel could not take for us: the backlogs of the listening sockets, looked at now and then.
 *
 * A socket's own count has all that the kernel has dropped on its way, a SYN that was repeated too. What
 * found a backlog full is in TcpExtListenDrops (tcp_listendrop()), which counts for all sockets of the
 * host. So neither is believed without the other.
 */
#ifndef L3DSR_BACKLOG_H
#define L3DSR_BACKLOG_H

#include <stdint.h>

#include "lib/counters.h"

/**
 * struct backlog - owned by the main thread
 * @counters:	gets backlog_dropped
 * @listen_drops:	of the host, when it was last read
 */
struct backlog {
	struct counters *counters;
	uint64_t listen_drops;
};

void backlog_init(struct backlog *b, struct counters *counters);
/** backlog_check() - our sockets have dropped @more since the last time: count what found no room, and tell */
void backlog_check(struct backlog *b, uint64_t more, uint64_t now_ms);

#endif
