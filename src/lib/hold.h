/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first bytes of a connection: held packets, and the stream they make, in order. */
#ifndef L3DSR_HOLD_H
#define L3DSR_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

/*
 * DOC: Theory of operation
 *
 * Until a bridge has taken a connection nothing of what the client sent is acknowledged, so a hold
 * keeps the packets (their verdict is owed to the kernel) and looks at the bytes.
 *
 * Bytes are stored once, at their place in the stream: the buffer begins with the byte isn_c + 1.
 * Of each packet only its headers and its place are stored; on release the packet is put together
 * again from its headers and the stream. So what the recogniser saw is what the web server gets,
 * also when a client sends different bytes for the same place: the first ones count.
 *
 * Which bytes are there is a list of gaps-free spans, merged as they grow together. A packet that
 * brings nothing new is no use to anybody: the caller drops it (the peer sees a lost duplicate).
 *
 * Bounds: @capacity bytes, HOLD_PACKETS packets, HOLD_SPANS spans. When all places for packets are
 * taken, the data of a packet that continues a held one is merged into it, up to @mss bytes: a
 * request in single bytes needs no more places than one in full segments. Beyond the bounds
 * hold_add() says so and the hold is as it was.
 *
 * Not handled: checksums (the caller has verified them), time, and the verdicts themselves.
 */

#define HOLD_PACKETS 32
#define HOLD_SPANS   8
#define HOLD_HEADERS 128 /* bytes of IP and TCP headers kept of a packet */

struct hold_packet {
	uint32_t id; /* of the queue: the verdict that is owed */
	uint16_t queue;
	uint16_t start; /* place of its data in the stream */
	uint16_t len;	/* bytes of data */
	uint8_t headers_len;
	uint8_t tcp; /* offset of the TCP header */
	bool intact; /* it is the packet that came: hold_build() would make it again */
	uint8_t headers[HOLD_HEADERS];
};

/**
 * struct hold - memory is the caller's: @stream points to @capacity bytes
 * @first:	sequence number of the first byte of the stream, isn_c + 1
 * @mss:	no held packet grows beyond this by merging
 */
struct hold {
	uint8_t *stream;
	uint32_t capacity;
	uint32_t first;
	uint16_t mss;
	uint8_t packets, spans;
	bool fin; /* a FIN was held: the stream ends at @fin_at */
	uint16_t fin_at;
	struct {
		uint16_t start, end;
	} span[HOLD_SPANS];			 /* sorted, disjoint, not touching */
	struct hold_packet packet[HOLD_PACKETS]; /* sorted by @start, FIN last */
};

enum hold_result {
	HOLD_NEW,    /* held; it brought bytes that were missing, or the FIN, or it is the first */
	HOLD_MERGED, /* not held: its bytes were taken over into an earlier packet */
	HOLD_DUPLICATE, /* not held: all its bytes were there already */
	HOLD_OUTSIDE,	/* not held: beyond the buffer or before its begin */
	HOLD_FULL,	/* not held: no room for another packet or span */
};

/** hold_init() - empty; @capacity at most 65535 bytes */
void hold_init(struct hold *h, uint8_t *stream, uint32_t capacity, uint32_t first, uint16_t mss);

/**
 * hold_add() - store a packet that has data or FIN, or the ACK that begins a connection
 * @id, @queue: whom the verdict is owed to, if HOLD_NEW is returned
 * A packet that begins before the stream (a keepalive probe with one old byte), or reaches beyond
 * the buffer (a large upload whose packets were merged on reception), is cut to its part inside
 * when that brings new bytes; the client repeats the rest.
 */
enum hold_result hold_add(struct hold *h, const struct packet *p, uint32_t id, uint16_t queue);

/** hold_ready() - bytes from the begin of the stream without a gap */
size_t hold_ready(const struct hold *h);

/** hold_complete() - the client said FIN, and everything before it is there */
bool hold_complete(const struct hold *h);

/** hold_end() - the sequence number behind the last byte that was held */
uint32_t hold_end(const struct hold *h);

/**
 * hold_build() - put held packet @n (in stream order) together into @buf, checksums in full
 * Returns its length, 0 if @size is too small.
 */
size_t hold_build(const struct hold *h, unsigned int n, uint8_t *buf, size_t size);

#endif
