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
#include "os/key_file.h"
#include "os/log.h"
#include "os/service.h"

#define RULESET SYSCONFDIR "/l3dsr/nft/bridge.nft"

static int bridge_init(struct bridge *b, const struct bridge_settings *settings)
{
	int ret;

	b->settings = settings;
	ret = key_file_load(settings->key_file, &b->keys);
	if (ret)
		return ret;
	ret = index_init(&b->services, (uint32_t)settings->service_count);
	if (ret) {
		log_error("not enough memory for the services");
		return ret;
	}
	for (size_t i = 0; i < settings->service_count; i++) {
		const struct tuple key = { .dst = settings->services[i].vip,
					   .dport = (uint16_t)settings->services[i].port };

		index_insert(&b->services, (uint32_t)i, &key);
	}
	return 0;
}

/* Answers leave from the bridge's own address: the balancer's ruleset lets no other in. */
static int open_answers(int *fd, const struct addr *address)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(address, 0, &ss);
	char text[ADDR_STRLEN];
	int ret;

	*fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd >= 0 && bind(*fd, (struct sockaddr *)&ss, len) == 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot send answers from %s (address)", addr_format(address, text));
	return ret;
}

static int worker_make(struct bridge_worker *w, const struct bridge *b, unsigned int number)
{
	const struct bridge_settings *s = b->settings;
	const uint64_t lifetime_ms[SPLICE_STATES] = {
		[SPLICE_OPENING] = (uint64_t)s->timeouts.open_ms,
		[SPLICE_SPLICED] = (uint64_t)s->timeouts.idle_s * 1000,
		[SPLICE_CLOSING] = (uint64_t)s->timeouts.closing_s * 1000,
		[SPLICE_DEAD] = (uint64_t)s->timeouts.open_ms,
		[SPLICE_KERNEL] = (uint64_t)s->timeouts.open_ms,
	};
	unsigned int threads = (unsigned int)s->threads;
	int ret;

	w->bridge = b;
	w->answer_fd = -1;
	w->inject.fd4 = -1;
	w->kernel.conntrack.fd = -1;
	ret = worker_init(&w->worker, number, threads, (uint32_t)s->limits.queue_length,
			  &w->counters);
	if (!ret) {
		ret = splice_init(&w->splices, worker_share(s->limits.flows, threads), lifetime_ms,
				  number, threads, &w->counters);
		if (ret)
			log_error("not enough memory for the table of flows: lower limits.flows");
	}
	if (!ret && b->kernel) {
		ret = conntrack_open(&w->kernel.conntrack);
		w->kernel.established_s = b->kernel->state[CONNTRACK_ESTABLISHED];
		w->kernel.close_s = b->kernel->state[CONNTRACK_CLOSE];
		w->splices.kernel = &w->kernel;
	}
	if (!ret)
		ret = inject_open(&w->inject, &w->counters, MARK_INJECTED);
	if (!ret)
		ret = open_answers(&w->answer_fd, &s->address);
	w->worker.role = &bridge_role;
	w->worker.context = w;
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

static int make_sets(struct nft_table *nft, const struct bridge_settings *s, bool kernel)
{
	struct nft_set *bridges, *vips, *ports, *servers, *kernel_vips, *kernel_servers;
	int ret = nft_sets_open(nft, "l3dsr_bridge");

	if (ret)
		return ret;
	bridges = nft_sets_add(nft, "bridges4", 1);
	vips = nft_sets_add(nft, "vips4", s->service_count);
	ports = nft_sets_add(nft, "ports4", s->service_count);
	servers = nft_sets_add(nft, "servers4", s->service_count);
	kernel_vips = nft_sets_add(nft, "kernel_vips4", s->service_count);
	kernel_servers = nft_sets_add(nft, "kernel_servers4", s->service_count);
	if (!bridges || !vips || !ports || !servers || !kernel_vips || !kernel_servers)
		return -ENOMEM;

	nft_set_put_addr(bridges, &s->address);
	for (size_t i = 0; i < s->service_count; i++) {
		nft_set_put_dscp(vips, (uint8_t)s->services[i].index, &s->services[i].vip);
		nft_set_put_port(ports, (uint16_t)s->services[i].port);
		nft_set_put_endpoint(servers, &s->services[i].server,
				     (uint16_t)s->services[i].server_port);
		if (!kernel)
			continue;
		nft_set_put_endpoint(kernel_vips, &s->services[i].vip,
				     (uint16_t)s->services[i].port);
		nft_set_put_endpoint(kernel_servers, &s->services[i].server,
				     (uint16_t)s->services[i].server_port);
	}
	return 0;
}

struct all {
	struct bridge bridge;
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
	if (all->bridge.kernel) {
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

	if (all->bridge.kernel)
		sweep_tick(&all->sweep, given(all), now_ms);
}

/* Connections of clients, whoever translates them. */
static uint32_t live(void *context)
{
	struct all *all = context;
	uint32_t sum = 0;

	for (size_t i = 0; i < all->daemon.count; i++)
		sum += splice_live(&all->workers[i].splices);
	if (all->bridge.kernel)
		sum += sweep_live(&all->sweep, given(all), clock_ms());
	return sum;
}

static int start_probes(struct all *all, const struct bridge_settings *settings)
{
	struct probes *p = &all->probes;
	int ret = open_answers(&p->answer_fd, &settings->address);

	p->settings = settings;
	p->keys = &all->bridge.keys;
	p->live = live;
	p->live_context = all;
	all->bridge.probes = p;
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
	all->bridge.kernel = &all->sweep.timeouts;
	return sweep_init(&all->sweep, settings, &all->counters);
}

static int start(struct all *all, const struct bridge_settings *settings)
{
	struct daemon *d = &all->daemon;
	int ret = daemon_init(d);

	if (!ret)
		ret = bridge_init(&all->bridge, settings);
	if (!ret)
		ret = use_kernel(all, settings);
	if (!ret)
		ret = start_probes(all, settings);
	all->bridge.far_us = kernel_far_us();
	for (int i = 0; !ret && i < settings->threads; i++) {
		struct bridge_worker *w = &all->workers[i];

		ret = worker_make(w, &all->bridge, (unsigned int)i);
		d->workers[i] = &w->worker;
		d->counters[i] = &w->counters;
		d->count++;
	}
	if (!ret)
		ret = make_sets(&d->nft, settings, all->bridge.kernel);
	return ret;
}

static int run(const void *settings)
{
	struct all *all;
	int ret;

	log_set_level((enum log_level)((const struct bridge_settings *)settings)->log_level);
	if (handoff_init()) {
		log_error("cannot initialise libsodium");
		return 1;
	}
	all = calloc(1, sizeof(*all));
	if (!all) {
		log_error("not enough memory");
		return 1;
	}
	all->daemon.scope = COUNTER_BRIDGE;
	all->daemon.ruleset = RULESET;
	all->daemon.read_gauges = read_gauges;
	all->daemon.tick = tick;
	all->daemon.own_counters = &all->counters;
	all->probes.answer_fd = -1;
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
	index_clean(&all->bridge.services);
	free(all);
	return ret ? 1 : 0;
}

static void *load(const char *path, FILE *errors)
{
	return bridge_settings_load(path, errors);
}

static void print(const void *settings, FILE *out)
{
	bridge_settings_print(settings, out);
}

static void clean(void *settings)
{
	bridge_settings_free(settings);
}

int main(int argc, char **argv)
{
	static const struct program program = {
		.name = "l3dsr-bridge",
		.summary = "Splices connections that a balancer hands over into a web server.",
		.config = SYSCONFDIR "/l3dsr/bridge.conf",
		.load = load,
		.print = print,
		.free = clean,
		.run = run,
	};

	return program_main(&program, argc, argv);
}
