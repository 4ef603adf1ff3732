/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an operator may ask of the bridge. */
#ifndef L3DSR_BRIDGE_SHOW_H
#define L3DSR_BRIDGE_SHOW_H

#include "bridge.h"
#include "os/control.h"
#include "os/daemon.h"

/** struct show - what is shown; all of it is looked at by the main thread */
struct show {
	struct generation *const *generation; /* in force */
	struct bridge_worker *workers;
	const struct daemon *daemon;
	bool kernel; /* translates */
};

/** show_commands - for control_open(), with a struct show as their context */
extern const struct control_command show_commands[];

#endif
