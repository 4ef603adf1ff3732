/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which requests a route is for. */
#include "route.h"

#include <string.h>

static bool host_matches(const char *pattern, struct slice host)
{
	size_t len = strlen(pattern);

	if (pattern[0] != '*')
		return host.len == len && memcmp(host.bytes, pattern, len) == 0;
	/* What stands for the star has at least one byte. */
	len--;
	return host.len > len && memcmp(host.bytes + host.len - len, pattern + 1, len) == 0;
}

static bool offers(struct slice alpn, const char *protocol)
{
	size_t len = strlen(protocol);

	for (size_t at = 0; at < alpn.len; at += 1u + alpn.bytes[at])
		if (alpn.bytes[at] == len && alpn.len - at - 1 >= len &&
		    memcmp(alpn.bytes + at + 1, protocol, len) == 0)
			return true;
	return false;
}

bool route_matches(const struct route *route, const struct request *request)
{
	size_t path_len = strlen(route->path);

	if (route->host[0] && !host_matches(route->host, request->host))
		return false;
	if (route->alpn[0] && !offers(request->alpn, route->alpn))
		return false;
	return request->path.len >= path_len &&
	       memcmp(request->path.bytes, route->path, path_len) == 0;
}

unsigned int route_wanted(const struct route *route)
{
	return (route->host[0] ? REQUEST_HOST : 0u) | (route->path[0] ? REQUEST_PATH : 0u) |
	       (route->alpn[0] ? REQUEST_ALPN : 0u);
}
