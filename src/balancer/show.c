/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Services as they are configured, and the table of commands. */
#include "show.h"

#include <string.h>

const char *show_option(const char *argument, const char *name)
{
	size_t len = strlen(name);

	return strncmp(argument, name, len) == 0 && argument[len] == '=' ? argument + len + 1
									 : NULL;
}

static void show_services(void *context, struct control_client *client, char **arguments,
			  size_t count)
{
	const struct show *show = context;
	const struct balancer_settings *s = (*show->generation)->settings;
	char text[ENDPOINT_STRLEN];

	(void)arguments;
	if (count) {
		control_error(client, "show services: no arguments are expected");
		return;
	}
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
	{ { "drain" }, show_drain },
	{ { "activate" }, show_activate },
	{ { "weight" }, show_weight },
	{ { NULL }, NULL },
};
