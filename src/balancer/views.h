/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How each service sees its pools: what the main thread knows of backends, for the workers. */
#ifndef L3DSR_BALANCER_VIEWS_H
#define L3DSR_BALANCER_VIEWS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/pool.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * A service has a web server of its own on each bridge, so whether a backend is up is a question of
 * service and pool. For each pair of them that belong together there is a view. The main thread writes
 * weights into it (prober.c) and the workers read them; the workers count what they hand over and what
 * fails, and the main thread reads that. All of it is single numbers, written and read with relaxed
 * atomic operations: there is no lock, and nothing that would have to agree with something else.
 *
 * A view has two weights for each backend. With the *usual* ones the best is chosen: 0 for a backend
 * that is drained or down. When all of these were tried, the *last resort* is those that are down: the
 * probes may be wrong, and a client that waits for nothing loses nothing. So probes alone make no
 * request fail. What is drained gets no connection at all.
 *
 * How many connections a backend has (struct pool_load) is counted for all of its services together.
 */

/**
 * struct view - a pool as a service sees it
 * @usual, @last_resort:	for pool_choose_in()
 * @doubts:	by number in the pool: offers that were refused or not answered
 */
struct view {
	size_t service, pool;
	struct pool_view usual, last_resort;
	uint32_t *weights, *spare, *doubts;
};

/**
 * struct views - of one configuration
 * @loads:	by backend_settings.number
 */
struct views {
	struct view *views;
	size_t count, pool_count;
	uint32_t *numbers; /* of a view, by service * pool_count + pool */
	uint32_t *words;   /* of all views */
	struct pool_load *loads;
};

/** views_init() - all backends as they are configured; 0 or -ENOMEM, views_clean() in either case */
int views_init(struct views *v, const struct balancer_settings *settings);
void views_clean(struct views *v);

/** views_find() - the view that @service has of @pool, which must be one of its pools */
struct view *views_find(const struct views *v, size_t service, size_t pool);

/** view_doubt() - an offer to @backend failed */
static inline void view_doubt(struct view *view, size_t backend)
{
	__atomic_fetch_add(&view->doubts[backend], 1, __ATOMIC_RELAXED);
}

/** load_offered() - an offer begins; load_answered(): it is over, the connection was @taken or not */
static inline void load_offered(struct pool_load *load)
{
	__atomic_fetch_add(&load->pending, 1, __ATOMIC_RELAXED);
}

static inline void load_answered(struct pool_load *load, uint32_t taken)
{
	__atomic_fetch_add(&load->live, taken, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&load->pending, 1, __ATOMIC_RELAXED);
}

#endif
