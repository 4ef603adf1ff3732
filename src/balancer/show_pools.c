/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Backends as they are now, and what an operator makes of them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "show.h"

#define WEIGHT_MAX 1000

/**
 * struct listing - rows that are being written
 * @backend:	the name of those that are shown, or NULL: all
 */
struct listing {
	struct control_client *client;
	const char *backend;
};

static void put_hundredths(struct control_client *client, uint64_t hundredths)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 ".%02" PRIu64, hundredths / 100, hundredths % 100);
	control_text(client, text);
}

static void put_names(struct control_client *client, const char *service,
		      const struct pool_settings *pool, const struct backend_settings *backend)
{
	char text[ADDR_STRLEN];

	control_text(client, service);
	control_text(client, pool->name);
	control_text(client, backend->name);
	control_text(client, addr_format(&backend->address, text));
}

static void put_result(struct control_client *client, const struct health_result *result)
{
	char text[HEALTH_TEXT_LEN];

	control_text(client, result->cause == HEALTH_NOTHING ? "" : health_text(result, text));
}

static void put_report(void *context, const struct prober_report *r)
{
	const struct listing *listing = context;
	struct control_client *client = listing->client;

	if (listing->backend && strcmp(listing->backend, r->backend->name) != 0)
		return;
	put_names(client, r->service->name, r->pool, r->backend);
	control_text(client, r->drained ? "drained" : health_state_name(r->state));
	control_number(client, r->weight);
	put_hundredths(client, r->effective * UINT64_C(100) / HEALTH_WEIGHT_UNIT);
	put_hundredths(client, r->share * UINT64_C(10));
	control_number(client, r->connections);
	if (r->age_ms == UINT64_MAX)
		control_text(client, "");
	else
		put_hundredths(client, r->age_ms / 10);
	put_result(client, &r->last);
	put_result(client, &r->why);
	control_end_row(client);
}

static bool has_service(const struct balancer_settings *s, size_t pool)
{
	for (size_t i = 0; i < s->service_count; i++) {
		const struct service_settings *service = &s->services[i];

		if (service->pool_number == pool)
			return true;
		for (size_t j = 0; j < service->route_count; j++)
			if (service->routes[j].pool_number == pool)
				return true;
	}
	return false;
}

/* A pool that no service uses is not asked how it is, but a mistake that is to be seen. */
static void put_unused(const struct listing *listing, const struct pool_settings *pool)
{
	struct control_client *client = listing->client;

	for (size_t i = 0; i < pool->backend_count; i++) {
		const struct backend_settings *backend = &pool->backends[i];

		if (listing->backend && strcmp(listing->backend, backend->name) != 0)
			continue;
		put_names(client, "", pool, backend);
		control_text(client, "unused");
		control_number(client, (uint64_t)backend->weight);
		put_hundredths(client, 0);
		put_hundredths(client, 0);
		control_number(client, 0);
		for (unsigned int column = 0; column < 3; column++)
			control_text(client, "");
		control_end_row(client);
	}
}

static void list(const struct show *show, struct control_client *client, const char *backend)
{
	const struct balancer_settings *s = (*show->generation)->settings;
	struct listing listing = { .client = client, .backend = backend };

	control_columns(client, "s:service s:pool s:backend s:bridge s:state n:weight n:effective "
				"n:share n:connections n:age s:last s:why");
	prober_each(show->prober, put_report, &listing);
	for (size_t i = 0; i < s->pool_count; i++)
		if (!has_service(s, i))
			put_unused(&listing, &s->pools[i]);
}

void show_pools(void *context, struct control_client *client, char **arguments, size_t count)
{
	(void)arguments;
	if (count)
		control_error(client, "show pools: no arguments are expected");
	else
		list(context, client, NULL);
}

/* The answer to an order is what came of it. */
static void tell(const struct show *show, struct control_client *client, const char *command,
		 const char *name, size_t found)
{
	if (found)
		list(show, client, name);
	else
		control_error(client, "%s: no pool has a backend \"%.200s\"", command, name);
}

void show_drain(void *context, struct control_client *client, char **arguments, size_t count)
{
	const struct show *show = context;
	size_t found;

	if (count != 1) {
		control_error(client, "drain: the name of one backend is expected");
		return;
	}
	found = prober_drain(show->prober, arguments[0]);
	if (found)
		log_info("backend %s is drained: l3dsrctl says so", arguments[0]);
	tell(show, client, "drain", arguments[0], found);
}

void show_activate(void *context, struct control_client *client, char **arguments, size_t count)
{
	const struct show *show = context;
	size_t found;

	if (count != 1) {
		control_error(client, "activate: the name of one backend is expected");
		return;
	}
	found = prober_activate(show->prober, arguments[0]);
	if (found)
		log_info("backend %s is active: l3dsrctl says so", arguments[0]);
	tell(show, client, "activate", arguments[0], found);
}

/* 1..1000, or 0 for "configured"; -1 if @text is anything else. */
static int parse_weight(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	int weight;

	if (!strcmp(text, "configured"))
		return 0;
	if (!digits || digits > 4 || text[digits])
		return -1;
	weight = atoi(text);
	return weight >= 1 && weight <= WEIGHT_MAX ? weight : -1;
}

void show_weight(void *context, struct control_client *client, char **arguments, size_t count)
{
	const struct show *show = context;
	int weight = count == 2 ? parse_weight(arguments[1]) : -1;
	size_t found;

	if (count != 2) {
		control_error(client, "weight: the name of a backend and its weight are expected");
		return;
	}
	if (weight < 0) {
		control_error(client, "weight: \"%.200s\" is neither 1 to %d nor \"configured\"",
			      arguments[1], WEIGHT_MAX);
		return;
	}
	found = prober_weight_set(show->prober, arguments[0], (uint32_t)weight);
	if (found)
		log_info("backend %s has weight %s: l3dsrctl says so", arguments[0], arguments[1]);
	tell(show, client, "weight", arguments[0], found);
}
