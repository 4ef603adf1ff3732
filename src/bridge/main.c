/* SPDX-License-Identifier: GPL-2.0-or-later */
/* l3dsr-bridge: what starts and stops, and in which order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge.h"
#include "kernel_check.h"
#include "os/daemon.h"
#include "os/datagram.h"
#include "os/log.h"
#include "os/service.h"
#include "show.h"

#define RULESET SYSCONFDIR "/l3dsr/nft/bridge.nft"
#define TABLE	"l3dsr_bridge"

/* Answers leave from the bridge's own address: the balancer's ruleset lets no other in. */
static int open_answers(int *fd, const struct addr *address)
{
	char text[ADDR_STRLEN];
	int ret;

	*fd = datagram_open(address, 0, "address");
	if (*fd >= 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot send answers from %s (address)", addr_format(address, text));
	return ret;
}

static int worker_make(struct bridge_worker *w, struct generation *g,
		       const struct sweep_timeouts *kernel, unsigned int number)
{
	const struct bridge_settings *s = g->settings;
	unsigned int threads = (unsigned int)s->threads;
	int ret;

	w->far_us = kernel_far_us();
	w->answer_fd = -1;
	w->inject.fd4 = -1;
	w->kernel.conntrack.fd = -1;
	ret = worker_init(&w->worker, number, threads, (uint32_t)s->limits.queue_length,
			  &w->counters);
	if (!ret) {
		ret = splice_init(&w->splices, worker_share(s->limits.flows, threads), &s->timeouts,
				  number, threads, &w->counters);
		if (ret)
			log_error("not enough memory for the table of flows: lower limits.flows");
	}
	if (!ret && kernel) {
		ret = conntrack_open(&w->kernel.conntrack);
		w->kernel.established_s = kernel->state[CONNTRACK_ESTABLISHED];
		w->kernel.close_s = kernel->state[CONNTRACK_CLOSE];
		w->splices.kernel = &w->kernel;
	}
	if (!ret)
		ret = inject_open(&w->inject, &w->counters, MARK_INJECTED);
	if (!ret)
		ret = open_answers(&w->answer_fd, &s->address);
	w->worker.role = &bridge_role;
	w->worker.context = w;
	if (!ret)
		worker_give(&w->worker, g);
	return ret;
}

static void worker_unmake(struct bridge_worker *w)
{
	worker_clean(&w->worker);
	inject_close(&w->inject);
	conntrack_close(&w->kernel.conntrack);
	if (w->answer_fd >= 0)
		close(w->answer_fd);
	splice_clean(&w->splices);
}

/**
 * struct all - the process
 * @path:	of the configuration
 * @generation:	in force; @older ones may still be in use by a worker
 * @kernel:	timeouts of the kernel's data plane; NULL if all is translated here
 */
struct all {
	const char *path;
	struct generation *generation, *older;
	struct show show;
	const struct sweep_timeouts *kernel;
	struct bridge_worker workers[QUEUE_COUNT];
	struct sweep sweep;
	struct probes probes;
	struct counters counters; /* of the main thread */
	struct daemon daemon;
};

static void read_gauges(const void *context, struct gauge gauges[DAEMON_GAUGES])
{
	const struct all *all = context;

	gauges[0].name = "flows";
	for (size_t i = 0; i < all->daemon.count; i++)
		gauges[0].value += splice_count(&all->workers[i].splices);
	if (all->kernel) {
		gauges[1].name = "kernel_flows";
		gauges[1].value = __atomic_load_n(&all->sweep.flows, __ATOMIC_RELAXED);
	}
}

/* Connections given to the kernel since the start. */
static uint64_t given(const struct all *all)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < all->daemon.count; i++)
		sum += counters_get(&all->workers[i].counters, COUNTER_KERNEL_SPLICED);
	return sum;
}

static void tick(void *context, uint64_t now_ms)
{
	struct all *all = context;

	if (all->kernel)
		sweep_tick(&all->sweep, given(all), now_ms);
}

/* Connections of clients, whoever translates them. */
static uint32_t live(void *context)
{
	struct all *all = context;
	uint32_t sum = 0;

	for (size_t i = 0; i < all->daemon.count; i++)
		sum += splice_live(&all->workers[i].splices);
	if (all->kernel)
		sum += sweep_live(&all->sweep, given(all), clock_ms());
	return sum;
}

static int start_probes(struct all *all, const struct bridge_settings *settings)
{
	struct probes *p = &all->probes;
	int ret = open_answers(&p->answer_fd, &settings->address);

	p->settings = settings;
	p->keys = &all->generation->keys;
	p->live = live;
	p->live_context = all;
	return ret ? ret : probes_init(p, all->daemon.service.event, &all->counters);
}

/* The kernel's data plane, if it is wanted and the kernel is fit for it. */
static int use_kernel(struct all *all, const struct bridge_settings *settings)
{
	if (settings->data_plane != DATA_PLANE_KERNEL)
		return 0;
	if (!kernel_check(settings)) {
		log_warning("the kernel cannot translate: this daemon does, as with data_plane = "
			    "\"userspace\"");
		return 0;
	}
	all->kernel = &all->sweep.timeouts;
	return sweep_init(&all->sweep, TABLE, settings, &all->counters);
}

static const struct program program;

/* The next generation, in force or not at all. */
static int go_over(struct all *all, struct bridge_settings *settings)
{
	struct nft_table contents = { .name = TABLE };
	struct generation *next = generation_new(settings, all->generation);
	int ret = next ? generation_sets(next, &contents, all->kernel) : -EINVAL;

	if (ret) {
		nft_sets_close(&contents);
		generation_free(next);
		return ret;
	}
	/* Who knows more than the table is ready when its packets come. */
	if (!daemon_give(&all->daemon, next))
		log_warning("a worker is busy, and takes the configuration when it can");
	ret = daemon_hold(&all->daemon, &contents);
	nft_sets_close(&contents);
	if (ret) {
		all->older = next;
		(void)daemon_give(&all->daemon, all->generation);
		return ret;
	}
	/* Without memory for that, the checks need the last one for ever. */
	if (probes_renew(&all->probes, next->settings, &next->keys))
		log_warning("not enough memory: web servers are checked as before");
	else
		all->older = all->generation;
	all->generation = next;
	log_set_level((enum log_level)next->settings->log_level);
	sweep_settings(&all->sweep, next->settings);
	return 0;
}

static void reload(void *context)
{
	struct all *all = context;
	struct bridge_settings *settings;

	if (!daemon_adopted(&all->daemon)) {
		log_error("a worker has not taken the last configuration yet: no other is read");
		return;
	}
	generation_free(all->older);
	all->older = NULL;
	settings = program_reload(&program, all->path, all->generation->settings);
	if (!settings || go_over(all, settings))
		log_error("%s is not used: the last configuration stays in force", all->path);
	else
		log_info("%s was read again and is in force", all->path);
}

static int start(struct all *all, struct bridge_settings *settings)
{
	struct daemon *d = &all->daemon;
	int ret = daemon_init(d);

	if (ret) {
		bridge_settings_free(settings);
		return ret;
	}
	all->generation = generation_new(settings, NULL);
	if (!all->generation)
		return -EINVAL;
	ret = use_kernel(all, settings);
	if (!ret)
		ret = start_probes(all, settings);
	for (int i = 0; !ret && i < settings->threads; i++) {
		struct bridge_worker *w = &all->workers[i];

		w->probes = &all->probes;
		ret = worker_make(w, all->generation, all->kernel, (unsigned int)i);
		d->workers[i] = &w->worker;
		d->counters[i] = &w->counters;
		d->count++;
	}
	if (!ret)
		ret = nft_sets_open(&d->nft, TABLE);
	if (!ret)
		ret = generation_sets(all->generation, &d->nft, all->kernel);
	all->show = (struct show){
		.generation = &all->generation,
		.workers = all->workers,
		.daemon = d,
		.kernel = all->kernel,
	};
	if (!ret)
		ret = control_open(&d->control, d->service.event, settings->control, show_commands,
				   &all->show);
	return ret;
}

static int run(void *settings, const char *path)
{
	struct all *all;
	int ret;

	log_set_level((enum log_level)((const struct bridge_settings *)settings)->log_level);
	all = handoff_init() ? NULL : calloc(1, sizeof(*all));
	if (!all) {
		log_error("cannot initialise libsodium, or not enough memory");
		bridge_settings_free(settings);
		return 1;
	}
	all->path = path;
	all->daemon.scope = COUNTER_BRIDGE;
	all->daemon.ruleset = RULESET;
	all->daemon.read_gauges = read_gauges;
	all->daemon.tick = tick;
	all->daemon.own_counters = &all->counters;
	all->probes.answer_fd = -1;
	all->daemon.reload = reload;
	all->sweep.dump.fd = all->sweep.remove.fd = -1;
	all->daemon.context = all;

	ret = start(all, settings);
	if (!ret)
		ret = daemon_run(&all->daemon);

	for (size_t i = 0; i < all->daemon.count; i++)
		worker_unmake(&all->workers[i]);
	probes_clean(&all->probes);
	daemon_clean(&all->daemon);
	sweep_clean(&all->sweep);
	generation_free(all->generation);
	generation_free(all->older);
	free(all);
	return ret ? 1 : 0;
}

static void *load(const char *path, const void *running, FILE *errors)
{
	return bridge_settings_load(path, running, errors);
}

static void print(const void *settings, FILE *out)
{
	bridge_settings_print(settings, out);
}

static void clean(void *settings)
{
	bridge_settings_free(settings);
}

static const struct program program = {
	.name = "l3dsr-bridge",
	.summary = "Splices connections that a balancer hands over into a web server.",
	.config = SYSCONFDIR "/l3dsr/bridge.conf",
	.load = load,
	.print = print,
	.free = clean,
	.run = run,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
