/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets from the kernel's queues in batches, and verdicts back in batches. */
#ifndef L3DSR_QUEUE_H
#define L3DSR_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/packet.h"

/*
 * DOC: Theory of operation
 *
 * One netlink socket serves one or more queues of one thread. A receive takes up to QUEUE_BATCH
 * packets with one system call, each into a buffer that lives until the next receive; verdicts are
 * collected and sent with one system call, at the latest every QUEUE_FLUSH packets: with longer
 * batches the two ends of a connection fall into lock-step (measured: a tenth fewer connections).
 *
 * Payloads that go back are not copied: the kernel reads them from where they are. So a buffer
 * given with a verdict must stay as it is until queue_flush().
 *
 * What the kernel could not deliver is counted, by ENOBUFS here (the socket buffer was full) and
 * by the kernel's own counters per queue (queue_kernel_drops()).
 *
 * GSO packets come and go whole (NFQA_CFG_F_GSO).
 */

#define QUEUE_BATCH 64
#define QUEUE_FLUSH 8

/**
 * struct queue_packet - a packet that is owed one verdict
 * @queue, @id:	name it in verdicts
 * @output:	true from the output hook, false from prerouting
 * @mark:	the packet's mark, which a ruleset may have set
 * @checksum:	what the kernel knows of it
 * @data:	@len bytes, writable
 */
struct queue_packet {
	uint32_t id;
	uint32_t mark;
	uint16_t queue;
	bool output;
	enum packet_checksum checksum;
	uint8_t *data;
	size_t len;
};

struct queue;

/**
 * queue_open() - bind @count queues, @numbers[0..count-1]
 * @length:	packets that may wait in each queue before the kernel drops
 * Returns 0, or -errno after the reason was logged. The owner frees it with queue_close().
 */
int queue_open(struct queue **queue, const uint16_t *numbers, size_t count, uint32_t length,
	       struct counters *counters);
/** queue_close() - what has no verdict is dropped by the kernel */
void queue_close(struct queue *queue);

int queue_fd(const struct queue *queue);

/**
 * queue_receive() - get packets that are waiting, without blocking
 * Returns how many (0: none), to be read with queue_packet(). Pending verdicts are sent first.
 */
size_t queue_receive(struct queue *queue);
struct queue_packet *queue_packet(struct queue *queue, size_t n);

/*
 * One verdict for each packet, now or later. Without a mark a packet goes on behind the base chain that has
 * queued it (NF_ACCEPT); with one it comes to that chain once more (NF_REPEAT, nf_reinject()), where a rule has to
 * take it before it is queued again. Another base chain for the marks would cost all packets that are never queued.
 */
void queue_drop(struct queue *queue, uint16_t number, uint32_t id);
void queue_accept(struct queue *queue, uint16_t number, uint32_t id);
/** queue_accept_marked() - unchanged; @mark 0 is queue_accept() */
void queue_accept_marked(struct queue *queue, uint16_t number, uint32_t id, uint32_t mark);
/** queue_accept_changed() - with these bytes instead; @mark 0 leaves the mark alone */
void queue_accept_changed(struct queue *queue, uint16_t number, uint32_t id, const void *data,
			  size_t len, uint32_t mark);

/** queue_flush() - send the verdicts collected so far */
void queue_flush(struct queue *queue);

/**
 * queue_kernel_drops() - packets that the kernel dropped before we saw them, of all queues bound
 * by this process, since they were bound (/proc/net/netfilter/nfnetlink_queue)
 * @full: because a queue was full; @undelivered: because a socket buffer was. 0 or -errno.
 */
int queue_kernel_drops(uint64_t *full, uint64_t *undelivered);

#endif
