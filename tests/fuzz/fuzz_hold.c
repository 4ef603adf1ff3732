/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: packets of a request held in any order, against a model with a byte per place. */
#include "fuzz.h"
#include "lib/hold.h"

/*
 * Input: flags (bit 0 IPv6), capacity, MSS, sequence number of the first byte; then of each packet
 * its place in the stream (signed), its length, its flags, and the words of its headers that are
 * padding. Every packet has bytes of its own, so that it shows whose were kept.
 */

#define PACKETS_MAX (4 * HOLD_PACKETS)
#define PAYLOAD_MAX 4096
#define PADDING_MAX 256
#define HEADERS_MAX (40 + PADDING_MAX + 20)

struct model {
	uint8_t *bytes;
	bool *there;
	uint32_t capacity, ready, end;
	bool fin;
	uint32_t fin_at;
	uint32_t owed;		    /* packets whose verdict is owed */
	uint32_t room[PACKETS_MAX]; /* by number: what it may grow to */
};

struct sent {
	int32_t start;
	uint16_t len;
	uint8_t flags;
	struct packet packet;
	uint8_t data[HEADERS_MAX + PAYLOAD_MAX];
};

static void make_ipv4(uint8_t *ip, size_t padding, size_t tcp_len)
{
	padding = padding > 40 ? 40 : padding;
	ip[0] = (uint8_t)(0x45 + padding / 4);
	put_be16(ip + 2, (uint16_t)(20 + padding + tcp_len));
	ip[9] = 6;
	put_be32(ip + 12, 0xc0a82101);
	put_be32(ip + 16, 0xc0a8210a);
}

/* The padding is one header of destination options, whose length is in units of eight bytes. */
static void make_ipv6(uint8_t *ip, size_t padding, size_t tcp_len)
{
	padding = padding / 8 * 8;
	ip[0] = 0x60;
	put_be16(ip + 4, (uint16_t)(padding + tcp_len));
	ip[6] = padding ? 60 : 6;
	ip[8] = ip[24] = 0xfd;
	if (padding) {
		ip[40] = 6;
		ip[41] = (uint8_t)(padding / 8 - 1);
	}
}

/* Packet number @number of the input. */
static void read_packet(struct sent *sent, struct fuzz_input *in, const struct hold *h, bool ipv6,
			uint32_t number)
{
	size_t padding, tcp_len;
	uint8_t *th;

	memset(sent->data, 0, HEADERS_MAX);
	sent->start = (int16_t)fuzz_u16(in);
	if (sent->start < 0)
		sent->start += 16; /* most packets lie inside, few before the begin */
	sent->len = fuzz_u16(in) % PAYLOAD_MAX;
	sent->flags = fuzz_u8(in);
	padding = fuzz_u8(in) % (PADDING_MAX / 4) * 4u;
	tcp_len = 20u + sent->len;
	if (ipv6) {
		make_ipv6(sent->data, padding, tcp_len);
		th = sent->data + 40 + padding / 8 * 8;
	} else {
		make_ipv4(sent->data, padding, tcp_len);
		th = sent->data + 20 + (padding > 40 ? 40 : padding);
	}
	put_be32(th + 4, h->first + (uint32_t)sent->start);
	th[12] = 0x50;
	th[13] = sent->flags;
	for (uint32_t i = 0; i < sent->len; i++)
		th[20 + i] = (uint8_t)((uint32_t)sent->start + i + 31 * number);
	CHECK(packet_parse(&sent->packet, sent->data, sizeof(sent->data)) == PACKET_OK);
}

/* Whether any byte of the packet is missing in the model; @take puts it there. */
static bool missing(struct model *m, const struct sent *sent, bool take)
{
	bool any = false;

	for (int32_t i = 0; i < sent->len; i++) {
		int32_t at = sent->start + i;

		if (at < 0 || (uint32_t)at >= m->capacity || m->there[at])
			continue;
		any = true;
		if (!take)
			return true;
		m->there[at] = true;
		m->bytes[at] = sent->packet.data[sent->packet.payload + i];
		if ((uint32_t)at >= m->end)
			m->end = (uint32_t)at + 1;
	}
	while (m->ready < m->capacity && m->there[m->ready])
		m->ready++;
	return any;
}

static void add(struct hold *h, struct model *m, struct sent *sent, uint32_t number)
{
	struct hold before;
	uint32_t end = (uint32_t)(sent->start + sent->len);
	bool fin = sent->flags & TCP_FIN && sent->start + sent->len >= 0 && end <= m->capacity;

	memcpy(&before, h, sizeof(before));
	switch (hold_add(h, &sent->packet, number, 3)) {
	case HOLD_NEW:
	case HOLD_MERGED:
		CHECK(h->packets - before.packets <= 1);
		CHECK(missing(m, sent, true) || (fin && !m->fin) || !before.packets);
		m->owed += h->packets - before.packets;
		m->room[number] = sent->len > h->mss ? sent->len : h->mss;
		if (fin && !m->fin) {
			m->fin = true;
			m->fin_at = end;
		}
		return;
	case HOLD_DUPLICATE:
		CHECK(!missing(m, sent, false));
		break;
	case HOLD_OUTSIDE:
		break;
	case HOLD_FULL:
		CHECK(h->packets == HOLD_PACKETS || h->spans == HOLD_SPANS ||
		      sent->packet.payload > HOLD_HEADERS);
		break;
	}
	CHECK(memcmp(&before, h, sizeof(before)) == 0);
}

static void check_stream(const struct hold *h, const struct model *m)
{
	CHECK(hold_ready(h) == m->ready);
	CHECK(hold_end(h) == h->first + m->end);
	CHECK(h->fin == m->fin && (!m->fin || h->fin_at == m->fin_at));
	CHECK(!m->fin || m->end <= m->fin_at);
	CHECK(hold_complete(h) == (m->fin && m->ready == m->fin_at));
	CHECK(h->packets == m->owed && h->packets <= HOLD_PACKETS);
}

/* Released packet @n holds nothing but what was held; what it holds is struck from the model. */
static bool release(const struct hold *h, struct model *m, unsigned int n, uint32_t *last)
{
	size_t size = (size_t)h->packet[n].headers_len + h->packet[n].len;
	uint8_t *buf = fuzz_copy(NULL, 0, size);
	struct packet p;
	uint32_t at;
	bool fin;

	CHECK(h->packet[n].len <= m->room[h->packet[n].id] && h->packet[n].queue == 3);
	CHECK(hold_build(h, n, buf, size - 1) == 0);
	CHECK(hold_build(h, n, buf, size) == size);
	CHECK(packet_parse(&p, buf, size) == PACKET_OK && packet_tcp_checksum_ok(&p));
	at = p.seq - h->first;
	CHECK(at >= *last);
	*last = at;
	fin = p.flags & TCP_FIN;
	CHECK(!fin || at + packet_payload_len(&p) == m->fin_at);
	for (size_t i = p.payload; i < p.len; i++, at++) {
		CHECK(at < m->end && buf[i] == m->bytes[at]);
		m->there[at] = false;
	}
	free(buf);
	return fin;
}

static void check_released(const struct hold *h, struct model *m)
{
	uint32_t last = 0;
	bool fin = false;

	/* No byte lost: what was there is struck by some packet. */
	for (unsigned int n = 0; n < h->packets; n++)
		fin |= release(h, m, n, &last);
	for (uint32_t i = 0; i < m->end; i++)
		CHECK(!m->there[i]);
	CHECK(fin == m->fin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sent sent;
	struct fuzz_input in = { data, size };
	struct model m = { 0 };
	struct hold h;
	uint8_t *stream;
	uint16_t mss;
	bool ipv6;

	ipv6 = fuzz_u8(&in) & 1;
	m.capacity = fuzz_u16(&in);
	mss = fuzz_u16(&in);
	m.bytes = fuzz_copy(NULL, 0, m.capacity);
	m.there = (bool *)fuzz_copy(NULL, 0, m.capacity);
	stream = fuzz_copy(NULL, 0, m.capacity);
	hold_init(&h, stream, m.capacity, fuzz_u32(&in), mss);
	for (uint32_t number = 0; in.size && number < PACKETS_MAX; number++) {
		read_packet(&sent, &in, &h, ipv6, number);
		add(&h, &m, &sent, number);
		check_stream(&h, &m);
	}
	check_released(&h, &m);
	free(stream);
	free(m.there);
	free(m.bytes);
	return 0;
}
