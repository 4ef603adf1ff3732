/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PROBEs of balancers: how a service is, seen from here. */
#ifndef L3DSR_BRIDGE_PROBE_H
#define L3DSR_BRIDGE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"
#include "lib/counters.h"
#include "lib/packet.h"
#include "os/queue.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * A PROBE comes like an offer: in a SYN, with the index in the DSCP field, through the queue to a
 * worker. So it says something about all of that way. The worker believes it or not, and gives it to
 * the main thread through a pipe. From there:
 *
 * - The web server is checked when somebody asks, and all who ask meanwhile, or within FRESH_MS after,
 *   are told the same result: many balancers do not make many checks.
 * - The answer does not wait for longer than PATIENCE_MS, so that a bridge whose web server hangs is
 *   not taken for dead. Until the check has its result, at check_timeout_ms, it is PENDING; and what
 *   was bad before stays bad.
 * - STATUS says which code point the SYN had. A network that clears the field would make the SYN one
 *   to this host's own kernel; nft/bridge.nft has a rule for exactly such packets.
 *
 * A PROBE of another key or version is answered too, a few times a second, so that its sender can say
 * why it gets no answer that it could believe.
 */

struct bridge_worker;

/**
 * struct probe_request - from a worker to the main thread
 * @vip, @index:	which service, if @state is that of a web server
 */
struct probe_request {
	uint64_t id;
	struct endpoint to, vip;
	uint8_t index, dscp, state;
};

struct probe_service;

/**
 * struct probes - of the main thread, but for @request_fd
 * @answer_fd:	where STATUS leaves from; closed by probes_clean()
 * @live:	connections of the bridge now, with @live_context
 */
struct probes {
	const struct bridge_settings *settings;
	const struct handoff_keys *keys;
	uint32_t (*live)(void *context);
	void *live_context;
	int answer_fd;
	/* private */
	struct counters *counters;
	struct probe_service *services;
	size_t count;
	sd_event *event;
	sd_event_source *source;
	int pipe_fd, request_fd;
};

/** probes_init() - 0, or -errno after the reason was logged; probes_clean() in either case */
int probes_init(struct probes *p, sd_event *event, struct counters *counters);
/**
 * probes_renew() - go over to another configuration; what is known of the same web servers stays
 * 0, or -ENOMEM: as it was.
 */
int probes_renew(struct probes *p, const struct bridge_settings *settings,
		 const struct handoff_keys *keys);
void probes_clean(struct probes *p);

/** struct probe_limit - answers of a worker to what it cannot verify */
struct probe_limit {
	uint64_t second;
	unsigned int count;
};

/** probe_packet() - a SYN with data: if it is a PROBE, it is dropped and answered, else false */
bool probe_packet(struct bridge_worker *w, struct packet *p, const struct queue_packet *qp,
		  uint64_t now_ms);

#endif
