/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an operator may ask of the balancer, and say to it. */
#ifndef L3DSR_BALANCER_SHOW_H
#define L3DSR_BALANCER_SHOW_H

#include "balancer.h"
#include "os/control.h"
#include "os/daemon.h"
#include "prober.h"

/** struct show - what is shown; all of it is looked at by the main thread */
struct show {
	struct generation *const *generation; /* in force */
	const struct bridges *bridges;
	struct balancer_worker *workers;
	const struct daemon *daemon;
	struct prober *prober;
};

/** show_commands - for control_open(), with a struct show as their context */
extern const struct control_command show_commands[];

/** show_option() - the value of "NAME=VALUE", or NULL if @argument is something else */
const char *show_option(const char *argument, const char *name);

/* The commands that are long: show_flows.c, lookup.c, show_pools.c. */
void show_flows(void *context, struct control_client *client, char **arguments, size_t count);
void show_lookup(void *context, struct control_client *client, char **arguments, size_t count);
void show_pools(void *context, struct control_client *client, char **arguments, size_t count);
void show_drain(void *context, struct control_client *client, char **arguments, size_t count);
void show_activate(void *context, struct control_client *client, char **arguments, size_t count);
void show_weight(void *context, struct control_client *client, char **arguments, size_t count);

#endif
