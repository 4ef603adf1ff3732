/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a request belongs: its route, its key, and the backends for that. */
#ifndef L3DSR_BALANCER_CHOICE_H
#define L3DSR_BALANCER_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "generation.h"
#include "lib/recogniser.h"

/*
 * The same for the packets of a client (handover.c) and for an operator who asks where they
 * would go (lookup.c).
 */

#define CHOICE_TRIED_WORDS (BACKENDS_MAX / 64)

/**
 * struct choice - what a request gets
 * @route:	into service->routes, or NULL: the service's own pool
 * @pool:	into settings->pools
 * @hash:	of the key, for pool_choose()
 */
struct choice {
	const struct route_settings *route;
	size_t pool;
	uint64_t hash;
};

enum choice_result {
	CHOICE_MADE,
	CHOICE_NO_ROUTE, /* nobody wants it: reset */
	CHOICE_NAMELESS, /* it does not say what is its key: as if there was no request */
	CHOICE_NONE,	 /* the fallback is a reset */
};

/** choice_recognise() - ask the recogniser of @service about the first @len bytes of a connection */
enum recognised choice_recognise(const struct service_settings *service, const uint8_t *bytes,
				 size_t len, struct request *request);

/**
 * choice_make() - which route wants @request, and by which key is its backend chosen?
 * @buf: has URL_ROOM() of the request; @key gets the bytes of the key, some of which are in there
 */
enum choice_result choice_make(const struct service_settings *service,
			       const struct request *request, const struct addr *client,
			       uint8_t *buf, struct choice *choice, struct slice *key);

/**
 * choice_fall_back() - the same by the client alone: CHOICE_MADE or CHOICE_NONE
 * @choice: has the pool of the service, or that of the route if one was found
 */
enum choice_result choice_fall_back(const struct service_settings *service,
				    const struct addr *client, struct choice *choice);

/** enum choice_how - which backend it is */
enum choice_how {
	CHOICE_OWN,	    /* the best of those that are up; or there is none */
	CHOICE_OVERFLOWED,  /* the best of those that are not full */
	CHOICE_LAST_RESORT, /* one that is down: there is no other */
};

/**
 * choice_backend() - the best backend that is not in the bitmap @tried, where it is noted; or NULL
 * As @service sees the pool now (views.h).
 */
const struct backend_settings *choice_backend(const struct generation *g,
					      const struct service_settings *service,
					      const struct choice *choice,
					      uint64_t tried[CHOICE_TRIED_WORDS],
					      enum choice_how *how);

/** choice_doubt() - an offer to @backend failed */
void choice_doubt(const struct generation *g, const struct service_settings *service,
		  const struct choice *choice, const struct backend_settings *backend);

#endif
