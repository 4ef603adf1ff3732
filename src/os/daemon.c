/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the main thread does while the workers work. */
#include "daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "log.h"

#define CHECK_INTERVAL_US (1000 * 1000)
#define CHECK_ACCURACY_US (100 * 1000)
#define WORKER_STUCK_MS	  5000
#define ADOPT_MS	  500

static bool alive(void *context)
{
	const struct daemon *d = context;

	for (size_t i = 0; i < d->count; i++)
		if (!worker_alive(d->workers[i], WORKER_STUCK_MS))
			return false;
	return true;
}

static void read_gauges(const struct daemon *d, struct gauge gauges[DAEMON_GAUGES])
{
	memset(gauges, 0, DAEMON_GAUGES * sizeof(*gauges));
	d->read_gauges(d->context, gauges);
}

static void status(void *context, char *buf, size_t size)
{
	struct gauge gauges[DAEMON_GAUGES];
	size_t used = 0;

	read_gauges(context, gauges);
	buf[0] = '\0';
	for (size_t i = 0; i < DAEMON_GAUGES && gauges[i].name; i++) {
		int len = snprintf(buf + used, size - used, "%s%" PRIu64 " %s", i ? ", " : "",
				   gauges[i].value, gauges[i].name);

		if (len < 0 || (size_t)len >= size - used)
			return;
		used += (size_t)len;
	}
}

static uint64_t total(const struct daemon *d, enum counter which)
{
	uint64_t sum = d->own_counters ? counters_get(d->own_counters, which) : 0;

	for (size_t i = 0; i < d->count; i++)
		sum += counters_get(d->counters[i], which);
	return sum;
}

void daemon_counters(const struct daemon *d,
		     void (*each)(void *context, const char *name, uint64_t value,
				  const char *sentence),
		     void *context)
{
	struct gauge gauges[DAEMON_GAUGES];
	char name[64];

	for (unsigned int i = 0; i < COUNTER_COUNT; i++)
		if (counter_scope(i) & d->scope)
			each(context, counter_name(i), total(d, i), counter_sentence(i));
	each(context, "queue_dropped_full", d->drops_full,
	     "packets that the kernel dropped because a queue was full");
	each(context, "queue_dropped_undelivered", d->drops_undelivered,
	     "packets that the kernel dropped because the socket of a queue was");
	each(context, "table_deleted", d->nft.deleted,
	     "times that somebody has deleted the table of the ruleset");
	each(context, "table_filled_again", d->tables_filled,
	     "times the sets were filled because somebody had loaded the ruleset");
	read_gauges(d, gauges);
	for (size_t i = 0; i < DAEMON_GAUGES && gauges[i].name; i++) {
		snprintf(name, sizeof(name), "%s_now", gauges[i].name);
		each(context, name, gauges[i].value, "there are now");
	}
}

static void show_counter(void *context, const char *name, uint64_t value, const char *sentence)
{
	struct control_client *client = context;

	control_text(client, name);
	control_number(client, value);
	control_text(client, sentence);
	control_end_row(client);
}

void daemon_show_counters(const struct daemon *d, struct control_client *client, size_t arguments)
{
	if (arguments) {
		control_error(client, "show counters: no arguments are expected");
		return;
	}
	control_columns(client, "s:counter n:value s:meaning");
	daemon_counters(d, show_counter, client);
}

/* Those that are not zero; but for some a zero says something, too. */
static void log_counter(void *context, const char *name, uint64_t value, const char *sentence)
{
	const char *last = strrchr(name, '_');

	(void)sentence;
	(void)context;
	if (value || !strncmp(name, "queue_dropped", strlen("queue_dropped")) ||
	    (last && !strcmp(last, "_now")))
		log_info("counter %s %" PRIu64, name, value);
}

/* One line each, with an end for those who read along. */
static void dump(void *context)
{
	daemon_counters(context, log_counter, NULL);
	log_info("counter end");
}

/* Packets that never reached a worker are seen only here. */
static int on_check(sd_event_source *source, uint64_t now_us, void *context)
{
	static struct log_limit limit;
	struct daemon *d = context;
	uint64_t full, undelivered;
	int result;

	if (queue_kernel_drops(&full, &undelivered) == 0 &&
	    (full > d->drops_full || undelivered > d->drops_undelivered)) {
		log_warning_limited(&limit, now_us / 1000,
				    "the kernel dropped %" PRIu64 " packets because a queue was "
				    "full and %" PRIu64 " because a worker was too slow",
				    full - d->drops_full, undelivered - d->drops_undelivered);
		d->drops_full = full;
		d->drops_undelivered = undelivered;
	}
	if (d->tick)
		d->tick(d->context, now_us / 1000);
	result = sd_event_source_set_time_relative(source, CHECK_INTERVAL_US);
	return result < 0 ? result : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int fill(struct daemon *d)
{
	int ret = nft_sets_fill(&d->nft);

	if (ret == -ENOENT || ret == -EINVAL) /* not there, or of another type */
		log_error("table inet %s is missing or of another version: load it with "
			  "`nft -f %s`",
			  d->nft.name, d->ruleset);
	else if (ret)
		log_error("cannot fill the sets of table inet %s: %s", d->nft.name, strerror(-ret));
	return ret;
}

int daemon_hold(struct daemon *d, struct nft_table *contents)
{
	int ret;

	nft_sets_swap(&d->nft, contents);
	ret = fill(d);
	if (ret)
		nft_sets_swap(&d->nft, contents);
	return ret;
}

bool daemon_adopted(const struct daemon *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (!worker_adopted(d->workers[i]))
			return false;
	return true;
}

bool daemon_give(struct daemon *d, void *configuration)
{
	static const struct timespec moment = { .tv_nsec = 1000 * 1000 };

	for (size_t i = 0; i < d->count; i++)
		worker_give(d->workers[i], configuration);
	for (unsigned int ms = 0; ms < ADOPT_MS && !daemon_adopted(d); ms++)
		nanosleep(&moment, NULL);
	return daemon_adopted(d);
}

static int on_table(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct daemon *d = context;

	(void)source;
	(void)fd;
	(void)revents;
	switch (nft_sets_event(&d->nft)) {
	case NFT_EVENT_LOADED:
		if (fill(d))
			break;
		d->tables_filled++;
		log_info("table inet %s was loaded, its sets are filled again", d->nft.name);
		break;
	case NFT_EVENT_DELETED:
		log_error("table inet %s was deleted: no packet reaches this daemon until it is "
			  "loaded again with `nft -f %s`",
			  d->nft.name, d->ruleset);
		break;
	case NFT_EVENT_NONE:
		break;
	}
	return 0;
}

/* One descriptor for each connection that waits for its request, and those of the workers. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warning_errno("cannot raise the limit of open files");
}

static void reload(void *context)
{
	struct daemon *d = context;

	d->reload(d->context);
}

int daemon_init(struct daemon *d)
{
	raise_file_limit();
	/* Workers hardly ever allocate: none needs an arena, of 64 MiB, for itself. */
	mallopt(M_ARENA_MAX, 1);
	d->service = (struct service){
		.alive = alive,
		.status = status,
		.dump = dump,
		.reload = reload,
		.context = d,
	};
	return service_init(&d->service);
}

static int watch(struct daemon *d)
{
	int ret =
		sd_event_add_io(d->service.event, NULL, nft_sets_fd(&d->nft), EPOLLIN, on_table, d);

	if (ret >= 0)
		ret = sd_event_add_time_relative(d->service.event, NULL, CLOCK_MONOTONIC,
						 CHECK_INTERVAL_US, CHECK_ACCURACY_US, on_check, d);
	return ret < 0 ? ret : 0;
}

/* With the last numbers, which nobody can ask for any more. */
static void stop(struct daemon *d)
{
	for (size_t i = 0; i < d->count; i++)
		worker_stop(d->workers[i]);
	log_info("stopped: %" PRIu64 " packets, %" PRIu64 " verdicts", total(d, COUNTER_PACKETS),
		 total(d, COUNTER_VERDICTS));
}

int daemon_run(struct daemon *d)
{
	int ret = watch(d);

	if (ret) {
		log_error("cannot set up the event loop: %s", strerror(-ret));
		return ret;
	}
	ret = fill(d);
	for (size_t i = 0; !ret && i < d->count; i++)
		ret = worker_start(d->workers[i]);
	if (!ret) {
		ret = service_run(&d->service);
		if (ret)
			log_error("the event loop failed: %s", strerror(-ret));
		stop(d);
	}
	return ret;
}

void daemon_clean(struct daemon *d)
{
	control_close(&d->control);
	service_clean(&d->service);
	nft_sets_close(&d->nft);
}
