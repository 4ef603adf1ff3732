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

static struct view *view_of(const struct generation *g, const struct service_settings *service,
			    const struct choice *choice)
{
	return views_find(&g->views, (size_t)(service - g->settings->services), choice->pool);
}

const struct backend_settings *choice_backend(const struct generation *g,
					      const struct service_settings *service,
					      const struct choice *choice,
					      uint64_t tried[CHOICE_TRIED_WORDS],
					      enum choice_how *how)
{
	const struct pool *pool = g->pools[choice->pool];
	const struct view *view = view_of(g, service, choice);
	uint32_t own, number = pool_choose_in(pool, &view->usual, choice->hash, tried, &own);

	*how = number == own ? CHOICE_OWN : CHOICE_OVERFLOWED;
	if (number == POOL_NONE) {
		number = pool_choose_in(pool, &view->last_resort, choice->hash, tried, &own);
		if (number == POOL_NONE)
			return NULL;
		*how = CHOICE_LAST_RESORT;
	}
	tried[number / 64] |= 1ull << number % 64;
	return &g->settings->pools[choice->pool].backends[number];
}

void choice_doubt(const struct generation *g, const struct service_settings *service,
		  const struct choice *choice, const struct backend_settings *backend)
{
	size_t number = (size_t)(backend - g->settings->pools[choice->pool].backends);

	view_doubt(view_of(g, service, choice), number);
}
