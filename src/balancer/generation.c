/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making what a configuration says, beside what there is. */
#include "generation.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/key_file.h"

static int make_pools(struct generation *g)
{
	const struct balancer_settings *settings = g->settings;

	g->pools = calloc(settings->pool_count, sizeof(*g->pools));
	if (!g->pools)
		return -ENOMEM;
	for (size_t i = 0; i < settings->pool_count; i++) {
		const struct pool_settings *pool = &settings->pools[i];

		g->pools[i] = pool_new((uint32_t)pool->backend_count);
		if (!g->pools[i])
			return -ENOMEM;
		for (size_t j = 0; j < pool->backend_count; j++)
			if (pool_add(g->pools[i], pool->backends[j].name,
				     (uint32_t)pool->backends[j].weight) < 0)
				return -ENOMEM;
	}
	return 0;
}

static int make_services(struct generation *g)
{
	int ret = index_init(&g->services, (uint32_t)g->settings->service_count);

	for (size_t i = 0; !ret && i < g->settings->service_count; i++) {
		const struct service_settings *service = &g->settings->services[i];
		const struct tuple key = { .dst = service->address,
					   .dport = (uint16_t)service->port };

		index_insert(&g->services, (uint32_t)i, &key);
	}
	return ret;
}

static int make_parts(struct generation *g)
{
	const struct balancer_settings *s = g->settings;

	g->backend_limits = calloc(s->backend_count, sizeof(*g->backend_limits));
	if (!g->backend_limits)
		return -ENOMEM;
	for (int i = 0; i < s->threads; i++) {
		struct generation_part *part = &g->part[i];

		part->listening = calloc(s->service_count, sizeof(*part->listening));
		if (!part->listening)
			return -ENOMEM;
		for (size_t j = 0; j < s->service_count; j++)
			part->listening[j] = (struct listening){
				.vip = { .addr = s->services[j].address,
					 .port = (uint16_t)s->services[j].port },
				.fd = -1,
			};
	}
	return 0;
}

static void retire(struct generation *g, const struct endpoint *vip)
{
	if (g->retired_count < RETIRED_MAX && !generation_service(g, &vip->addr, vip->port))
		g->retired[g->retired_count++] = *vip;
}

/*
 * In the kernel's data plane the maps have what connections need. Here it is this process, which goes
 * on to get their packets.
 */
static int make_retired(struct generation *g, const struct generation *before)
{
	if (g->settings->data_plane == DATA_PLANE_KERNEL || !before)
		return 0;
	g->retired = calloc(RETIRED_MAX, sizeof(*g->retired));
	if (!g->retired)
		return -ENOMEM;
	for (size_t i = 0; i < before->settings->service_count; i++)
		retire(g, &before->part[0].listening[i].vip);
	for (size_t i = 0; i < before->retired_count; i++)
		retire(g, &before->retired[i]);
	return 0;
}

static int number_bridges(struct generation *g, struct bridges *bridges)
{
	const struct balancer_settings *s = g->settings;

	g->numbers = calloc(s->backend_count, sizeof(*g->numbers));
	if (!g->numbers)
		return -ENOMEM;
	for (size_t i = 0; i < s->pool_count; i++) {
		for (size_t j = 0; j < s->pools[i].backend_count; j++) {
			const struct backend_settings *backend = &s->pools[i].backends[j];
			uint16_t number = bridges_number(bridges, &backend->address);

			if (!number)
				return -ENOSPC;
			g->numbers[backend->number] = number;
		}
	}
	return 0;
}

/* Of a service whose sockets are all there; the others are opened anew, in their order. */
static void inherit(struct generation *g, struct inherited *in)
{
	const struct balancer_settings *s = g->settings;
	unsigned int workers = (unsigned int)s->threads;

	for (size_t i = 0; i < s->service_count; i++) {
		bool all = true;

		for (unsigned int j = 0; j < workers; j++)
			all = all && inherited_fits(in, &g->part[j].listening[i], s->window_scale,
						    j, workers);
		for (unsigned int j = 0; all && j < workers; j++)
			all = inherited_listening(in, &g->part[j].listening[i], s->window_scale, j,
						  workers);
	}
	inherited_shut(in);
}

/* For one service after the other, each worker in its turn: see listener_open(). */
static int listen_all(struct generation *g, const struct generation *before)
{
	const struct balancer_settings *s = g->settings;
	int ret = 0;

	for (size_t i = 0; i < s->service_count; i++) {
		const struct endpoint *vip = &g->part[0].listening[i].vip;
		const struct tuple key = { .dst = vip->addr, .dport = vip->port };
		uint32_t old = before ? index_find(&before->services, &key) : SLOT_NONE;

		for (int j = 0; !ret && j < s->threads; j++) {
			struct listening *l = &g->part[j].listening[i];

			if (old != SLOT_NONE)
				*l = before->part[j].listening[old];
			else if (l->fd < 0)
				ret = listener_open(l, s->window_scale, (unsigned int)j,
						    (unsigned int)s->threads);
		}
	}
	return ret;
}

struct generation *generation_new(struct balancer_settings *settings,
				  const struct generation *before, struct bridges *bridges,
				  struct inherited *inherited)
{
	struct generation *g = aligned_alloc(__alignof__(*g), sizeof(*g));
	int ret;

	if (!g) {
		log_error("not enough memory for the configuration");
		balancer_settings_free(settings);
		return NULL;
	}
	memset(g, 0, sizeof(*g));
	g->settings = settings;
	ret = key_file_load(settings->key_file, &g->keys);
	if (ret)
		goto fail;
	ret = make_pools(g);
	if (!ret)
		ret = make_services(g);
	if (!ret)
		ret = views_init(&g->views, settings);
	if (!ret)
		ret = make_parts(g);
	if (!ret)
		ret = make_retired(g, before);
	if (!ret)
		ret = number_bridges(g, bridges);
	if (ret == -ENOMEM)
		log_error("not enough memory for pools and services");
	if (!ret && inherited)
		inherit(g, inherited);
	if (!ret)
		ret = listen_all(g, before);
	if (!ret)
		return g;
	generation_close(g, before);
fail:
	generation_free(g);
	return NULL;
}

void generation_close(struct generation *g, const struct generation *other)
{
	for (int i = 0; i < g->settings->threads; i++) {
		for (size_t j = 0; g->part[i].listening && j < g->settings->service_count; j++) {
			struct listening *l = &g->part[i].listening[j];

			if (other && generation_service(other, &l->vip.addr, l->vip.port))
				continue;
			if (l->fd >= 0)
				close(l->fd);
			l->fd = -1;
		}
	}
}

void generation_free(struct generation *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < QUEUE_COUNT; i++)
		free(g->part[i].listening);
	free(g->backend_limits);
	for (size_t i = 0; g->pools && i < g->settings->pool_count; i++)
		pool_free(g->pools[i]);
	free(g->pools);
	views_clean(&g->views);
	index_clean(&g->services);
	free(g->numbers);
	free(g->retired);
	balancer_settings_free(g->settings);
	sodium_memzero(&g->keys, sizeof(g->keys));
	free(g);
}

static bool needed(const struct generation *g)
{
	if (g->readers)
		return true;
	for (size_t i = 0; i < QUEUE_COUNT; i++)
		if (__atomic_load_n(&g->part[i].handovers, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

bool generation_collect(struct generation *g)
{
	bool any = false;

	for (struct generation **link = &g->older; *link;) {
		struct generation *old = *link;

		if (needed(old)) {
			link = &old->older;
			continue;
		}
		*link = old->older;
		generation_free(old);
		any = true;
	}
	return any;
}

const struct service_settings *generation_service(const struct generation *g,
						  const struct addr *vip, uint16_t port)
{
	const struct tuple key = { .dst = *vip, .dport = port };
	uint32_t number = index_find(&g->services, &key);

	return number == SLOT_NONE ? NULL : &g->settings->services[number];
}
