/* SPDX-License-Identifier: GPL-2.0-or-later */
/* l3dsr-balancer: what starts and stops, and in which order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backlog.h"
#include "balancer.h"
#include "marks.h"
#include "os/daemon.h"
#include "os/key_file.h"
#include "os/log.h"
#include "os/service.h"
#include "prober.h"
#include "sets.h"

#define RULESET SYSCONFDIR "/l3dsr/nft/balancer.nft"

static int make_pools(struct balancer *b)
{
	const struct balancer_settings *settings = b->settings;

	b->pools = calloc(settings->pool_count, sizeof(*b->pools));
	if (!b->pools)
		return -ENOMEM;
	for (size_t i = 0; i < settings->pool_count; i++) {
		const struct pool_settings *pool = &settings->pools[i];

		b->pools[i] = pool_new((uint32_t)pool->backend_count);
		if (!b->pools[i])
			return -ENOMEM;
		for (size_t j = 0; j < pool->backend_count; j++)
			if (pool_add(b->pools[i], pool->backends[j].name,
				     (uint32_t)pool->backends[j].weight) < 0)
				return -ENOMEM;
	}
	return 0;
}

static int make_services(struct balancer *b)
{
	int ret = index_init(&b->services, (uint32_t)b->settings->service_count);

	for (size_t i = 0; !ret && i < b->settings->service_count; i++) {
		const struct service_settings *service = &b->settings->services[i];
		const struct tuple key = { .dst = service->address,
					   .dport = (uint16_t)service->port };

		index_insert(&b->services, (uint32_t)i, &key);
	}
	return ret;
}

static int balancer_init(struct balancer *b, const struct balancer_settings *settings)
{
	int ret;

	b->settings = settings;
	ret = key_file_load(settings->key_file, &b->keys);
	if (ret)
		return ret;
	b->backend_limits = calloc(settings->backend_count, sizeof(*b->backend_limits));
	ret = b->backend_limits ? make_pools(b) : -ENOMEM;
	if (!ret)
		ret = make_services(b);
	if (!ret)
		ret = views_init(&b->views, settings);
	if (ret) {
		log_error("not enough memory for pools and services");
		return ret;
	}
	return bridges_init(&b->bridges, settings, BALANCER_TABLE);
}

static void balancer_clean(struct balancer *b)
{
	free(b->backend_limits);
	for (size_t i = 0; b->pools && i < b->settings->pool_count; i++)
		pool_free(b->pools[i]);
	free(b->pools);
	views_clean(&b->views);
	index_clean(&b->services);
	bridges_clean(&b->bridges);
}

static int make_tables(struct balancer_worker *w, const struct balancer_settings *s)
{
	unsigned int threads = (unsigned int)s->threads;
	uint64_t request_ms = (uint64_t)s->timeouts.request_ms;
	uint32_t requests = worker_share(s->limits.requests, threads);

	if (snoop_init(&w->snoop, worker_share(s->limits.handshakes, threads), &w->counters) ||
	    listener_init(&w->listener, (uint32_t)s->service_count, requests, request_ms,
			  &w->counters) ||
	    handover_init(&w->handovers, requests, (uint32_t)s->limits.request_bytes, request_ms) ||
	    steer_init(&w->steer, worker_share(s->limits.flows, threads),
		       s->data_plane == DATA_PLANE_KERNEL, (uint64_t)s->timeouts.idle_s * 1000,
		       (uint64_t)s->timeouts.closing_s * 1000, &w->counters)) {
		log_error("not enough memory for the tables: lower the limits");
		return -ENOMEM;
	}
	return 0;
}

static int open_answers(struct balancer_worker *w)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&w->answer.addr, w->answer.port, &ss);
	char text[ENDPOINT_STRLEN];
	int ret;

	w->answer_fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (w->answer_fd >= 0 && bind(w->answer_fd, (struct sockaddr *)&ss, len) == 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot receive answers of bridges at %s (answer_address, answer_port)",
			endpoint_format(&w->answer.addr, w->answer.port, text));
	return ret;
}

static int worker_make(struct balancer_worker *w, const struct balancer *b, unsigned int number)
{
	const struct balancer_settings *s = b->settings;
	int ret;

	w->balancer = b;
	w->answer = (struct endpoint){ .addr = s->answer_address,
				       .port = (uint16_t)(s->answer_port + (int)number) };
	w->answer_fd = -1;
	w->inject.fd4 = -1;
	ret = worker_init(&w->worker, number, (unsigned int)s->threads,
			  (uint32_t)s->limits.queue_length, &w->counters);
	if (!ret)
		ret = make_tables(w, s);
	if (!ret)
		ret = inject_open(&w->inject, &w->counters, MARK_CLEAR);
	if (!ret)
		ret = open_answers(w);
	if (!ret)
		ret = nft_reader_open(&w->nft, BALANCER_TABLE);
	w->worker.role = &balancer_role;
	w->worker.context = w;
	w->worker.extra_fd = w->answer_fd;
	return ret;
}

static void worker_unmake(struct balancer_worker *w)
{
	worker_clean(&w->worker);
	inject_close(&w->inject);
	nft_reader_close(&w->nft);
	if (w->answer_fd >= 0)
		close(w->answer_fd);
	steer_clean(&w->steer);
	handover_clean(&w->handovers);
	listener_clean(&w->listener);
	snoop_clean(&w->snoop);
}

/* For one service after the other, each worker in its turn: see listener_listen(). */
static int listen_all(struct balancer_worker *workers, const struct balancer_settings *s)
{
	int ret = 0;

	for (size_t i = 0; i < s->service_count; i++) {
		const struct endpoint vip = { .addr = s->services[i].address,
					      .port = (uint16_t)s->services[i].port };

		for (int j = 0; !ret && j < s->threads; j++)
			ret = listener_listen(&workers[j].listener, &vip, s->window_scale,
					      (unsigned int)j, (unsigned int)s->threads);
	}
	return ret;
}

struct all {
	struct balancer balancer;
	struct balancer_worker workers[QUEUE_COUNT];
	struct backlog backlog;
	struct prober prober;
	struct counters counters; /* of the main thread */
	struct daemon daemon;
};

static void read_gauges(const void *context, struct gauge gauges[DAEMON_GAUGES])
{
	const struct all *all = context;

	gauges[0].name = "flows";
	gauges[1].name = "requests";
	gauges[2].name = "sockets";
	gauges[3].name = "handshakes";
	for (size_t i = 0; i < all->daemon.count; i++) {
		gauges[0].value += steer_count(&all->workers[i].steer);
		gauges[1].value += handover_count(&all->workers[i].handovers);
		gauges[2].value += listener_count(&all->workers[i].listener);
		gauges[3].value += snoop_count(&all->workers[i].snoop);
	}
}

static void tick(void *context, uint64_t now_ms)
{
	struct all *all = context;
	uint64_t dropped = 0;

	for (size_t i = 0; i < all->daemon.count; i++)
		dropped += listener_drops(&all->workers[i].listener);
	backlog_check(&all->backlog, dropped, now_ms);
}

static int start(struct all *all, const struct balancer_settings *settings)
{
	struct daemon *d = &all->daemon;
	int ret = daemon_init(d);

	if (!ret)
		ret = balancer_init(&all->balancer, settings);
	for (int i = 0; !ret && i < settings->threads; i++) {
		struct balancer_worker *w = &all->workers[i];

		ret = worker_make(w, &all->balancer, (unsigned int)i);
		d->workers[i] = &w->worker;
		d->counters[i] = &w->counters;
		d->count++;
	}
	listener_check_scale(settings->window_scale);
	if (!ret)
		ret = listen_all(all->workers, settings);
	if (!ret)
		ret = sets_make(&d->nft, &all->balancer);
	all->prober.scale = listener_scale(settings->window_scale);
	if (!ret)
		ret = prober_init(&all->prober, settings, &all->balancer.keys,
				  &all->balancer.views);
	if (!ret)
		ret = prober_start(&all->prober, d->service.event);
	return ret;
}

static int run(const void *settings)
{
	struct all *all;
	int ret = -ENOMEM;

	log_set_level((enum log_level)((const struct balancer_settings *)settings)->log_level);
	if (handoff_init()) {
		log_error("cannot initialise libsodium");
		return 1;
	}
	all = calloc(1, sizeof(*all));
	if (!all) {
		log_error("not enough memory");
		return 1;
	}
	all->daemon.scope = COUNTER_BALANCER;
	all->daemon.ruleset = RULESET;
	all->daemon.read_gauges = read_gauges;
	all->daemon.tick = tick;
	all->daemon.own_counters = &all->counters;
	all->backlog.counters = &all->counters;
	all->prober.counters = &all->counters;
	all->daemon.context = all;
	all->prober.fd = all->prober.inject.fd4 = -1;

	ret = start(all, settings);
	if (!ret)
		ret = daemon_run(&all->daemon);

	for (size_t i = 0; i < all->daemon.count; i++)
		worker_unmake(&all->workers[i]);
	prober_clean(&all->prober);
	daemon_clean(&all->daemon);
	balancer_clean(&all->balancer);
	free(all);
	return ret ? 1 : 0;
}

static void *load(const char *path, FILE *errors)
{
	return balancer_settings_load(path, errors);
}

static void print(const void *settings, FILE *out)
{
	balancer_settings_print(settings, out);
}

static void clean(void *settings)
{
	balancer_settings_free(settings);
}

int main(int argc, char **argv)
{
	static const struct program program = {
		.name = "l3dsr-balancer",
		.summary = "Hands each connection over to the backend that serves its URL.",
		.config = SYSCONFDIR "/l3dsr/balancer.conf",
		.load = load,
		.print = print,
		.free = clean,
		.run = run,
	};

	return program_main(&program, argc, argv);
}
