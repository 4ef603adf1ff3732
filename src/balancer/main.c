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
#include "os/datagram.h"
#include "os/log.h"
#include "os/service.h"
#include "os/sysctl.h"
#include "prober.h"
#include "sets.h"
#include "show.h"

#define RULESET	    SYSCONFDIR "/l3dsr/nft/balancer.nft"
#define SYSCTL_FILE "50-l3dsr-balancer.conf"

static int make_tables(struct balancer_worker *w, const struct balancer_settings *s)
{
	unsigned int threads = (unsigned int)s->threads;
	uint64_t request_ms = (uint64_t)s->timeouts.request_ms;
	uint32_t requests = worker_share(s->limits.requests, threads);

	if (snoop_init(&w->snoop, worker_share(s->limits.handshakes, threads), &w->counters) ||
	    listener_init(&w->listener, requests, request_ms, &w->counters) ||
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
	char text[ENDPOINT_STRLEN];
	int ret;

	w->answer_fd = datagram_open(&w->answer.addr, w->answer.port, "answer_address");
	if (w->answer_fd >= 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot receive answers of bridges at %s (answer_address, answer_port)",
			endpoint_format(&w->answer.addr, w->answer.port, text));
	return ret;
}

static int worker_make(struct balancer_worker *w, struct generation *g, unsigned int number)
{
	const struct balancer_settings *s = g->settings;
	int ret;

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
	if (!ret)
		worker_give(&w->worker, g);
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

/**
 * struct all - the process
 * @path:	of the configuration
 * @generation:	in force
 * @unsettled:	the table does not hold what it should in the end
 */
struct all {
	const char *path;
	struct bridges bridges;
	struct show show;
	struct generation *generation;
	struct inherited inherited;
	bool unsettled;
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

static const struct program program;

/* Let the table hold what @g and @before say (sets.h). */
static int hold(struct all *all, const struct generation *g, const struct generation *before)
{
	struct nft_table contents = { .name = BALANCER_TABLE };
	int ret = sets_make(&contents, g, before, &all->bridges);

	if (!ret)
		ret = daemon_hold(&all->daemon, &contents);
	nft_sets_close(&contents);
	return ret;
}

/* What was needed while workers went over to another generation is taken away behind them. */
static void settle(struct all *all)
{
	if (daemon_adopted(&all->daemon) && generation_collect(all->generation))
		all->unsettled = true;
	if (all->unsettled && hold(all, all->generation, NULL) == 0)
		all->unsettled = false;
}

/* The sockets are those of the generation in force: no worker closes one of them. */
static void check_backlog(struct all *all, uint64_t now_ms)
{
	struct generation *g = all->generation;
	uint64_t dropped = 0;

	for (size_t i = 0; i < all->daemon.count; i++)
		for (size_t j = 0; j < g->settings->service_count; j++)
			dropped += listener_drops(&g->part[i].listening[j]);
	backlog_check(&all->backlog, dropped, now_ms);
}

/* What the service manager was told before is not told again. */
static void keep_sockets(struct all *all)
{
	const struct balancer_settings *s = all->generation->settings;

	for (unsigned int i = 0; i < (unsigned int)s->threads; i++)
		for (size_t j = 0; j < s->service_count; j++)
			inherited_keep(&all->daemon.service, &all->generation->part[i].listening[j],
				       s->window_scale, i, (unsigned int)s->threads);
}

static void tick(void *context, uint64_t now_ms)
{
	check_backlog(context, now_ms);
	settle(context);
	keep_sockets(context);
}

/* The next generation, in force or not at all. */
static int go_over(struct all *all, struct balancer_settings *settings)
{
	struct generation *now = all->generation;
	struct generation *next = generation_new(settings, now, &all->bridges, NULL);

	if (!next)
		return -EINVAL;
	next->older = now;
	if (hold(all, next, now)) {
		generation_close(next, now);
		generation_free(next);
		return -EINVAL;
	}
	/* Before any worker sees the views: with what is known of the backends. */
	if (prober_renew(&all->prober, next->settings, &next->keys, &next->views)) {
		all->unsettled = true;
		generation_close(next, now);
		generation_free(next);
		return -ENOMEM;
	}
	all->generation = next;
	all->unsettled = true;
	log_set_level((enum log_level)next->settings->log_level);
	if (!daemon_give(&all->daemon, next))
		log_warning("a worker is busy, and takes the configuration when it can");
	settle(all);
	keep_sockets(all);
	return 0;
}

static void reload(void *context)
{
	struct all *all = context;
	struct balancer_settings *settings;

	/* The sockets of a service that is gone may still be open, out of order: see listener_open(). */
	if (!daemon_adopted(&all->daemon)) {
		log_error("a worker has not taken the last configuration yet: no other is read");
		return;
	}
	settings = program_reload(&program, all->path, all->generation->settings);
	if (!settings || go_over(all, settings))
		log_error("%s is not used: the last configuration stays in force", all->path);
	else
		log_info("%s was read again and is in force", all->path);
}

/* Connections without a request that the daemon before has left. */
static void resume(struct all *all)
{
	struct tuple tuple;
	unsigned int count = 0;
	int fd;

	while ((fd = inherited_waiting(&all->inherited, &tuple)) >= 0) {
		unsigned int queue = queue_hash(&tuple.src, tuple.sport);

		if (!generation_service(all->generation, &tuple.dst, tuple.dport)) {
			listener_close_spoken(fd);
			continue;
		}
		listener_resume(&all->workers[queue % all->daemon.count].listener, &tuple, fd,
				clock_ms());
		count++;
	}
	keep_sockets(all);
	log_debug("%u connections go on that were accepted by the process before", count);
}

/* And those that are left to the one behind, those whose request was held among them. */
static void leave(struct all *all)
{
	size_t count = 0, room = 0;
	int *fds, fd;

	for (size_t i = 0; i < all->daemon.count; i++)
		room += listener_count(&all->workers[i].listener);
	fds = calloc(room + 1, sizeof(*fds));
	for (size_t i = 0; fds && i < all->daemon.count; i++)
		while (count < room && (fd = listener_leave(&all->workers[i].listener)) >= 0)
			fds[count++] = fd;
	inherited_leave(&all->daemon.service, fds, count);
	while (count)
		close(fds[--count]);
	free(fds);
}

/* Warnings: who forwards by interface is right, too, and what is wrong can be set at any time. */
static void check_forwarding(void)
{
	static const struct sysctl_want wanted[] = {
		{ "net.ipv4.ip_forward", 1, SYSCTL_FILE },
		{ "net.ipv4.conf.*.send_redirects", 0, SYSCTL_FILE },
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		(void)sysctl_check(&wanted[i], log_warning);
}

static int start(struct all *all, struct balancer_settings *settings)
{
	struct daemon *d = &all->daemon;
	int ret = daemon_init(d);

	if (!ret)
		ret = bridges_init(&all->bridges, BALANCER_TABLE);
	if (ret) {
		balancer_settings_free(settings);
		return ret;
	}
	all->generation = inherited_open(&all->inherited)
				  ? NULL
				  : generation_new(settings, NULL, &all->bridges, &all->inherited);
	if (!all->generation)
		return -EINVAL;
	for (int i = 0; !ret && i < settings->threads; i++) {
		struct balancer_worker *w = &all->workers[i];

		w->bridges = &all->bridges;
		ret = worker_make(w, all->generation, (unsigned int)i);
		d->workers[i] = &w->worker;
		d->counters[i] = &w->counters;
		d->count++;
	}
	if (!ret)
		resume(all);
	listener_check_scale(settings->window_scale);
	check_forwarding();
	if (!ret)
		ret = nft_sets_open(&d->nft, BALANCER_TABLE);
	if (!ret)
		ret = sets_make(&d->nft, all->generation, NULL, &all->bridges);
	all->prober.scale = listener_scale(settings->window_scale);
	if (!ret)
		ret = prober_init(&all->prober, settings, &all->generation->keys,
				  &all->generation->views);
	if (!ret)
		ret = prober_start(&all->prober, d->service.event);
	if (!ret)
		ret = control_open(&d->control, d->service.event, settings->control, show_commands,
				   &all->show);
	return ret;
}

static void clean_generations(struct generation *g)
{
	if (g)
		generation_close(g, NULL);
	while (g) {
		struct generation *older = g->older;

		generation_free(g);
		g = older;
	}
}

static int run(void *settings, const char *path)
{
	struct all *all;
	int ret = -ENOMEM;

	log_set_level((enum log_level)((const struct balancer_settings *)settings)->log_level);
	all = handoff_init() ? NULL : calloc(1, sizeof(*all));
	if (!all) {
		log_error("cannot initialise libsodium, or not enough memory");
		balancer_settings_free(settings);
		return 1;
	}
	all->path = path;
	all->show = (struct show){
		.generation = &all->generation,
		.bridges = &all->bridges,
		.workers = all->workers,
		.daemon = &all->daemon,
		.prober = &all->prober,
	};
	all->daemon.scope = COUNTER_BALANCER;
	all->daemon.ruleset = RULESET;
	all->daemon.read_gauges = read_gauges;
	all->daemon.tick = tick;
	all->daemon.reload = reload;
	all->daemon.own_counters = &all->counters;
	backlog_init(&all->backlog, &all->counters);
	all->prober.counters = &all->counters;
	all->daemon.context = all;
	all->prober.fd = all->prober.inject.fd4 = -1;

	ret = start(all, settings);
	if (!ret)
		ret = daemon_run(&all->daemon);
	if (!ret)
		leave(all);

	for (size_t i = 0; i < all->daemon.count; i++)
		worker_unmake(&all->workers[i]);
	prober_clean(&all->prober);
	daemon_clean(&all->daemon);
	inherited_close(&all->inherited);
	clean_generations(all->generation);
	bridges_clean(&all->bridges);
	free(all);
	return ret ? 1 : 0;
}

static void *load(const char *path, const void *running, FILE *errors)
{
	return balancer_settings_load(path, running, errors);
}

static void print(const void *settings, FILE *out)
{
	balancer_settings_print(settings, out);
}

static void clean(void *settings)
{
	balancer_settings_free(settings);
}

static const struct program program = {
	.name = "l3dsr-balancer",
	.summary = "Hands each connection over to the backend that serves its URL.",
	.config = SYSCONFDIR "/l3dsr/balancer.conf",
	.load = load,
	.print = print,
	.free = clean,
	.run = run,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
