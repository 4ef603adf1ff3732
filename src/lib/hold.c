/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Held packets of a connection that is not handed over yet, and the stream they make. */
#include "hold.h"

#include <assert.h>
#include <string.h>

/* Where the data of a packet belong in the stream, which of its bytes those are, and its flags. */
struct place {
	uint32_t start, end;
	const uint8_t *bytes;
	uint8_t flags;
};

void hold_init(struct hold *h, uint8_t *stream, uint32_t capacity, uint32_t first, uint16_t mss)
{
	assert(capacity <= UINT16_MAX);
	*h = (struct hold){ .stream = stream, .capacity = capacity, .first = first, .mss = mss };
}

/* Cut off what lies before and behind the stream; false if nothing is left. */
static bool find_place(const struct hold *h, const struct packet *p, struct place *place)
{
	int64_t start = (int32_t)(p->seq - h->first);
	int64_t end = start + (int64_t)packet_payload_len(p);

	place->flags = p->flags;
	place->bytes = p->data + p->payload;
	if (start > h->capacity || (start == h->capacity && end > start))
		return false;
	if (start < 0) {
		if (end + !!(p->flags & TCP_FIN) <= 0)
			return false;
		place->bytes += -start;
		start = 0;
	}
	if (end > h->capacity) {
		place->flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
		end = h->capacity;
	}
	place->start = (uint32_t)start;
	place->end = (uint32_t)end;
	return true;
}

/* There is one end of the stream: nothing lies behind it, and the first FIN counts. */
static bool fits_fin(const struct hold *h, const struct place *place, bool fin)
{
	if (h->fin)
		return fin ? place->end == h->fin_at : place->end <= h->fin_at;
	return !fin || h->spans == 0 || h->span[h->spans - 1].end <= place->end;
}

static bool covered(const struct hold *h, const struct place *place)
{
	unsigned int i;

	if (place->start == place->end)
		return true;
	for (i = 0; i < h->spans; i++) {
		if (h->span[i].start <= place->start && place->end <= h->span[i].end)
			return true;
	}
	return false;
}

static bool overlaps(const struct hold *h, const struct place *place)
{
	for (unsigned int i = 0; i < h->spans; i++)
		if (place->start < h->span[i].end && h->span[i].start < place->end)
			return true;
	return false;
}

/*
 * Fill the gaps that @place covers, and make one span of it and all it touches. False, and nothing
 * changed, if there were too many spans then.
 */
static bool store_bytes(struct hold *h, const struct place *place)
{
	uint32_t start = place->start, end = place->end, at = place->start;
	unsigned int from = 0, to;

	if (start == end)
		return true;
	while (from < h->spans && h->span[from].end < start)
		from++;
	for (to = from; to < h->spans && h->span[to].start <= end;)
		to++;
	if (from == to && h->spans == HOLD_SPANS)
		return false;

	for (unsigned int i = from; i < to; i++) {
		if (at < h->span[i].start)
			memcpy(h->stream + at, place->bytes + (at - place->start),
			       h->span[i].start - at);
		at = h->span[i].end;
	}
	if (at < end)
		memcpy(h->stream + at, place->bytes + (at - place->start), end - at);

	if (from < to) {
		start = start < h->span[from].start ? start : h->span[from].start;
		end = end > h->span[to - 1].end ? end : h->span[to - 1].end;
	}
	memmove(&h->span[from + 1], &h->span[to], (h->spans - to) * sizeof(h->span[0]));
	h->spans = (uint8_t)(h->spans - (to - from) + 1);
	h->span[from].start = (uint16_t)start;
	h->span[from].end = (uint16_t)end;
	return true;
}

static struct hold_packet *insert_packet(struct hold *h, uint32_t start)
{
	unsigned int n = h->packets;

	while (n > 0 && h->packet[n - 1].start > start)
		n--;
	memmove(&h->packet[n + 1], &h->packet[n], (h->packets - n) * sizeof(h->packet[0]));
	h->packets++;
	return &h->packet[n];
}

static uint32_t packet_end(const struct hold_packet *hp)
{
	return (uint32_t)hp->start + hp->len;
}

/*
 * Let held packet @n reach up to @end. What is too much for it then goes from its front to the
 * packet before, and so on down: each verdict that is owed carries some piece of the stream, and
 * it does not matter which. False, and nothing changed (if only @try), when there is no room.
 */
static bool extend(struct hold *h, unsigned int n, uint32_t end, bool try)
{
	for (;; n--) {
		struct hold_packet *hp = &h->packet[n];
		uint32_t room = hp->len > h->mss ? hp->len : h->mss;
		uint32_t start = hp->start, moved = start;

		if (end - start > room)
			moved = end - room;
		if (!try) {
			hp->intact = false;
			hp->start = (uint16_t)moved;
			hp->len = (uint16_t)(end - moved);
		}
		if (moved == start)
			return true;
		if (n == 0 || packet_end(&h->packet[n - 1]) < start)
			return false;
		end = moved;
	}
}

/* All places are taken: give the data to the packet that they continue. */
static enum hold_result merge(struct hold *h, const struct place *place)
{
	unsigned int n = h->packets;
	struct hold_packet *hp;

	while (n > 0 && (h->packet[n - 1].start > place->start ||
			 packet_end(&h->packet[n - 1]) < place->start))
		n--;
	if (n == 0)
		return HOLD_FULL;
	/* The packets behind this one are not overtaken, neither by its start nor by a FIN. */
	if (n < h->packets &&
	    (place->flags & TCP_FIN || place->end > (uint32_t)h->packet[n].start + h->mss))
		return HOLD_FULL;
	if (!extend(h, n - 1, place->end, true))
		return HOLD_FULL;

	/* The bytes touch those of a held packet, so they need no span of their own. */
	store_bytes(h, place);
	extend(h, n - 1, place->end, false);
	hp = &h->packet[n - 1];
	hp->headers[hp->tcp + 13] |= place->flags & (TCP_FIN | TCP_PSH);
	return HOLD_MERGED;
}

static enum hold_result keep(struct hold *h, const struct packet *p, const struct place *place,
			     uint32_t id, uint16_t queue)
{
	bool intact = place->end - place->start == packet_payload_len(p) &&
		      place->flags == p->flags && !overlaps(h, place);
	struct hold_packet *hp;

	if (p->payload > HOLD_HEADERS || !store_bytes(h, place))
		return HOLD_FULL;
	hp = insert_packet(h, place->start);
	hp->id = id;
	hp->queue = queue;
	hp->start = (uint16_t)place->start;
	hp->len = (uint16_t)(place->end - place->start);
	hp->headers_len = (uint8_t)p->payload;
	hp->tcp = (uint8_t)p->tcp;
	hp->intact = intact;
	memcpy(hp->headers, p->data, p->payload);
	hp->headers[hp->tcp + 13] = place->flags;
	return HOLD_NEW;
}

enum hold_result hold_add(struct hold *h, const struct packet *p, uint32_t id, uint16_t queue)
{
	enum hold_result result;
	struct place place;
	bool fin;

	if (!find_place(h, p, &place))
		return HOLD_OUTSIDE;
	fin = place.flags & TCP_FIN;
	if (!fits_fin(h, &place, fin))
		return HOLD_OUTSIDE;
	/* The first packet need not bring anything: it may be the ACK that begins the connection. */
	if (h->packets && covered(h, &place) && (!fin || h->fin))
		return HOLD_DUPLICATE;
	if (h->packets < HOLD_PACKETS)
		result = keep(h, p, &place, id, queue);
	else
		result = merge(h, &place);
	if (fin && result != HOLD_FULL) {
		h->fin = true;
		h->fin_at = (uint16_t)place.end;
	}
	return result;
}

size_t hold_ready(const struct hold *h)
{
	return h->spans && h->span[0].start == 0 ? h->span[0].end : 0;
}

bool hold_complete(const struct hold *h)
{
	return h->fin && hold_ready(h) == h->fin_at;
}

uint32_t hold_end(const struct hold *h)
{
	return h->first + (h->spans ? h->span[h->spans - 1].end : 0u);
}

size_t hold_build(const struct hold *h, unsigned int n, uint8_t *buf, size_t size)
{
	const struct hold_packet *hp = &h->packet[n];
	size_t len = (size_t)hp->headers_len + hp->len;
	struct packet p;

	assert(n < h->packets);
	if (size < len)
		return 0;
	memcpy(buf, hp->headers, hp->headers_len);
	memcpy(buf + hp->headers_len, h->stream + hp->start, hp->len);

	/* Length and sequence number of the piece of the stream, not of the packet that came. */
	if (buf[0] >> 4 == 4)
		put_be16(buf + 2, (uint16_t)len);
	else
		put_be16(buf + 4, (uint16_t)(len - 40));
	put_be32(buf + hp->tcp + 4, h->first + hp->start);
	if (packet_parse(&p, buf, len) != PACKET_OK)
		return 0;
	packet_checksum_fill(&p);
	return len;
}
