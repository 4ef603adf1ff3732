/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All connections that were handed over: those in the tables of workers, and those in the kernel's maps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/packet.h"
#include "show.h"

/*
 * DOC: Theory of operation
 *
 * A listing is made portion by portion, as its client takes it. A worker's table is its own, so the
 * worker is asked to copy some hundred flows between two batches of packets, which takes it
 * microseconds; of the kernel's maps one part of a dump is read at a time. A connection that begins or
 * ends meanwhile may be in the listing or not. A listing holds the generation that it has begun with.
 */

#define PORTION 512

static const char *const maps[] = { "flows4", "closing4" };

#define MAPS (sizeof(maps) / sizeof(maps[0]))

/** struct filter - empty, or 0: all */
struct filter {
	struct addr client;
	const char *service, *backend;
};

/**
 * struct listing - @at: workers first, then maps
 * @backends:	by number of the bridge, those that are wanted; the first of several
 */
struct listing {
	const struct show *show;
	struct control_client *client;
	struct generation *generation;
	struct filter filter;
	char words[2][NAME_LEN_MAX + 1]; /* what the filter points to */
	const struct backend_settings **backends;
	size_t at;
	uint32_t cursor;
	struct nft_reader reader;
	bool dumping;
	struct steer_row rows[PORTION];
	size_t row_count;
};

static void put_row(struct listing *l, const struct steer_row *row, const char *data_plane)
{
	const struct service_settings *service =
		generation_service(l->generation, &row->tuple.dst, row->tuple.dport);
	const struct backend_settings *backend = l->backends[row->number];
	const struct addr *bridge = bridges_address(l->show->bridges, row->number);
	const struct filter *f = &l->filter;
	char text[ENDPOINT_STRLEN];

	if ((f->client.family && !addr_equal(&f->client, &row->tuple.src)) ||
	    (f->service && (!service || strcmp(service->name, f->service) != 0)) ||
	    (f->backend && !backend))
		return;
	control_text(l->client, endpoint_format(&row->tuple.src, row->tuple.sport, text));
	control_text(l->client, endpoint_format(&row->tuple.dst, row->tuple.dport, text));
	control_text(l->client, service ? service->name : "");
	control_text(l->client, backend ? backend->name : "");
	control_text(l->client, bridge ? addr_format(bridge, text) : "");
	control_text(l->client, row->closing ? "closing" : "active");
	control_text(l->client, data_plane);
	control_end_row(l->client);
}

/* In the thread of the worker. */
static void copy_rows(void *context, void *argument)
{
	const struct balancer_worker *w = context;
	struct listing *l = argument;

	l->row_count = steer_list(&w->steer, &l->cursor, l->rows, PORTION);
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

static void put_element(void *context, const void *key, size_t key_len, const void *data,
			size_t data_len)
{
	struct listing *l = context;
	const uint8_t *k = key;
	struct steer_row row = { .closing = l->at > l->show->daemon->count };
	uint32_t number;

	if (key_len != 16 || data_len != sizeof(number))
		return;
	memcpy(&number, data, sizeof(number));
	if (number > BRIDGES_MAX)
		return;
	row.number = (uint16_t)number;
	row.tuple.src = addr_from_bytes(4, k);
	row.tuple.sport = get_be16(k + 4);
	row.tuple.dst = addr_from_bytes(4, k + 8);
	row.tuple.dport = get_be16(k + 12);
	put_row(l, &row, "kernel");
}

static int list_map(struct listing *l)
{
	const char *map = maps[l->at - l->show->daemon->count];
	int ret = 0;

	if (!l->dumping)
		ret = nft_map_dump(&l->reader, map);
	l->dumping = true;
	if (!ret)
		ret = nft_map_dump_next(&l->reader, put_element, l);
	if (ret <= 0)
		l->dumping = false;
	if (ret == -EINTR)
		control_error(l->client, "the table was changed meanwhile: ask again");
	else if (ret < 0)
		control_error(l->client, "cannot read the map %s: %s", map, strerror(-ret));
	return ret;
}

static bool more(struct control_client *client, void *state)
{
	struct listing *l = state;
	size_t workers = l->show->daemon->count;
	int ret = l->at < workers ? list_worker(l) : list_map(l);

	(void)client;
	if (ret > 0)
		return true;
	if (ret < 0)
		return false;
	l->at++;
	l->cursor = 0;
	return l->at < workers ||
	       (l->at < workers + MAPS && l->generation->settings->data_plane == DATA_PLANE_KERNEL);
}

static void end(void *state)
{
	struct listing *l = state;

	l->generation->readers--;
	nft_reader_close(&l->reader);
	free(l->backends);
	free(l);
}

/* Returns what is wrong with it, as half a sentence, or NULL. */
static const char *read_filter(struct listing *l, const char *argument)
{
	const char *value;

	if ((value = show_option(argument, "client")))
		return addr_parse(&l->filter.client, value) ? "is no address" : NULL;
	for (size_t i = 0; i < 2; i++) {
		value = show_option(argument, i ? "backend" : "service");
		if (!value)
			continue;
		if (strlen(value) > NAME_LEN_MAX)
			return "is no name";
		memcpy(l->words[i], value, strlen(value) + 1);
		*(i ? &l->filter.backend : &l->filter.service) = l->words[i];
		return NULL;
	}
	return "is none of client=ADDRESS, service=NAME, backend=NAME";
}

static void find_backends(struct listing *l)
{
	const struct generation *g = l->generation;

	for (size_t i = 0; i < g->settings->pool_count; i++) {
		const struct pool_settings *pool = &g->settings->pools[i];

		for (size_t j = 0; j < pool->backend_count; j++) {
			const struct backend_settings *b = &pool->backends[j];
			const struct backend_settings **place = &l->backends[g->numbers[b->number]];

			if (!*place && (!l->filter.backend || !strcmp(l->filter.backend, b->name)))
				*place = b;
		}
	}
}

void show_flows(void *context, struct control_client *client, char **arguments, size_t count)
{
	const struct show *show = context;
	struct listing *l = calloc(1, sizeof(*l));

	if (l)
		l->backends = calloc(BRIDGES_MAX + 1, sizeof(*l->backends));
	if (!l || !l->backends || nft_reader_open(&l->reader, BALANCER_TABLE)) {
		control_error(client, "not enough memory, or descriptors");
		if (l)
			free(l->backends);
		free(l);
		return;
	}
	l->show = show;
	l->client = client;
	l->generation = *show->generation;
	l->generation->readers++;
	control_continue(client, more, end, l);
	for (size_t i = 0; i < count; i++) {
		const char *wrong = read_filter(l, arguments[i]);

		if (!wrong)
			continue;
		control_error(client, "show flows: \"%s\" %s", arguments[i], wrong);
		return;
	}
	find_backends(l);
	control_columns(client, "s:client s:vip s:service s:backend s:bridge s:state s:data_plane");
}
