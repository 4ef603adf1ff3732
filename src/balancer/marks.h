/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Marks between nft/balancer.nft and the daemon; the number of a bridge is in the lower half. */
#ifndef L3DSR_BALANCER_MARKS_H
#define L3DSR_BALANCER_MARKS_H

#include <stdint.h>

#include "os/queue.h"

#define MARK_NUMBER 0x0000ffffu

/* With a verdict: see the chain `judged`. */
#define MARK_LEARN  0x6c340000u /* the connection was handed over, the packet goes to its bridge */
#define MARK_STEER  0x6c350000u /* the packet alone goes to the bridge */
#define MARK_FORGET 0x6c360000u /* for our kernel; what was known of the connection is forgotten */
#define MARK_CLEAR  0x6c370000u /* for our kernel */
#define MARK_HELD   0x6c3a0000u /* the packet goes to the bridge, others that were held follow */
/* On a packet in a queue: its connection is in the kernel's maps, but there was a SYN on it. */
#define MARK_CONTESTED 0x6c380000u
/* On a packet in a queue: there was a SYN before it, which the daemon has not seen. */
#define MARK_PENDING 0x6c390000u

/** mark_contested() - the number of the bridge, or 0 if the packet has no such mark */
static inline uint32_t mark_contested(const struct queue_packet *qp)
{
	return (qp->mark & ~MARK_NUMBER) == MARK_CONTESTED ? qp->mark & MARK_NUMBER : 0;
}

/** mark_for_kernel() - what takes our mark off again; 0 if there is none */
static inline uint32_t mark_for_kernel(const struct queue_packet *qp)
{
	return mark_contested(qp) || qp->mark == MARK_PENDING ? MARK_CLEAR : 0;
}

/** mark_accept() - the packet goes on to our kernel, without a mark of ours */
static inline void mark_accept(struct queue *queue, const struct queue_packet *qp)
{
	queue_accept_marked(queue, qp->queue, qp->id, mark_for_kernel(qp));
}

#endif
