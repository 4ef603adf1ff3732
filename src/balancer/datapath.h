/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of a packet through the balancer. */
#ifndef L3DSR_BALANCER_DATAPATH_H
#define L3DSR_BALANCER_DATAPATH_H

#include <stdint.h>

struct balancer_worker;
struct worker_role;

extern const struct worker_role balancer_role;

/** datapath_accept() - take completed connections from the kernel; sockets nobody needs are closed
 */
void datapath_accept(struct balancer_worker *w, uint64_t now_ms);

#endif
