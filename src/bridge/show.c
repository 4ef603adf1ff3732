/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Services as they are configured, and all spliced connections. */
#include "show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * DOC: Theory of operation
 *
 * A listing of connections is made portion by portion, as its client takes it. A worker's table is its
 * own, so the worker is asked to copy some hundred between two batches of packets, which takes it
 * microseconds; of connection tracking one part of a dump is read at a time. A connection that begins
 * or ends meanwhile may be in the listing or not.
 */

#define PORTION 512

/** struct listing - @at: workers first, then the kernel; empty filters want all */
struct listing {
	const struct show *show;
	struct control_client *client;
	struct addr from;
	char service[NAME_LEN_MAX + 1];
	size_t at;
	uint32_t cursor;
	struct conntrack conntrack;
	bool dumping;
	struct splice_row rows[PORTION];
	size_t row_count;
};

static const char *service_name(const struct generation *g, const struct addr *vip, uint16_t port)
{
	const struct tuple key = { .dst = *vip, .dport = port };
	uint32_t number = index_find(&g->services, &key);

	return number == SLOT_NONE ? "" : g->settings->services[number].name;
}

static void put_row(struct listing *l, const struct splice_row *row, const char *data_plane)
{
	const char *service = service_name(*l->show->generation, &row->vip.addr, row->vip.port);
	char text[ENDPOINT_STRLEN];

	if ((l->from.family && !addr_equal(&l->from, &row->client.addr)) ||
	    (l->service[0] && strcmp(l->service, service) != 0))
		return;
	control_text(l->client, endpoint_format(&row->client.addr, row->client.port, text));
	control_text(l->client, endpoint_format(&row->vip.addr, row->vip.port, text));
	control_text(l->client, service);
	control_text(l->client, endpoint_format(&row->server.addr, row->server.port, text));
	control_text(l->client, row->state);
	control_text(l->client, data_plane);
	control_end_row(l->client);
}

/* In the thread of the worker. */
static void copy_rows(void *context, void *argument)
{
	const struct bridge_worker *w = context;
	struct listing *l = argument;

	l->row_count = splice_list(&w->splices, &l->cursor, l->rows, PORTION);
}

static int list_worker(struct listing *l)
{
	int ret = worker_ask(&l->show->workers[l->at].worker, copy_rows, l);

	if (ret) {
		control_error(l->client, "a worker is too busy to be asked");
		return ret;
	}
	for (size_t i = 0; i < l->row_count; i++)
		put_row(l, &l->rows[i], "userspace");
	return l->cursor != SLOT_NONE;
}

static void put_entry(void *context, const struct conntrack_entry *e)
{
	const struct splice_row row = {
		.client = { .addr = e->original.src, .port = e->original.sport },
		.vip = { .addr = e->original.dst, .port = e->original.dport },
		.server = { .addr = e->reply.src, .port = e->reply.sport },
		.state = e->state >= CONNTRACK_LAST_ACK ? "closing" : "active",
	};

	put_row(context, &row, "kernel");
}

static int list_kernel(struct listing *l)
{
	int ret = 0;

	if (!l->dumping)
		ret = conntrack_dump(&l->conntrack, SPLICE_KERNEL_MARK, SPLICE_KERNEL_MASK);
	l->dumping = true;
	if (!ret)
		ret = conntrack_dump_next(&l->conntrack, put_entry, l);
	if (ret < 0)
		control_error(l->client, "cannot read the entries of connection tracking: %s",
			      strerror(-ret));
	return ret;
}

static bool more(struct control_client *client, void *state)
{
	struct listing *l = state;
	size_t workers = l->show->daemon->count;
	int ret = l->at < workers ? list_worker(l) : list_kernel(l);

	(void)client;
	if (ret > 0)
		return true;
	if (ret < 0)
		return false;
	l->at++;
	l->cursor = 0;
	return l->at < workers || (l->at == workers && l->show->kernel);
}

static void end(void *state)
{
	struct listing *l = state;

	conntrack_close(&l->conntrack);
	free(l);
}

static bool read_filter(struct listing *l, const char *argument)
{
	size_t len = strlen(argument);

	if (!strncmp(argument, "client=", 7))
		return addr_parse(&l->from, argument + 7) == 0;
	if (strncmp(argument, "service=", 8) != 0 || len == 8 || len - 8 > NAME_LEN_MAX)
		return false;
	memcpy(l->service, argument + 8, len - 8 + 1);
	return true;
}

static void show_flows(void *context, struct control_client *client, char **arguments, size_t count)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (!l || conntrack_open(&l->conntrack)) {
		control_error(client, "not enough memory, or descriptors");
		free(l);
		return;
	}
	l->show = context;
	l->client = client;
	control_continue(client, more, end, l);
	for (size_t i = 0; i < count; i++) {
		if (read_filter(l, arguments[i]))
			continue;
		control_error(client, "show flows: \"%s\" is none of client=ADDRESS, service=NAME",
			      arguments[i]);
		return;
	}
	control_columns(client, "s:client s:vip s:service s:server s:state s:data_plane");
}

static void show_services(void *context, struct control_client *client, char **arguments,
			  size_t count)
{
	const struct show *show = context;
	const struct bridge_settings *s = (*show->generation)->settings;
	char text[ENDPOINT_STRLEN];

	(void)arguments;
	if (count) {
		control_error(client, "show services: no arguments are expected");
		return;
	}
	control_columns(client, "s:service n:index s:address s:server");
	for (size_t i = 0; i < s->service_count; i++) {
		const struct service_settings *service = &s->services[i];

		control_text(client, service->name);
		control_number(client, (uint64_t)service->index);
		control_text(client, endpoint_format(&service->vip, (uint16_t)service->port, text));
		control_text(client, endpoint_format(&service->server,
						     (uint16_t)service->server_port, text));
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
	{ { "show", "flows" }, show_flows },
	{ { "show", "counters" }, show_counters },
	{ { NULL }, NULL },
};
