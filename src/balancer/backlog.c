/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Backlogs that were full. */
#include "backlog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/log.h"

/*
 * TcpExtListenDrops. In the file a line of names is followed by one of numbers, both of which begin with
 * the name of their group.
 */
static uint64_t read_drops(FILE *f)
{
	char *names = NULL, *numbers = NULL, *name, *number, *next_name, *next_number;
	size_t names_size = 0, numbers_size = 0;
	uint64_t drops = 0;

	while (getline(&names, &names_size, f) > 0 && getline(&numbers, &numbers_size, f) > 0) {
		name = strtok_r(names, " \n", &next_name);
		number = strtok_r(numbers, " \n", &next_number);
		if (!name || strcmp(name, "TcpExt:") != 0)
			continue;
		while (name && number && strcmp(name, "ListenDrops") != 0) {
			name = strtok_r(NULL, " \n", &next_name);
			number = strtok_r(NULL, " \n", &next_number);
		}
		if (name && number)
			drops = strtoull(number, NULL, 10);
		break;
	}
	free(names);
	free(numbers);
	return drops;
}

static uint64_t listen_drops(void)
{
	FILE *f = fopen("/proc/self/net/netstat", "re");
	uint64_t drops;

	if (!f)
		return 0;
	drops = read_drops(f);
	fclose(f);
	return drops;
}

void backlog_init(struct backlog *b, struct counters *counters)
{
	*b = (struct backlog){ .counters = counters, .listen_drops = listen_drops() };
}

void backlog_check(struct backlog *b, uint64_t more, uint64_t now_ms)
{
	static struct log_limit limit;
	uint64_t drops = listen_drops();

	if (more > drops - b->listen_drops)
		more = drops - b->listen_drops;
	b->listen_drops = drops;
	if (!more)
		return;
	counters_add(b->counters, COUNTER_BACKLOG_DROPPED, more);
	log_warning_limited(&limit, now_ms,
			    "the backlog was full and the kernel dropped %" PRIu64
			    " SYNs or handshakes: see net.core.somaxconn and "
			    "net.ipv4.tcp_max_syn_backlog",
			    more);
}
