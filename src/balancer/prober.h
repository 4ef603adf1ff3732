/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes of all backends, and what their answers make of the weights. */
#ifndef L3DSR_BALANCER_PROBER_H
#define L3DSR_BALANCER_PROBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "lib/counters.h"
#include "lib/handoff.h"
#include "lib/health.h"
#include "os/inject.h"
#include "settings.h"
#include "views.h"

/*
 * DOC: Theory of operation
 *
 * Of the main thread, which owns all of it. A target is a backend in a view (views.h), that is, one web
 * server of one service: lib/health.h says in which state it is and when it is asked. Here are the
 * socket for the answers, the timer, and the messages.
 *
 * A PROBE leaves like an offer, as a SYN with a record and with the index in the DSCP field, from
 * answer_address and another port each time, so that one comes to each queue of a bridge in turn. Its id
 * is the number of the target and 32 random bits. STATUS comes to answer_port + STATUS_PORT.
 *
 * What an operator says at run time (drained, active, another weight) is said about a name. It counts
 * until the operator says otherwise, no backend has the name any more, or the daemon ends, whatever the
 * configuration has.
 *
 * With another configuration come other views. What an operator has said goes over to all backends that
 * have the name then: who empties a host must not find it in use because a pool was added. What is known
 * of a target goes over to the one with the same service, pool, name and addresses; it would be another
 * web server otherwise.
 *
 * What a bridge says about its connections is the load of its backend; what the workers hand over
 * until the next STATUS they add themselves.
 */

struct prober_target;
struct prober_override;

/**
 * struct prober - zero before prober_init(), but for @counters, and @fd and @inject's, which are -1
 * @scale:	the window scale that clients are told
 */
struct prober {
	const struct balancer_settings *settings;
	const struct handoff_keys *keys;
	struct views *views;
	struct health_policy policy;
	uint8_t scale;
	struct counters *counters;
	/* private */
	struct prober_target *targets;
	struct prober_override *overrides; /* by backend_settings.number */
	size_t count;
	struct inject inject;
	sd_event *event;
	sd_event_source *timer, *answers;
	int fd;
};

/** prober_init() - know of all backends; 0, or -ENOMEM after that was logged */
int prober_init(struct prober *p, const struct balancer_settings *settings,
		const struct handoff_keys *keys, struct views *views);
/** prober_start() - open the socket, and ask from now on; 0, or -errno after the reason was logged */
int prober_start(struct prober *p, sd_event *event);
void prober_clean(struct prober *p);

/**
 * prober_renew() - go over to another configuration, whose views no worker has seen yet
 * The former ones are not needed any more. Socket and its address stay. 0 or -ENOMEM: as it was.
 */
int prober_renew(struct prober *p, const struct balancer_settings *settings,
		 const struct handoff_keys *keys, struct views *views);

/*
 * What l3dsrctl can say. @name is that of a backend, in all pools that have one of that name. They
 * return how many there are.
 */
size_t prober_drain(struct prober *p, const char *name);
size_t prober_activate(struct prober *p, const char *name);
/** prober_weight_set() - @weight 1..1000, or 0: as configured */
size_t prober_weight_set(struct prober *p, const char *name, uint32_t weight);

/**
 * struct prober_report - one target
 * @weight:	configured, or as it was said at run time; @effective: now, in 1/HEALTH_WEIGHT_UNIT
 * @share:	of @effective in the pool, in thousandths
 * @connections:	of the backend: live ones and offers
 * @why:	the result that made the state; @last: the last one, @age_ms ago; UINT64_MAX: none yet
 */
struct prober_report {
	const struct service_settings *service;
	const struct pool_settings *pool;
	const struct backend_settings *backend;
	enum health_state state;
	bool drained;
	struct health_result why, last;
	uint32_t weight, effective, share, connections;
	uint64_t age_ms;
};

/** prober_each() - call @each for all targets, by service and pool */
void prober_each(const struct prober *p,
		 void (*each)(void *context, const struct prober_report *report), void *context);

#endif
