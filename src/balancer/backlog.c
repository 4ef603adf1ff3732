/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A counter, and a line in the log. */
#include "backlog.h"

#include <inttypes.h>

#include "os/log.h"

void backlog_check(struct backlog *b, uint64_t more, uint64_t now_ms)
{
	static struct log_limit limit;

	if (!more)
		return;
	counters_add(b->counters, COUNTER_BACKLOG_DROPPED, more);
	log_warning_limited(&limit, now_ms,
			    "the backlog was full and the kernel dropped %" PRIu64
			    " SYNs or handshakes: see net.core.somaxconn and "
			    "net.ipv4.tcp_max_syn_backlog",
			    more);
}
