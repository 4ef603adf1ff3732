/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets, maps and rules of nft/balancer.nft that are the daemon's to fill. */
#include "sets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "balancer.h"
#include "os/log.h"
#include "os/nft_map.h"

#define OLD_VIPS_MAX 1024 /* whose index is kept */

static void make_rules(struct nft_table *nft, const struct balancer_settings *s)
{
	const struct nft_keep_rule keep = {
		.chain = "keep4",
		.set = "flows4",
		.map = true,
		.timeout_ms = (uint64_t)s->timeouts.idle_s * 1000,
	};
	const struct nft_keep_rule keep_closing = {
		.chain = "keep_closing4",
		.set = "closing4",
		.map = true,
		.timeout_ms = (uint64_t)s->timeouts.closing_s * 1000,
	};
	const struct nft_keep_rule keep_number = {
		.chain = "keep_number4",
		.set = "numbers4",
		.timeout_ms = (uint64_t)s->timeouts.idle_s * 1000,
	};

	nft_sets_add_rule(nft, &keep);
	nft_sets_add_rule(nft, &keep_closing);
	nft_sets_add_rule(nft, &keep_number);
}

/* An element of indexes4 from an earlier configuration; those of this one are there already. */
static void keep_index(void *context, const void *key, size_t key_len, const void *data,
		       size_t data_len)
{
	struct nft_set *indexes = context;
	struct addr vip;

	if (key_len != 4 || data_len != NFT_CHAIN_LEN)
		return;
	vip = addr_from_bytes(4, key);
	if (!nft_set_has_addr(indexes, &vip))
		nft_set_put_jump(indexes, &vip, data);
}

/* Connections to an address that is no VIP any more still go to their bridge. */
static int keep_indexes(struct nft_set *indexes)
{
	struct nft_reader reader;
	int ret = nft_reader_open(&reader, BALANCER_TABLE);

	if (ret)
		return ret;
	ret = nft_map_each(&reader, indexes->name, keep_index, indexes);
	nft_reader_close(&reader);
	if (!ret || ret == -ENOENT)
		return 0;
	log_error("cannot read the map %s of table inet %s: %s", indexes->name, BALANCER_TABLE,
		  strerror(-ret));
	return ret;
}

static void put_services(const struct generation *g, const struct generation *before,
			 struct nft_set *services, struct nft_set *watched)
{
	const struct balancer_settings *s = g->settings;
	bool watch = s->data_plane == DATA_PLANE_USERSPACE || s->handshake == HANDSHAKE_SNOOP;

	for (size_t i = 0; i < s->service_count; i++) {
		const struct addr *vip = &s->services[i].address;
		uint16_t port = (uint16_t)s->services[i].port;

		if (before && !generation_service(before, vip, port))
			continue;
		nft_set_put_endpoint(services, vip, port);
		if (watch || s->services[i].speaks == SPEAKS_SERVER)
			nft_set_put_endpoint(watched, vip, port);
	}
}

static void put_indexes(const struct balancer_settings *s, struct nft_set *indexes)
{
	char chain[NFT_CHAIN_LEN];

	for (size_t i = 0; i < s->service_count; i++) {
		snprintf(chain, sizeof(chain), INDEX_CHAIN, (unsigned int)s->services[i].index);
		nft_set_put_jump(indexes, &s->services[i].address, chain);
	}
}

static size_t count_backends(const struct generation *g)
{
	size_t count = 0;

	for (; g; g = g->older)
		count += g->settings->backend_count;
	return count;
}

static void put_backends(const struct generation *g, struct nft_set *backends)
{
	for (; g; g = g->older)
		for (size_t i = 0; i < g->settings->pool_count; i++)
			for (size_t j = 0; j < g->settings->pools[i].backend_count; j++)
				nft_set_put_addr(backends,
						 &g->settings->pools[i].backends[j].address);
}

int sets_make(struct nft_table *nft, const struct generation *g, const struct generation *before,
	      const struct bridges *bridge_numbers)
{
	const struct balancer_settings *s = g->settings;
	struct nft_set *services, *retired, *vips, *backends, *answers, *bridges, *indexes,
		*watched;
	int ret;

	services = nft_sets_add(nft, "services4", s->service_count);
	retired = nft_sets_add(nft, "retired4", g->retired_count);
	vips = nft_sets_add(nft, "vips4", s->service_count + OLD_VIPS_MAX);
	backends = nft_sets_add(nft, "backends4", count_backends(g));
	answers = nft_sets_add(nft, "answers4", (size_t)s->threads + 1);
	bridges = nft_sets_add(nft, "bridges4", bridge_numbers->count);
	indexes = nft_sets_add(nft, "indexes4", s->service_count + OLD_VIPS_MAX);
	watched = nft_sets_add(nft, "watched4", s->service_count);
	if (!services || !retired || !vips || !backends || !answers || !bridges || !indexes ||
	    !watched) {
		log_error("not enough memory for the sets of table inet %s", BALANCER_TABLE);
		return -ENOMEM;
	}
	make_rules(nft, s);

	put_services(g, before, services, watched);
	for (size_t i = 0; i < g->retired_count; i++)
		nft_set_put_endpoint(retired, &g->retired[i].addr, g->retired[i].port);
	put_indexes(s, indexes);
	put_backends(g, backends);
	bridges_put(bridge_numbers, bridges);
	for (int i = 0; i < s->threads; i++)
		nft_set_put_endpoint(answers, &s->answer_address, (uint16_t)(s->answer_port + i));
	nft_set_put_endpoint(answers, &s->answer_address, (uint16_t)(s->answer_port + STATUS_PORT));
	ret = keep_indexes(indexes);
	/* Routers still tell these addresses of answers that do not fit. */
	for (size_t i = 0; i < indexes->count; i++) {
		const struct addr vip = addr_from_bytes(4, indexes->elements[i].key);

		nft_set_put_addr(vips, &vip);
	}
	return ret;
}
