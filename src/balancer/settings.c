/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration of l3dsr-balancer: what l3dsr-balancer.conf(5) describes, checked. */
#include "settings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/queue_hash.h"
#include "os/config.h"
#include "os/log.h"

#define OWNER_LEN 80 /* "pools[18446744073709551615].backends[18446744073709551615]" */
#define PATH_LEN  (OWNER_LEN + 16)

static const char *const handshakes[] = {
	[HANDSHAKE_SNOOP] = "snoop",
	[HANDSHAKE_SOCKET] = "socket",
	NULL,
};

static const char *const data_planes[] = {
	[DATA_PLANE_KERNEL] = "kernel",
	[DATA_PLANE_USERSPACE] = "userspace",
	NULL,
};

static const char *const fallbacks[] = {
	[FALLBACK_SOURCE] = "source",
	[FALLBACK_RESET] = "reset",
	NULL,
};

static const char *const protocols[] = {
	[PROTOCOL_HTTP] = "http",
	[PROTOCOL_TLS] = "tls",
	[PROTOCOL_TCP] = "tcp",
	NULL,
};

static const char *const speakers[] = {
	[SPEAKS_CLIENT] = "client",
	[SPEAKS_SERVER] = "server",
	NULL,
};

static const char *const keys[] = {
	[KEY_DEFAULT] = "default",     [KEY_PATH] = "path",
	[KEY_HOST_PATH] = "host+path", [KEY_URI] = "uri",
	[KEY_HOST] = "host",	       [KEY_SNI] = "sni",
	[KEY_SOURCE] = "source",       NULL,
};

/* The same three settings in a service and in a route. */
/* clang-format off */
#define KEY_SETTINGS(owner)									\
	{ .name = "key",									\
	  .noun = "a key",									\
	  .type = SETTING_CHOICE,								\
	  SETTING_FIELD(owner, key.kind),							\
	  .choices = keys },									\
	{ .name = "depth",									\
	  .noun = "a number of segments",							\
	  .type = SETTING_INT,									\
	  SETTING_FIELD(owner, key.depth),							\
	  .min = 0,										\
	  .max = 64 },										\
	{ .name = "arguments",									\
	  .noun = "a list of names, divided by blanks,",					\
	  .type = SETTING_TEXT,									\
	  SETTING_FIELD(owner, key.arguments) }
/* clang-format on */

static const char *const probes[] = {
	[PROBES_ON] = "on",
	[PROBES_OFF] = "off",
	NULL,
};

static const char *const backend_states[] = {
	[BACKEND_ACTIVE] = "active",
	[BACKEND_DRAIN] = "drain",
	NULL,
};

static const struct setting limits[] = {
	{ .name = "handshakes",
	  .noun = "the number of snooped handshakes",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, limits.handshakes),
	  .min = 1,
	  .max = 16777216,
	  .number = 65536 },
	{ .name = "requests",
	  .noun = "the number of held requests",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, limits.requests),
	  .min = 1,
	  .max = 1048576,
	  .number = 8192 },
	{ .name = "request_bytes",
	  .noun = "the size of a held request in bytes",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, limits.request_bytes),
	  .min = 1024,
	  .max = 65535,
	  .number = 16384 },
	{ .name = "flows",
	  .noun = "the number of steered connections",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, limits.flows),
	  .min = 1,
	  .max = 16777216,
	  .number = 262144 },
	{ .name = "queue_length",
	  .noun = "the length of a queue in packets",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, limits.queue_length),
	  .min = 1,
	  .max = 1048576,
	  .number = 65535 },
	{ .name = NULL },
};

static const struct setting timeouts[] = {
	{ .name = "request_ms",
	  .noun = "the time for a request in milliseconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, timeouts.request_ms),
	  .min = 100,
	  .max = 3600000,
	  .number = 10000 },
	{ .name = "idle_s",
	  .noun = "the life of an idle connection in seconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, timeouts.idle_s),
	  .min = 1,
	  .max = 86400,
	  .number = 300 },
	{ .name = "closing_s",
	  .noun = "the life of a closing connection in seconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, timeouts.closing_s),
	  .min = 1,
	  .max = 3600,
	  .number = 60 },
	{ .name = NULL },
};

static const struct setting health[] = {
	{ .name = "probes",
	  .noun = "whether bridges are asked",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(balancer_settings, health.probes),
	  .choices = probes },
	{ .name = "interval_ms",
	  .noun = "the time between two probes in milliseconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, health.interval_ms),
	  .min = 100,
	  .max = 3600000,
	  .number = 1000 },
	{ .name = "fast_ms",
	  .noun = "the time between two probes in doubt, in milliseconds,",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, health.fast_ms),
	  .min = 10,
	  .max = 3600000,
	  .number = 100 },
	{ .name = "timeout_ms",
	  .noun = "the time for an answer in milliseconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, health.timeout_ms),
	  .min = 10,
	  .max = 60000,
	  .number = 300 },
	{ .name = "rise",
	  .noun = "the number of good answers until a backend is up",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, health.rise),
	  .min = 1,
	  .max = 100,
	  .number = 2 },
	{ .name = "fall",
	  .noun = "the number of bad answers until a backend is down",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, health.fall),
	  .min = 1,
	  .max = 100,
	  .number = 3 },
	{ .name = "slow_start_s",
	  .noun = "the time until the whole weight in seconds",
	  .type = SETTING_INT,
	  SETTING_FIELD(balancer_settings, health.slow_start_s),
	  .min = 0,
	  .max = 3600,
	  .number = 30 },
	{ .name = NULL },
};

static const struct setting backends[] = {
	{ .name = "name",
	  .noun = "the name of a backend",
	  .type = SETTING_NAME,
	  SETTING_FIELD(backend_settings, name),
	  .required = true,
	  .unique = true },
	{ .name = "address",
	  .noun = "the address of a bridge",
	  .type = SETTING_ADDR,
	  SETTING_FIELD(backend_settings, address),
	  .required = true },
	{ .name = "weight",
	  .noun = "a weight",
	  .type = SETTING_INT,
	  SETTING_FIELD(backend_settings, weight),
	  .min = 1,
	  .max = 1000,
	  .number = 100 },
	{ .name = "state",
	  .noun = "the state of a backend",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(backend_settings, state),
	  .choices = backend_states },
	{ .name = NULL },
};

static const struct setting pools[] = {
	{ .name = "name",
	  .noun = "the name of a pool",
	  .type = SETTING_NAME,
	  SETTING_FIELD(pool_settings, name),
	  .required = true,
	  .unique = true },
	{ .name = "backends",
	  .noun = "a backend",
	  .type = SETTING_LIST,
	  SETTING_ELEMENTS(pool_settings, backends, backend_count),
	  .required = true,
	  .members = backends },
	{ .name = "load_factor",
	  .noun = "the factor of a bounded load",
	  .type = SETTING_FACTOR,
	  SETTING_FIELD(pool_settings, load_factor),
	  .min = 100,
	  .max = 1000 },
	{ .name = NULL },
};

static const struct setting routes[] = {
	{ .name = "host",
	  .noun = "the name of a host",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(route_settings, match.host) },
	{ .name = "path",
	  .noun = "the begin of a path",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(route_settings, match.path) },
	{ .name = "alpn",
	  .noun = "the name of a protocol",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(route_settings, match.alpn) },
	KEY_SETTINGS(route_settings),
	{ .name = "pool",
	  .noun = "the name of a pool",
	  .type = SETTING_NAME,
	  SETTING_FIELD(route_settings, pool),
	  .required = true },
	{ .name = NULL },
};

static const struct setting services[] = {
	{ .name = "name",
	  .noun = "the name of a service",
	  .type = SETTING_NAME,
	  SETTING_FIELD(service_settings, name),
	  .required = true,
	  .unique = true },
	{ .name = "address",
	  .noun = "a virtual address",
	  .type = SETTING_ADDR,
	  SETTING_FIELD(service_settings, address),
	  .required = true },
	{ .name = "port",
	  .noun = "a port",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, port),
	  .min = 1,
	  .max = 65535,
	  .number = 80 },
	{ .name = "index",
	  .noun = "an index",
	  .type = SETTING_INT,
	  SETTING_FIELD(service_settings, index),
	  .min = 1,
	  .max = INDEX_MAX,
	  .required = true },
	{ .name = "protocol",
	  .noun = "a protocol",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(service_settings, protocol),
	  .choices = protocols },
	{ .name = "speaks",
	  .noun = "who speaks first",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(service_settings, speaks),
	  .choices = speakers },
	KEY_SETTINGS(service_settings),
	{ .name = "fallback",
	  .noun = "a fallback",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(service_settings, fallback),
	  .choices = fallbacks,
	  .number = FALLBACK_SOURCE },
	{ .name = "pool",
	  .noun = "the name of a pool",
	  .type = SETTING_NAME,
	  SETTING_FIELD(service_settings, pool) },
	{ .name = "routes",
	  .noun = "a route",
	  .type = SETTING_LIST,
	  SETTING_ELEMENTS(service_settings, routes, route_count),
	  .members = routes },
	{ .name = NULL },
};

static const struct setting table[] = {
	{ .name = "threads",
	  .noun = "the number of threads",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, threads),
	  .min = 1,
	  .max = QUEUE_COUNT,
	  .number = 1 },
	{ .name = "log_level",
	  .noun = "a log level",
	  .type = SETTING_CHOICE,
	  SETTING_FIELD(balancer_settings, log_level),
	  .choices = log_level_names,
	  .number = LOG_LEVEL_INFO },
	{ .name = "key_file",
	  .noun = "the name of a file",
	  .type = SETTING_TEXT,
	  SETTING_FIELD(balancer_settings, key_file),
	  .text = "/etc/l3dsr/handoff.key" },
	{ .name = "control",
	  .noun = "the name of a socket",
	  .type = SETTING_TEXT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, control),
	  .text = "/run/l3dsr/balancer.sock" },
	{ .name = "answer_address",
	  .noun = "an address of this host",
	  .type = SETTING_ADDR,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, answer_address),
	  .text = "192.168.33.10" },
	{ .name = "answer_port",
	  .noun = "the first of five ports",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, answer_port),
	  .min = 1,
	  .max = 65531,
	  .number = 6303 },
	{ .name = "data_plane",
	  .noun = "a data plane",
	  .type = SETTING_CHOICE,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, data_plane),
	  .choices = data_planes,
	  .number = DATA_PLANE_KERNEL },
	{ .name = "window_scale",
	  .noun = "a window scale, or -1 for the kernel's own,",
	  .type = SETTING_INT,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, window_scale),
	  .min = -1,
	  .max = 14,
	  .number = -1 },
	{ .name = "handshake",
	  .noun = "a source of handshakes",
	  .type = SETTING_CHOICE,
	  .fixed = true,
	  SETTING_FIELD(balancer_settings, handshake),
	  .choices = handshakes,
	  .number = HANDSHAKE_SOCKET },
	{ .name = "limits", .noun = "limits", .type = SETTING_GROUP, .members = limits },
	{ .name = "timeouts", .noun = "timeouts", .type = SETTING_GROUP, .members = timeouts },
	{ .name = "health", .noun = "health", .type = SETTING_GROUP, .members = health },
	{ .name = "pools",
	  .noun = "a pool",
	  .type = SETTING_LIST,
	  SETTING_ELEMENTS(balancer_settings, pools, pool_count),
	  .required = true,
	  .members = pools },
	{ .name = "services",
	  .noun = "a service",
	  .type = SETTING_LIST,
	  SETTING_ELEMENTS(balancer_settings, services, service_count),
	  .required = true,
	  .members = services },
	{ .name = NULL },
};

/* Address and port of service @i must not be those of one that stands before it. */
static void check_port(struct settings_check *c, const struct service_settings *list, size_t i)
{
	const struct service_settings *a = &list[i];
	char here[PATH_LEN], there[PATH_LEN], text[ENDPOINT_STRLEN];

	for (size_t j = 0; a->address.family && a->port && j < i; j++) {
		if (list[j].port != a->port || !addr_equal(&list[j].address, &a->address))
			continue;
		snprintf(here, sizeof(here), "services[%zu].port", i);
		snprintf(there, sizeof(there), "services[%zu]", j);
		settings_conflict(c, here, there,
				  "%s is taken; each service has an address and port of its own",
				  endpoint_format(&a->address, (uint16_t)a->port, text));
		return;
	}
}

/* One address has one index, and one index one address. */
static void check_index(struct settings_check *c, const struct service_settings *list, size_t i)
{
	const struct service_settings *a = &list[i];
	char here[PATH_LEN], there[PATH_LEN], text[ADDR_STRLEN];

	for (size_t j = 0; a->address.family && a->index && j < i; j++) {
		const struct service_settings *b = &list[j];
		bool same = addr_equal(&a->address, &b->address);

		if (!b->address.family || !b->index || same == (a->index == b->index))
			continue;
		snprintf(here, sizeof(here), "services[%zu].index", i);
		snprintf(there, sizeof(there), "services[%zu].index", j);
		if (same)
			settings_conflict(c, here, there,
					  "%d is a second index of %s; one address has one index, "
					  "here %d",
					  a->index, addr_format(&a->address, text), b->index);
		else
			settings_conflict(c, here, there,
					  "%d is taken by another address, %s; each address has "
					  "an index of its own",
					  a->index, addr_format(&b->address, text));
		return;
	}
}

/* @owner: "services[0]" or "services[0].routes[1]" */
static void resolve_pool(struct settings_check *c, const struct balancer_settings *settings,
			 const char *owner, const char *name, size_t *number)
{
	char here[PATH_LEN];

	*number = NO_POOL;
	/* Without any pool that is already an error, and this would be nothing but its echo. */
	if (!name[0] || !settings->pool_count)
		return;
	for (size_t j = 0; j < settings->pool_count; j++) {
		if (!strcmp(name, settings->pools[j].name)) {
			*number = j;
			return;
		}
	}
	snprintf(here, sizeof(here), "%.*s.pool", OWNER_LEN, owner);
	settings_error(c, here, "\"%s\" is unknown; a pool is one of those listed in pools", name);
}

/* What of a request each kind of key needs. */
static unsigned int key_wanted(int kind)
{
	switch (kind) {
	case KEY_PATH:
	case KEY_URI:
		return REQUEST_PATH;
	case KEY_HOST_PATH:
		return REQUEST_PATH | REQUEST_HOST;
	case KEY_HOST:
	case KEY_SNI:
		return REQUEST_HOST;
	default:
		return 0;
	}
}

static bool key_possible(int kind, int protocol)
{
	return kind == KEY_SOURCE || (protocol == PROTOCOL_TLS && kind == KEY_SNI) ||
	       (protocol == PROTOCOL_HTTP && kind != KEY_SNI);
}

static void check_arguments(struct settings_check *c, const char *owner,
			    const struct key_policy *key)
{
	char here[PATH_LEN];
	const char *at = key->arguments;

	snprintf(here, sizeof(here), "%.*s.arguments", OWNER_LEN, owner);
	if (*at && key->kind != KEY_URI)
		settings_error(c, here, "only the key \"uri\" has arguments");
	while (*at) {
		size_t len = strcspn(at, " "), other_len;

		if (!len || at[len + (at[len] == ' ')] == ' ' || (at[len] == ' ' && !at[len + 1])) {
			settings_error(c, here,
				       "one blank stands between two names, and none else");
			return;
		}
		if (strcspn(at, "=&#") < len) {
			settings_error(c, here, "a name has none of \"=&#\"");
			return;
		}
		for (const char *other = key->arguments; other < at; other += other_len + 1) {
			other_len = strcspn(other, " ");
			if (other_len != len || memcmp(other, at, len) != 0)
				continue;
			settings_error(c, here, "%.*s is there twice", (int)len, at);
			return;
		}
		at += len + (at[len] == ' ');
	}
}

/* A policy that says nothing is @inherited. */
static void resolve_key(struct settings_check *c, const char *owner, struct key_policy *key,
			const struct key_policy *inherited, int protocol)
{
	char here[PATH_LEN];

	if (key->kind == KEY_DEFAULT && !key->depth && !key->arguments[0]) {
		*key = *inherited;
		return;
	}
	if (key->kind == KEY_DEFAULT)
		key->kind = inherited->kind;
	if (!key_possible(key->kind, protocol)) {
		snprintf(here, sizeof(here), "%.*s.key", OWNER_LEN, owner);
		settings_error(c, here, "\"%s\" is no key of the protocol \"%s\"", keys[key->kind],
			       protocols[protocol]);
	}
	if (key->depth && !(key_wanted(key->kind) & REQUEST_PATH)) {
		snprintf(here, sizeof(here), "%.*s.depth", OWNER_LEN, owner);
		settings_error(c, here, "the key \"%s\" has no segments", keys[key->kind]);
	}
	check_arguments(c, owner, key);
}

/* Routes are compared with requests in their normal form: how would that of a route be written? */
static void check_normal(struct settings_check *c, const char *owner, const struct route *route)
{
	const struct request as_written = {
		.host = { (const uint8_t *)route->host, strlen(route->host) },
		.path = { (const uint8_t *)route->path, strlen(route->path) },
	};
	uint8_t buf[URL_ROOM(sizeof(*route))];
	char here[PATH_LEN];
	struct request n;

	url_normalise(&as_written, REQUEST_HOST | REQUEST_PATH, &n, buf);
	if (n.host.len != as_written.host.len ||
	    memcmp(n.host.bytes, route->host, n.host.len) != 0) {
		snprintf(here, sizeof(here), "%.*s.host", OWNER_LEN, owner);
		settings_error(c, here, "would never match; write \"%.*s\"", (int)n.host.len,
			       n.host.bytes);
	}
	if (n.path.len != as_written.path.len ||
	    memcmp(n.path.bytes, route->path, n.path.len) != 0) {
		snprintf(here, sizeof(here), "%.*s.path", OWNER_LEN, owner);
		settings_error(c, here, "would never match; write \"%.*s\"", (int)n.path.len,
			       n.path.bytes);
	}
}

/* A name, or an address of IPv6 in brackets. */
static bool is_host(const char *host)
{
	size_t end = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":/ ?#@[]");

	for (const char *at = host; *at; at++)
		if ((unsigned char)*at <= ' ' || (unsigned char)*at > '~')
			return false;
	return host[0] == '[' ? host[end] && !host[end + 1] : !host[end];
}

static void check_route(struct settings_check *c, const char *owner, const struct route *route,
			int protocol)
{
	const char *star = strchr(route->host, '*');
	char here[PATH_LEN];

	if (star && (star != route->host || star[1] != '.' || !star[2] || star[2] == '.' ||
		     strchr(star + 1, '*'))) {
		snprintf(here, sizeof(here), "%.*s.host", OWNER_LEN, owner);
		settings_error(c, here,
			       "a star stands for names below a domain: "
			       "\"*.example.com\"");
	}
	if (!is_host(route->host)) {
		snprintf(here, sizeof(here), "%.*s.host", OWNER_LEN, owner);
		settings_error(c, here,
			       "no host; that is a name in ASCII, without a port, or an address of "
			       "IPv6 in brackets");
	}
	if (strpbrk(route->path, "?#")) {
		snprintf(here, sizeof(here), "%.*s.path", OWNER_LEN, owner);
		settings_error(c, here, "a query is no part of a path");
	}
	if (route->path[0] && (protocol != PROTOCOL_HTTP || route->path[0] != '/')) {
		snprintf(here, sizeof(here), "%.*s.path", OWNER_LEN, owner);
		settings_error(c, here,
			       protocol == PROTOCOL_HTTP ? "a path begins with \"/\""
							 : "only the protocol \"http\" has paths");
	}
	if (route->alpn[0] && protocol != PROTOCOL_TLS) {
		snprintf(here, sizeof(here), "%.*s.alpn", OWNER_LEN, owner);
		settings_error(c, here, "only the protocol \"tls\" has ALPN");
	}
	check_normal(c, owner, route);
}

static void resolve_routes(struct settings_check *c, const struct balancer_settings *settings,
			   struct service_settings *service, const char *name)
{
	char owner[PATH_LEN];

	if (service->route_count && service->protocol == PROTOCOL_TCP) {
		snprintf(owner, sizeof(owner), "%.*s.routes", OWNER_LEN, name);
		settings_error(c, owner, "the protocol \"tcp\" has nothing to route by");
		return;
	}
	for (size_t i = 0; i < service->route_count; i++) {
		struct route_settings *route = &service->routes[i];

		snprintf(owner, sizeof(owner), "%.*s.routes[%zu]", NAME_LEN_MAX, name, i);
		resolve_pool(c, settings, owner, route->pool, &route->pool_number);
		resolve_key(c, owner, &route->key, &service->key, service->protocol);
		check_route(c, owner, &route->match, service->protocol);
		service->wanted |= route_wanted(&route->match) | key_wanted(route->key.kind);
	}
}

static void resolve_service(struct settings_check *c, const struct balancer_settings *settings,
			    size_t i)
{
	static const struct key_policy inherited[] = {
		[PROTOCOL_HTTP] = { .kind = KEY_PATH },
		[PROTOCOL_TLS] = { .kind = KEY_SNI },
		[PROTOCOL_TCP] = { .kind = KEY_SOURCE },
	};
	struct service_settings *service = &settings->services[i];
	char name[OWNER_LEN];

	snprintf(name, sizeof(name), "services[%zu]", i);
	resolve_pool(c, settings, name, service->pool, &service->pool_number);
	/* One without a name could not be read, and that is an error already. */
	if (service->name[0] && !service->pool[0] && !service->route_count)
		settings_error(c, name, "neither a pool nor routes; a service has one of them");
	if (service->speaks == SPEAKS_SERVER && service->protocol != PROTOCOL_TCP) {
		char here[PATH_LEN];

		snprintf(here, sizeof(here), "%s.speaks", name);
		settings_error(c, here, "with the protocol \"%s\" the client speaks first",
			       protocols[service->protocol]);
	}
	resolve_key(c, name, &service->key, &inherited[service->protocol], service->protocol);
	service->wanted = key_wanted(service->key.kind);
	resolve_routes(c, settings, service, name);
}

/* A bridge with the virtual address would be the balancer itself. */
static void check_backends(struct settings_check *c, struct balancer_settings *settings,
			   size_t pool)
{
	const struct pool_settings *p = &settings->pools[pool];
	char here[PATH_LEN], there[PATH_LEN], text[ADDR_STRLEN];

	if (p->backend_count > BACKENDS_MAX) {
		snprintf(here, sizeof(here), "pools[%zu].backends", pool);
		settings_error(c, here, "%zu backends are too many; a pool has at most %d",
			       p->backend_count, BACKENDS_MAX);
	}
	if (p->load_factor && settings->health.probes != PROBES_ON) {
		snprintf(here, sizeof(here), "pools[%zu].load_factor", pool);
		settings_conflict(c, here, "health.probes",
				  "wants probes: bridges tell with their answers how many "
				  "connections they have");
	}
	for (size_t i = 0; i < p->backend_count; i++) {
		const struct addr *address = &p->backends[i].address;

		p->backends[i].number = settings->backend_count++;
		for (size_t j = 0; address->family && j < settings->service_count; j++) {
			if (!addr_equal(address, &settings->services[j].address))
				continue;
			snprintf(here, sizeof(here), "pools[%zu].backends[%zu].address", pool, i);
			snprintf(there, sizeof(there), "services[%zu].address", j);
			settings_conflict(c, here, there,
					  "\"%s\" is a virtual address; a bridge has its own",
					  addr_format(address, text));
			break;
		}
	}
}

static void check(struct settings_check *c, void *all)
{
	struct balancer_settings *settings = all;

	if (settings->health.interval_ms && settings->health.fast_ms > settings->health.interval_ms)
		settings_error(c, "health.fast_ms", "%d is longer than interval_ms, %d",
			       settings->health.fast_ms, settings->health.interval_ms);
	for (size_t i = 0; i < settings->service_count; i++) {
		resolve_service(c, settings, i);
		check_port(c, settings->services, i);
		check_index(c, settings->services, i);
	}
	for (size_t i = 0; i < settings->pool_count; i++)
		check_backends(c, settings, i);
}

struct balancer_settings *balancer_settings_load(const char *path,
						 const struct balancer_settings *running,
						 FILE *errors)
{
	struct balancer_settings *settings = calloc(1, sizeof(*settings));

	if (!settings) {
		fprintf(errors, "%s: %s\n", path, strerror(ENOMEM));
		return NULL;
	}
	if (settings_load(table, settings, running, path, check, errors)) {
		balancer_settings_free(settings);
		return NULL;
	}
	return settings;
}

void balancer_settings_free(struct balancer_settings *settings)
{
	settings_free(table, settings);
	free(settings);
}

void balancer_settings_print(const struct balancer_settings *settings, FILE *out)
{
	settings_print(table, settings, out);
}

const char *settings_protocol(const struct service_settings *service)
{
	return protocols[service->protocol];
}

const char *settings_fallback(const struct service_settings *service)
{
	return fallbacks[service->fallback];
}

const char *settings_key(const struct key_policy *key)
{
	return keys[key->kind];
}
