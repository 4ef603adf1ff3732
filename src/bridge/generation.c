/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making what a configuration says, beside what there is. */
#include "generation.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "os/key_file.h"
#include "os/log.h"

static int make_services(struct generation *g)
{
	const struct bridge_settings *settings = g->settings;
	int ret = index_init(&g->services, (uint32_t)settings->service_count);

	for (size_t i = 0; !ret && i < settings->service_count; i++) {
		const struct tuple key = { .dst = settings->services[i].vip,
					   .dport = (uint16_t)settings->services[i].port };

		index_insert(&g->services, (uint32_t)i, &key);
	}
	return ret;
}

static bool same(const struct service_settings *a, const struct service_settings *b)
{
	return a->index == b->index && a->port == b->port && a->server_port == b->server_port &&
	       addr_equal(&a->vip, &b->vip) && addr_equal(&a->server, &b->server);
}

/* An index that stands for another address now cannot stand for the old one as well. */
static void retire(struct generation *g, const struct service_settings *old)
{
	const struct bridge_settings *s = g->settings;

	for (size_t i = 0; i < s->service_count; i++)
		if (same(&s->services[i], old) ||
		    (s->services[i].index == old->index) !=
			    addr_equal(&s->services[i].vip, &old->vip))
			return;
	if (g->retired_count < RETIRED_MAX)
		g->retired[g->retired_count++] = *old;
}

static int make_retired(struct generation *g, const struct generation *before)
{
	if (!before)
		return 0;
	g->retired = calloc(RETIRED_MAX, sizeof(*g->retired));
	if (!g->retired)
		return -ENOMEM;
	for (size_t i = 0; i < before->settings->service_count; i++)
		retire(g, &before->settings->services[i]);
	for (size_t i = 0; i < before->retired_count; i++)
		retire(g, &before->retired[i]);
	return 0;
}

struct generation *generation_new(struct bridge_settings *settings, const struct generation *before)
{
	struct generation *g = calloc(1, sizeof(*g));
	int ret = -ENOMEM;

	if (!g) {
		bridge_settings_free(settings);
	} else {
		g->settings = settings;
		if (key_file_load(settings->key_file, &g->keys)) {
			generation_free(g);
			return NULL;
		}
		ret = make_services(g);
	}
	if (!ret)
		ret = make_retired(g, before);
	if (!ret)
		return g;
	log_error("not enough memory for the services");
	generation_free(g);
	return NULL;
}

void generation_free(struct generation *g)
{
	if (!g)
		return;
	index_clean(&g->services);
	free(g->retired);
	bridge_settings_free(g->settings);
	sodium_memzero(&g->keys, sizeof(g->keys));
	free(g);
}

const struct service_settings *generation_service(const struct generation *g,
						  const struct addr *vip, uint16_t port, int index)
{
	const struct tuple key = { .dst = *vip, .dport = port };
	uint32_t number = index_find(&g->services, &key);

	if (number == SLOT_NONE || g->settings->services[number].index != index)
		return NULL;
	return &g->settings->services[number];
}

struct sets {
	struct nft_set *vips, *ports, *servers, *kernel_vips, *kernel_servers;
};

static void put(const struct sets *sets, const struct service_settings *service, bool kernel)
{
	uint16_t port = (uint16_t)service->port, server_port = (uint16_t)service->server_port;

	nft_set_put_dscp(sets->vips, (uint8_t)service->index, &service->vip);
	nft_set_put_port(sets->ports, port);
	nft_set_put_endpoint(sets->servers, &service->server, server_port);
	if (!kernel)
		return;
	nft_set_put_endpoint(sets->kernel_vips, &service->vip, port);
	nft_set_put_endpoint(sets->kernel_servers, &service->server, server_port);
}

int generation_sets(const struct generation *g, struct nft_table *nft, bool kernel)
{
	size_t count = g->settings->service_count + g->retired_count;
	struct nft_set *bridges = nft_sets_add(nft, "bridges4", 1);
	const struct sets sets = {
		.vips = nft_sets_add(nft, "vips4", count),
		.ports = nft_sets_add(nft, "ports4", count),
		.servers = nft_sets_add(nft, "servers4", count),
		.kernel_vips = nft_sets_add(nft, "kernel_vips4", count),
		.kernel_servers = nft_sets_add(nft, "kernel_servers4", count),
	};

	if (!bridges || !sets.vips || !sets.ports || !sets.servers || !sets.kernel_vips ||
	    !sets.kernel_servers) {
		log_error("not enough memory for the sets of table inet %s", nft->name);
		return -ENOMEM;
	}
	nft_set_put_addr(bridges, &g->settings->address);
	for (size_t i = 0; i < g->settings->service_count; i++)
		put(&sets, &g->settings->services[i], kernel);
	for (size_t i = 0; i < g->retired_count; i++)
		put(&sets, &g->retired[i], kernel);
	return 0;
}
