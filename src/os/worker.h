/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One thread with its queues: the loop that all packets go through. */
#ifndef L3DSR_WORKER_H
#define L3DSR_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "queue.h"

/*
 * DOC: Theory of operation
 *
 * A worker owns everything it works on: queues, tables, sockets, counters. Nothing of it is shared
 * with another thread, so there is no lock. A client's packets always reach the same worker, in
 * both directions, because the rulesets choose the queue by a hash of the client's address and
 * port; worker i of n serves the queues i, i + n, i + 2n, ...
 *
 * The loop sleeps in poll() until there are packets, a datagram, or the next tick is due. A worker
 * that is asked to stop answers what is in its queues, gives back what it holds, and ends.
 *
 * The configuration is read-only, and given as a pointer. It is looked at after packets or a datagram
 * were received and before they are worked on: what was sent because a configuration is in force, as the
 * sets of the ruleset say, meets a worker that has it. The one before is the worker's until
 * worker_adopted() says otherwise.
 */

/**
 * struct worker_role - what a daemon does with what its workers receive
 * @packet:	decide on one packet; its verdict may come later
 * @readable:	the extra descriptor has something to read; only with one
 * @tick:	timers; returns the milliseconds until the next call is wanted
 * @stop:	give verdicts on everything that is held; NULL if nothing ever is
 * @adopt:	work by another configuration from now on, that of worker_give()
 */
struct worker_role {
	void (*packet)(void *context, struct queue_packet *packet, uint64_t now_ms);
	void (*readable)(void *context, uint64_t now_ms);
	int (*tick)(void *context, uint64_t now_ms);
	void (*stop)(void *context);
	void (*adopt)(void *context, void *configuration, uint64_t now_ms);
};

#define WORKER_TICK_MS 100 /* between ticks when only lifetimes of seconds run */
#define WORKER_BUSY_MS 5   /* between ticks while something is, and after packets came */

struct worker {
	pthread_t thread;
	unsigned int number;
	bool started;
	const struct worker_role *role;
	void *context;
	struct queue *queue;
	int extra_fd; /* -1: none */
	int wake_fd;
	bool stop;     /* asked to, by the main thread */
	void *given;   /* configuration that it is to work by, from the main thread */
	void *adopted; /* the one that it does; the main thread reads it */
	int job_state; /* enum job_state, see worker.c */
	void (*job)(void *context, void *argument);
	void *job_argument;
	int done_fd;
	uint64_t heartbeat_ms; /* when the loop last went round; read by the main thread */
};

/**
 * worker_init() - bind the queues of worker @number of @count
 * 0 or -errno after the reason was logged. @role and @context must outlive the worker.
 */
int worker_init(struct worker *w, unsigned int number, unsigned int count, uint32_t queue_length,
		struct counters *counters);
/** worker_give() - adopt @configuration: at once before the start, else when the thread comes to it */
void worker_give(struct worker *w, void *configuration);
/** worker_adopted() - does it work by what was given last? */
bool worker_adopted(const struct worker *w);
/**
 * worker_ask() - have the thread call @job(its context, @argument) between two batches, and wait for that
 * Its tables are its own: so others may look at them. The job is short, because packets wait meanwhile.
 * Returns 0, or -ETIMEDOUT without the job having been called if the thread does not come to it.
 */
int worker_ask(struct worker *w, void (*job)(void *context, void *argument), void *argument);
/** worker_start() - begin to serve; the fields role, context and extra_fd are set by now */
int worker_start(struct worker *w);
/** worker_stop() - stop the thread if it runs, and wait for it: each packet has its verdict then */
void worker_stop(struct worker *w);
/** worker_clean() - stop it, and release the queues */
void worker_clean(struct worker *w);
/** worker_alive() - did the loop go round within the last @within_ms? */
bool worker_alive(const struct worker *w, uint64_t within_ms);

/** worker_share() - one worker's part of a limit that is given for the whole daemon */
uint32_t worker_share(int limit, unsigned int workers);

/** clock_ms() - milliseconds of the monotonic clock; costs no system call */
uint64_t clock_ms(void);

#endif
