/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routes in their order, keys, and what the pool says. */
#include "choice.h"

#include "lib/pool.h"
#include "lib/url.h"

enum recognised choice_recognise(const struct service_settings *service, const uint8_t *bytes,
				 size_t len, struct request *request)
{
	const struct slice none = { .bytes = bytes };

	switch (service->protocol) {
	case PROTOCOL_TLS:
		return client_hello_recognise(bytes, len, request);
	case PROTOCOL_TCP:
		request->host = request->path = request->query = request->alpn = none;
		return len || service->speaks == SPEAKS_SERVER ? RECOGNISED_REQUEST
							       : RECOGNISED_MORE;
	default:
		return http1_recognise(bytes, len, service->wanted, request);
	}
}

enum choice_result choice_make(const struct service_settings *service,
			       const struct request *request, const struct addr *client,
			       uint8_t *buf, struct choice *choice, struct slice *key)
{
	const struct key_policy *policy = &service->key;
	struct request normal;
	size_t used = url_normalise(request, service->wanted, &normal, buf);

	*choice = (struct choice){ .pool = service->pool_number };
	for (size_t i = 0; i < service->route_count; i++) {
		if (!route_matches(&service->routes[i].match, &normal))
			continue;
		choice->route = &service->routes[i];
		choice->pool = choice->route->pool_number;
		policy = &choice->route->key;
		break;
	}
	if (choice->pool == NO_POOL)
		return CHOICE_NO_ROUTE;
	*key = url_key(&normal, policy, buf + used);
	if (policy->kind == KEY_SOURCE)
		*key = (struct slice){ client->bytes, addr_len(client) };
	if (!key->len)
		return CHOICE_NAMELESS;
	choice->hash = pool_key(key->bytes, key->len);
	return CHOICE_MADE;
}

enum choice_result choice_fall_back(const struct service_settings *service,
				    const struct addr *client, struct choice *choice)
{
	if (service->fallback == FALLBACK_RESET || choice->pool == NO_POOL)
		return CHOICE_NONE;
	choice->hash = pool_key(client->bytes, addr_len(client));
	return CHOICE_MADE;
}

const struct backend_settings *choice_backend(const struct generation *g,
					      const struct choice *choice,
					      uint64_t tried[CHOICE_TRIED_WORDS])
{
	uint32_t number = pool_choose(g->pools[choice->pool], choice->hash, tried);

	if (number == POOL_NONE)
		return NULL;
	tried[number / 64] |= 1ull << number % 64;
	return &g->settings->pools[choice->pool].backends[number];
}
