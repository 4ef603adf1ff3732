/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which requests a route is for. */
#ifndef L3DSR_ROUTE_H
#define L3DSR_ROUTE_H

#include <stdbool.h>

#include "recogniser.h"

/**
 * struct route - what a request must have; an empty string asks for nothing
 * @host:	in the normal form of url.h; "*.example.com" are all names below that one
 * @path:	begin of the path, in the normal form
 * @alpn:	a protocol that the client offers
 */
struct route {
	char host[256];
	char path[1024];
	char alpn[64];
};

/** route_matches() - @request is in its normal form, with the parts of route_wanted() */
bool route_matches(const struct route *route, const struct request *request);

/** route_wanted() - or'ed enum request_part that the route asks for */
unsigned int route_wanted(const struct route *route);

#endif
