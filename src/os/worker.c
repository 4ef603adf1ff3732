/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop of a worker thread. */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/queue_hash.h"
#include "log.h"

#define ASK_MS 200

uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint32_t worker_share(int limit, unsigned int workers)
{
	return ((uint32_t)limit + workers - 1) / workers;
}

int worker_init(struct worker *w, unsigned int number, unsigned int count, uint32_t queue_length,
		struct counters *counters)
{
	uint16_t numbers[QUEUE_COUNT];
	size_t n = 0;

	memset(w, 0, sizeof(*w));
	w->number = number;
	w->extra_fd = -1;
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->wake_fd < 0 || w->done_fd < 0)
		return -errno;
	for (unsigned int i = number; i < QUEUE_COUNT; i += count)
		numbers[n++] = (uint16_t)i;
	return queue_open(&w->queue, numbers, n, queue_length, counters);
}

static void adopt(struct worker *w)
{
	void *given = __atomic_load_n(&w->given, __ATOMIC_ACQUIRE);

	if (given == w->adopted)
		return;
	w->role->adopt(w->context, given, clock_ms());
	__atomic_store_n(&w->adopted, given, __ATOMIC_RELEASE);
}

/* Packets until the queue is empty, or for @rounds batches. */
static void serve(struct worker *w, unsigned int rounds)
{
	for (size_t count; rounds && (count = queue_receive(w->queue)); rounds--) {
		adopt(w);
		for (size_t i = 0; i < count; i++)
			w->role->packet(w->context, queue_packet(w->queue, i), clock_ms());
	}
}

/* A job that was asked for is either done by the worker or taken back by who has asked. */
enum job_state { JOB_NONE, JOB_ASKED, JOB_RUNNING };

static bool change_job(struct worker *w, int from, int to)
{
	return __atomic_compare_exchange_n(&w->job_state, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* An eventfd takes eight bytes unless its counter is about to overflow. */
	if (write(fd, &one, sizeof(one)) != sizeof(one))
		log_warning_errno("cannot wake a thread");
}

/* Nothing is said by it but that there is something to look at. */
static void heed_wake(struct worker *w)
{
	uint64_t times;

	(void)!read(w->wake_fd, &times, sizeof(times));
	adopt(w);
	if (!change_job(w, JOB_ASKED, JOB_RUNNING))
		return;
	w->job(w->context, w->job_argument);
	(void)change_job(w, JOB_RUNNING, JOB_NONE);
	signal_fd(w->done_fd);
}

static void *loop(void *arg)
{
	struct worker *w = arg;
	struct pollfd fds[3] = {
		{ .fd = queue_fd(w->queue), .events = POLLIN },
		{ .fd = w->wake_fd, .events = POLLIN },
		{ .fd = w->extra_fd, .events = POLLIN },
	};
	uint64_t now = clock_ms(), next = now;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		now = clock_ms();
		__atomic_store_n(&w->heartbeat_ms, now, __ATOMIC_RELAXED);
		if (now >= next)
			next = now + (uint64_t)w->role->tick(w->context, now);
		queue_flush(w->queue);
		if (poll(fds, 3, next > now ? (int)(next - now) : 0) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			heed_wake(w);
		if (fds[2].revents)
			w->role->readable(w->context, clock_ms());
		if (fds[0].revents)
			serve(w, 4);
		if ((fds[0].revents || fds[2].revents) && next > now + WORKER_BUSY_MS)
			next = now + WORKER_BUSY_MS;
	}
	/* Bounded: packets may come faster than they are answered. */
	serve(w, 256);
	if (w->role->stop)
		w->role->stop(w->context);
	queue_flush(w->queue);
	return NULL;
}

int worker_start(struct worker *w)
{
	int ret;

	w->heartbeat_ms = clock_ms();
	ret = -pthread_create(&w->thread, NULL, loop, w);
	if (ret)
		log_error("cannot start a thread: %s", strerror(-ret));
	w->started = !ret;
	return ret;
}

/* Until the job is no longer what @state says, or @timeout_ms. */
static void wait_job(struct worker *w, int state, int timeout_ms)
{
	struct pollfd done = { .fd = w->done_fd, .events = POLLIN };
	uint64_t times, until = clock_ms() + (uint64_t)timeout_ms;

	while (__atomic_load_n(&w->job_state, __ATOMIC_ACQUIRE) == state && clock_ms() < until)
		if (poll(&done, 1, timeout_ms) > 0)
			(void)!read(w->done_fd, &times, sizeof(times));
}

int worker_ask(struct worker *w, void (*job)(void *context, void *argument), void *argument)
{
	w->job = job;
	w->job_argument = argument;
	__atomic_store_n(&w->job_state, JOB_ASKED, __ATOMIC_RELEASE);
	signal_fd(w->wake_fd);
	wait_job(w, JOB_ASKED, ASK_MS);
	if (change_job(w, JOB_ASKED, JOB_NONE))
		return -ETIMEDOUT;
	while (__atomic_load_n(&w->job_state, __ATOMIC_ACQUIRE) == JOB_RUNNING)
		wait_job(w, JOB_RUNNING, ASK_MS);
	return 0;
}

void worker_give(struct worker *w, void *configuration)
{
	__atomic_store_n(&w->given, configuration, __ATOMIC_RELEASE);
	if (w->started)
		signal_fd(w->wake_fd);
	else
		adopt(w);
}

bool worker_adopted(const struct worker *w)
{
	return __atomic_load_n(&w->adopted, __ATOMIC_ACQUIRE) == w->given;
}

void worker_stop(struct worker *w)
{
	if (!w->started)
		return;
	__atomic_store_n(&w->stop, true, __ATOMIC_RELEASE);
	signal_fd(w->wake_fd);
	pthread_join(w->thread, NULL);
	w->started = false;
}

void worker_clean(struct worker *w)
{
	worker_stop(w);
	queue_close(w->queue);
	w->queue = NULL;
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	if (w->done_fd >= 0)
		close(w->done_fd);
	w->wake_fd = w->done_fd = -1;
}

bool worker_alive(const struct worker *w, uint64_t within_ms)
{
	return clock_ms() - __atomic_load_n(&w->heartbeat_ms, __ATOMIC_RELAXED) <= within_ms;
}
