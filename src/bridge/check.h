/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One check of a web server: a connection to it, and a request if the service wants one. */
#ifndef L3DSR_BRIDGE_CHECK_H
#define L3DSR_BRIDGE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "lib/handoff.h"
#include "lib/http_status.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * Runs in the main thread, and never waits. The connection comes from the bridge's own address: by
 * that nft/bridge.nft knows that what the web server answers is none of the daemon's business, and no
 * check leaves an entry in its set of direct connections.
 *
 *   connect	ends well when the web server's kernel has completed the handshake
 *   http	ends well when the expected status came; what follows the status line is not read
 *
 * Either way check_timeout_ms ends it.
 */

/** struct check_result - @state is one of those that concern web servers; others as in STATUS */
struct check_result {
	uint8_t state, wscale;
	uint16_t http;
};

/**
 * struct check - of one service
 * @from:	the bridge's own address
 * @done:	called at the end of each check, also from inside of check_begin()
 */
struct check {
	const struct service_settings *service;
	const struct addr *from;
	sd_event *event;
	void (*done)(void *context, const struct check_result *result);
	void *context;
	/* private */
	sd_event_source *io, *timer;
	int fd; /* -1: none is running */
	uint8_t wscale;
	uint8_t answer[HTTP_STATUS_LEN];
	size_t answer_len;
};

/** check_begin() - none must be running */
void check_begin(struct check *c);
bool check_running(const struct check *c);
/** check_stop() - without a result, if one is running */
void check_stop(struct check *c);

#endif
