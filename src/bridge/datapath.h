/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of a packet through the bridge. */
#ifndef L3DSR_BRIDGE_DATAPATH_H
#define L3DSR_BRIDGE_DATAPATH_H

struct worker_role;

extern const struct worker_role bridge_role;

#endif
