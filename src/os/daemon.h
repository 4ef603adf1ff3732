/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The main thread of a daemon: its workers, its table, its counters, and the service manager. */
#ifndef L3DSR_DAEMON_H
#define L3DSR_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "lib/counters.h"
#include "lib/queue_hash.h"
#include "nft_sets.h"
#include "service.h"
#include "worker.h"

#define DAEMON_GAUGES 4

/** struct gauge - how many of something there are now, over all workers */
struct gauge {
	const char *name;
	uint64_t value;
};

/**
 * struct daemon - filled by the daemon's main.c before daemon_run()
 * @workers, @counters:	@count of each, initialised but not started
 * @nft:		open, with the sets the table shall hold
 * @ruleset:		file to name when the table is missing
 * @read_gauges:	fills DAEMON_GAUGES of them; those without a name are left out
 * @tick:		called in the main thread once a second; may be NULL
 * @own_counters:	what that counts; may be NULL
 * @reload:		SIGHUP, in the main thread
 * @control:		open, or all zero
 */
struct daemon {
	enum counter_scope scope;
	struct worker *workers[QUEUE_COUNT];
	struct counters *counters[QUEUE_COUNT];
	size_t count;
	struct nft_table nft;
	const char *ruleset;
	void (*read_gauges)(const void *context, struct gauge gauges[DAEMON_GAUGES]);
	void (*tick)(void *context, uint64_t now_ms);
	void (*reload)(void *context);
	const struct counters *own_counters;
	void *context;
	struct service service;
	struct control control;
	/* private */
	uint64_t drops_full, drops_undelivered;
	uint64_t tables_filled; /* again, because somebody has loaded the table */
};

/** daemon_counters() - call @each for all that it counts, and its gauges, with their sentences */
void daemon_counters(const struct daemon *d,
		     void (*each)(void *context, const char *name, uint64_t value,
				  const char *sentence),
		     void *context);

/** daemon_show_counters() - the command "show counters" */
void daemon_show_counters(const struct daemon *d, struct control_client *client, size_t arguments);

/** daemon_init() - the event loop and its signals; before any thread starts. 0 or -errno */
int daemon_init(struct daemon *d);

/**
 * daemon_run() - fill the sets, start the workers, serve until a signal ends it
 * 0 when the workers have stopped, or -errno after the reason was logged.
 */
int daemon_run(struct daemon *d);

/**
 * daemon_hold() - let the table hold what @contents says, instead of what it did
 * @contents gets that, and is to be closed. If the kernel does not take it the table stays as it was:
 * -errno, after the reason was logged.
 */
int daemon_hold(struct daemon *d, struct nft_table *contents);

/**
 * daemon_give() - give all workers another configuration, and wait for a moment until they have it
 * Returns false if not all of them do: daemon_adopted() tells when.
 */
bool daemon_give(struct daemon *d, void *configuration);
bool daemon_adopted(const struct daemon *d);
void daemon_clean(struct daemon *d);

#endif
