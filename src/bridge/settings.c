/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration of l3dsr-bridge: what l3dsr-bridge.conf(5) describes, checked. */
#include "settings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/queue_hash.h"
#include "os/config.h"
#include "os/log.h"

#define PATH_LEN 96 /* "services[4294967295].server" */

static const struct setting limits[] = {
	{ .name = "flows",
	  .noun = "the number of spliced connections",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(bridge_settings, limits.flows),
	  .min = 1,
	  .max = 16777216,
	  .number = 262144 },
	{ .name = "queue_length",
	  .noun = "the length of a queue in packets",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(bridge_settings, limits.queue_length),
	  .min = 1,
	  .max = 1048576,
	  .number = 65535 },
	{ .name = NULL },
};

static const struct setting timeouts[] = {
	{ .name = "open_ms",
	  .noun = "the time for the web server's answer in milliseconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(bridge_settings, timeouts.open_ms),
	  .min = 100,
	  .max = 60000,
	  .number = 3000 },
	{ .name = "idle_s",
	  .noun = "the life of an idle connection in seconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(bridge_settings, timeouts.idle_s),
	  .min = 1,
	  .max = 86400,
	  .number = 300 },
	{ .name = "closing_s",
	  .noun = "the life of a closing connection in seconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(bridge_settings, timeouts.closing_s),
	  .min = 1,
	  .max = 3600,
	  .number = 60 },
	{ .name = NULL },
};

static const char *const checks[] = {
	[CHECK_CONNECT] = "connect",
	[CHECK_HTTP] = "http",
	NULL,
};

static const struct setting services[] = {
	{ .name = "name",
	  .noun = "the name of a service",
	  .type = SETTING_NAME,
	  SETTING_FIELD(service_settings, name),
	  .required = true,
	  .unique = true },
	{ .name = "index",
	  .noun = "an index",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, index),
	  .min = 1,
	  .max = 63,
	  .required = true },
	{ .name = "vip",
	  .noun = "a virtual address",
	  .type = SETTING_ADDR,
	  SETTING_FIELD(service_settings, vip),
	  .required = true },
	{ .name = "port",
	  .noun = "a port",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, port),
	  .min = 1,
	  .max = 65535,
	  .number = 80 },
	{ .name = "server",
	  .noun = "the address of a web server",
	  .type = SETTING_ADDR,
	  SETTING_FIELD(service_settings, server),
	  .required = true },
	{ .name = "server_port",
	  .noun = "a port",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, server_port),
	  .min = 1,
	  .max = 65535,
	  .number = 80 },
	{ .name = "check",
	  .noun = "a check of the web server",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(service_settings, check),
	  .choices = checks,
	  .number = CHECK_CONNECT },
	{ .name = "check_path",
	  .noun = "a path",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(service_settings, check_path),
	  .text = "/" },
	{ .name = "check_host",
	  .noun = "the name of a host",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(service_settings, check_host) },
	{ .name = "check_status",
	  .noun = "a status of HTTP",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, check_status),
	  .min = 100,
	  .max = 999,
	  .number = 200 },
	{ .name = "check_timeout_ms",
	  .noun = "the time for a check in milliseconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, check_timeout_ms),
	  .min = 10,
	  .max = 60000,
	  .number = 1000 },
	{ .name = NULL },
};

static const char *const data_plane_names[] = {
	[DATA_PLANE_KERNEL] = "kernel",
	[DATA_PLANE_USERSPACE] = "userspace",
	NULL,
};

static const struct setting table[] = {
	{ .name = "threads",
	  .noun = "the number of threads",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(bridge_settings, threads),
	  .min = 1,
	  .max = QUEUE_COUNT,
	  .number = 1 },
	{ .name = "log_level",
	  .noun = "a log level",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(bridge_settings, log_level),
	  .choices = log_level_names,
	  .number = LOG_LEVEL_INFO },
	{ .name = "data_plane",
	  .noun = "a data plane",
	  .type = SETTING_CHOICE,
	  .fixed = true,
	  SETTING_FIELD(bridge_settings, data_plane),
	  .choices = data_plane_names,
	  .number = DATA_PLANE_KERNEL },
	{ .name = "key_file",
	  .noun = "the name of a file",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(bridge_settings, key_file),
	  .text = "/etc/l3dsr/handoff.key" },
	{ .name = "control",
	  .noun = "the name of a socket",
	  .type = SETTING_TEXT,
	  .fixed = true,
	  SETTING_FIELD(bridge_settings, control),
	  .text = "/run/l3dsr/bridge.sock" },
	{ .name = "address",
	  .noun = "the address of this bridge",
	  .type = SETTING_ADDR,
	  .fixed = true,
	  SETTING_FIELD(bridge_settings, address),
	  .text = "192.168.33.20" },
	{ .name = "limits", .noun = "limits", .type = SETTING_GROUP, .members = limits },
	{ .name = "timeouts", .noun = "timeouts", .type = SETTING_GROUP, .members = timeouts },
	{ .name = "services",
	  .noun = "a service",
	  .type = SETTING_LIST,
	  SETTING_ELEMENTS(bridge_settings, services, service_count),
	  .required = true,
	  .members = services },
	{ .name = NULL },
};

/* Address and port of service @i must not be those of one that stands before it. */
static void check_port(struct settings_check *c, const struct service_settings *list, size_t i)
{
	const struct service_settings *a = &list[i];
	char here[PATH_LEN], there[PATH_LEN], text[ENDPOINT_STRLEN];

	for (size_t j = 0; a->vip.family && a->port && j < i; j++) {
		if (list[j].port != a->port || !addr_equal(&list[j].vip, &a->vip))
			continue;
		snprintf(here, sizeof(here), "services[%zu].port", i);
		snprintf(there, sizeof(there), "services[%zu]", j);
		settings_conflict(c, here, there,
				  "%s is taken; each service has an address and port of its own",
				  endpoint_format(&a->vip, (uint16_t)a->port, text));
		return;
	}
}

/* One address has one index, and one index one address. */
static void check_index(struct settings_check *c, const struct service_settings *list, size_t i)
{
	const struct service_settings *a = &list[i];
	char here[PATH_LEN], there[PATH_LEN], text[ADDR_STRLEN];

	for (size_t j = 0; a->vip.family && a->index && j < i; j++) {
		const struct service_settings *b = &list[j];
		bool same = addr_equal(&a->vip, &b->vip);

		if (!b->vip.family || !b->index || same == (a->index == b->index))
			continue;
		snprintf(here, sizeof(here), "services[%zu].index", i);
		snprintf(there, sizeof(there), "services[%zu].index", j);
		if (same)
			settings_conflict(c, here, there,
					  "%d is a second index of %s; one address has one index, "
					  "here %d",
					  a->index, addr_format(&a->vip, text), b->index);
		else
			settings_conflict(c, here, there,
					  "%d is taken by another address, %s; each address has "
					  "an index of its own",
					  a->index, addr_format(&b->vip, text));
		return;
	}
}

/* @field of service @i must not hold @taken, which is the value of the setting @other. */
static void check_differs(struct settings_check *c, size_t i, const char *field,
			  const struct addr *addr, const char *other, const struct addr *taken)
{
	char here[PATH_LEN], text[ADDR_STRLEN];

	if (!addr->family || !addr_equal(addr, taken))
		return;
	snprintf(here, sizeof(here), "services[%zu].%s", i, field);
	settings_conflict(c, here, other,
			  "\"%s\" has another use; bridge, virtual address and web server have one "
			  "address each",
			  addr_format(addr, text));
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return false;
	return true;
}

/* Both stand in a request, whose parts end with blanks and lines. */
static void check_request(struct settings_check *c, size_t i, const struct service_settings *s)
{
	char here[PATH_LEN];

	snprintf(here, sizeof(here), "services[%zu].check_path", i);
	if (s->check_path[0] && s->check_path[0] != '/')
		settings_error(c, here, "a path begins with \"/\"");
	else if (!printable(s->check_path))
		settings_error(c, here, "blanks and control characters have no place in a path");
	snprintf(here, sizeof(here), "services[%zu].check_host", i);
	if (!printable(s->check_host))
		settings_error(c, here, "blanks and control characters have no place in a name");
}

/* Two virtual addresses of one web server: it knows the same client and port from both. */
static void find_shared(struct bridge_settings *settings, size_t i)
{
	struct service_settings *a = &settings->services[i];

	for (size_t j = 0; j < i; j++) {
		struct service_settings *b = &settings->services[j];

		if (a->server_port == b->server_port && addr_equal(&a->server, &b->server))
			a->server_shared = b->server_shared = true;
	}
}

static void check(struct settings_check *c, void *all)
{
	struct bridge_settings *settings = all;
	char vip[PATH_LEN];

	for (size_t i = 0; i < settings->service_count; i++) {
		const struct service_settings *service = &settings->services[i];

		check_port(c, settings->services, i);
		check_index(c, settings->services, i);
		check_request(c, i, service);
		snprintf(vip, sizeof(vip), "services[%zu].vip", i);
		check_differs(c, i, "vip", &service->vip, "address", &settings->address);
		check_differs(c, i, "server", &service->server, "address", &settings->address);
		check_differs(c, i, "server", &service->server, vip, &service->vip);
		find_shared(settings, i);
	}
}

struct bridge_settings *bridge_settings_load(const char *path,
					     const struct bridge_settings *running, FILE *errors)
{
	struct bridge_settings *settings = calloc(1, sizeof(*settings));

	if (!settings) {
		fprintf(errors, "%s: %s\n", path, strerror(ENOMEM));
		return NULL;
	}
	if (settings_load(table, settings, running, path, check, errors)) {
		bridge_settings_free(settings);
		return NULL;
	}
	return settings;
}

void bridge_settings_free(struct bridge_settings *settings)
{
	settings_free(table, settings);
	free(settings);
}

void bridge_settings_print(const struct bridge_settings *settings, FILE *out)
{
	settings_print(table, settings, out);
}
