/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connections that the kernel translates, as a whole: counted, and ended in time. */
#ifndef L3DSR_BRIDGE_SWEEP_H
#define L3DSR_BRIDGE_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "os/conntrack.h"
#include "os/nft_counter.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * Every so often the main thread reads all entries of the kernel that are ours. It counts them, and
 * removes those that were idle for longer than timeouts.idle_s, or timeouts.closing_s once they
 * are closing: the kernel's own timeouts belong to the whole network namespace, and are much longer
 * for established connections. The first of these sweeps, at start, tells what an earlier process
 * has left.
 *
 * With many short connections most entries are those that are over, and to read one costs as much as to make
 * it. They are read every closing_s only: the ruleset marks what the web server has ended
 * (SPLICE_KERNEL_ENDED), and the kernel leaves out what has that mark.
 *
 * How long an entry was idle follows from the timeout that its last packet has set, and what is left
 * of it. The kernel has several to choose from: the one of the state, and shorter ones after
 * retransmissions, while data is not acknowledged, and after a reset, also one that it does not
 * believe. Which it was is not told, so the one is
 * assumed that makes the entry the least idle: no connection ends early.
 *
 * The kernel believes anybody who says FIN as the client, and takes a FIN that is repeated for the other
 * side's. So an entry is closing when both are noted, or when it was ended by a RST alone, of which the
 * kernel wants the exact number.
 *
 * How many there are is what balancers want to know, and sooner: those that the kernel was given since
 * are added, and taken off are those whose web server has said FIN, which a counter of the ruleset
 * counts. Those that ended otherwise are seen by the next read: while somebody asks, one begins every
 * second, unless reading would take more than a hundredth of the time.
 *
 * A read is done in portions, so that the main thread's other work goes on.
 */

/**
 * struct sweep_timeouts - of the kernel, in seconds
 * @state:	by enum conntrack_state; 0 where it has not been read
 * @retrans, @unacknowledged:	in their place if they are shorter
 */
struct sweep_timeouts {
	uint32_t state[CONNTRACK_CLOSE + 1];
	uint32_t retrans, unacknowledged;
};

/**
 * struct sweep - owned by the main thread
 * @spare:	none is removed: the timeouts have changed
 * @flows:	connections that neither side had ended, at the end of the last sweep
 * @given:	connections given to the kernel until that sweep began; @given_now: until this one
 * @ended:	those whose web server has said FIN; @ended_then: until that sweep began; @ended_now: until
 *		this one; @ended_last: what the counter of the ruleset said
 * @over:	entries that are to be removed, @over_count of them
 * @counters:	gets splices_idle and splices_ended
 */
struct sweep {
	struct conntrack dump, remove;
	struct conntrack_entry over[CONNTRACK_BATCH];
	size_t over_count;
	struct nft_reader nft;
	struct sweep_timeouts timeouts;
	uint32_t idle_s, closing_s;
	uint32_t flows, seen;
	uint64_t given, given_now;
	uint64_t ended, ended_then, ended_now, ended_last;
	bool running, spare;
	uint64_t next_ms, next_ended_ms, spare_until_ms, wanted_until_ms, soon_ms, took_ms;
	struct counters *counters;
};

/** sweep_init() - and the first sweep; 0 or -errno after the reason was logged. @table: of the ruleset */
int sweep_init(struct sweep *s, const char *table, const struct bridge_settings *settings,
	       struct counters *counters);
void sweep_clean(struct sweep *s);
/** sweep_settings() - the timeouts of @settings count from now on */
void sweep_settings(struct sweep *s, const struct bridge_settings *settings);

/**
 * sweep_tick() - go on for a part of a second, if it is time; call it every second
 * @given: connections that the kernel was given so far
 */
void sweep_tick(struct sweep *s, uint64_t given, uint64_t now_ms);

/** sweep_live() - connections that are not closing, as well as it is known; somebody wants to know */
uint32_t sweep_live(struct sweep *s, uint64_t given, uint64_t now_ms);

/** sweep_closing() - has the connection of @entry ended, on both sides or by RST? */
bool sweep_closing(const struct conntrack_entry *entry);

/** sweep_idle_s() - for how many seconds at least an entry in @state with @left_s left was idle */
uint32_t sweep_idle_s(const struct sweep_timeouts *t, uint8_t state, uint32_t left_s);

/**
 * sweep_read_timeouts() - what the kernel has now
 * Returns NULL, or the name of the value (conntrack_sysctl()) that cannot be read.
 */
const char *sweep_read_timeouts(struct sweep_timeouts *t);

#endif
