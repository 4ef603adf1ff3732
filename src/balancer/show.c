/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Services and pools as they are configured, and the table of commands. */
#include "show.h"

#include <stdio.h>
#include <string.h>

const char *show_option(const char *argument, const char *name)
{
	size_t len = strlen(name);

	return strncmp(argument, name, len) == 0 && argument[len] == '=' ? argument + len + 1
									 : NULL;
}

static bool no_arguments(struct control_client *client, const char *command, size_t count)
{
	if (count)
		control_error(client, "%s: no arguments are expected", command);
	return !count;
}

static void show_services(void *context, struct control_client *client, char **arguments,
			  size_t count)
{
	const struct show *show = context;
	const struct balancer_settings *s = (*show->generation)->settings;
	char text[ENDPOINT_STRLEN];

	(void)arguments;
	if (!no_arguments(client, "show services", count))
		return;
	control_columns(client, "s:service s:address n:index s:protocol s:key s:fallback n:routes "
				"s:pool");
	for (size_t i = 0; i < s->service_count; i++) {
		const struct service_settings *service = &s->services[i];

		control_text(client, service->name);
		control_text(client,
			     endpoint_format(&service->address, (uint16_t)service->port, text));
		control_number(client, (uint64_t)service->index);
		control_text(client, settings_protocol(service));
		control_text(client, settings_key(&service->key));
		control_text(client, settings_fallback(service));
		control_number(client, service->route_count);
		control_text(client, service->pool);
		control_end_row(client);
	}
}

static void show_pool(struct control_client *client, const struct pool_settings *pool)
{
	char text[ADDR_STRLEN], share[16];
	int total = 0;

	for (size_t i = 0; i < pool->backend_count; i++)
		total += pool->backends[i].weight;
	for (size_t i = 0; i < pool->backend_count; i++) {
		const struct backend_settings *backend = &pool->backends[i];

		snprintf(share, sizeof(share), "%.2f", 100.0 * backend->weight / total);
		control_text(client, pool->name);
		control_text(client, backend->name);
		control_text(client, addr_format(&backend->address, text));
		control_number(client, (uint64_t)backend->weight);
		control_text(client, share);
		control_end_row(client);
	}
}

static void show_pools(void *context, struct control_client *client, char **arguments, size_t count)
{
	const struct show *show = context;
	const struct balancer_settings *s = (*show->generation)->settings;

	(void)arguments;
	if (!no_arguments(client, "show pools", count))
		return;
	control_columns(client, "s:pool s:backend s:bridge n:weight n:share");
	for (size_t i = 0; i < s->pool_count; i++)
		show_pool(client, &s->pools[i]);
}

static void show_counters(void *context, struct control_client *client, char **arguments,
			  size_t count)
{
	const struct show *show = context;

	(void)arguments;
	daemon_show_counters(show->daemon, client, count);
}

const struct control_command show_commands[] = {
	{ { "show", "services" }, show_services },
	{ { "show", "pools" }, show_pools },
	{ { "show", "flows" }, show_flows },
	{ { "show", "counters" }, show_counters },
	{ { "lookup" }, show_lookup },
	{ { NULL }, NULL },
};
