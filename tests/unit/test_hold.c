/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Held packets: every order, overlap and limit, and what comes out when they are released. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/hold.h"

#define CAPACITY 4096
#define FIRST	 0xffffff80u /* 128 bytes before the sequence numbers begin again */
#define MSS	 1400

static const char request[] =
	"GET /live/7/segment-000001.ts?session=0123456789abcdef HTTP/1.1\r\n"
	"Host: cdn.example\r\n"
	"User-Agent: a player of some length, so that the sequence numbers wrap inside of this\r\n"
	"Accept: */*\r\n"
	"Referer: https://portal.example/live/7\r\n"
	"\r\n";
#define REQUEST_LEN (sizeof(request) - 1)

#define SENT 1024 /* ids that are in use at a time are not as far apart */

/* struct bench - a hold with its memory, the last packet that was made for it, and those before */
struct bench {
	struct hold h;
	uint8_t stream[CAPACITY];
	unsigned int family;
	uint32_t next_id;
	uint8_t buf[CAPACITY + 256];
	struct {
		uint8_t bytes[CAPACITY + 256];
		size_t len;
	} sent[SENT]; /* by id */
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	if (!b)
		return -1;
	b->family = 4;
	hold_init(&b->h, b->stream, CAPACITY, FIRST, MSS);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void again(struct bench *b)
{
	memset(b->stream, 0, sizeof(b->stream));
	hold_init(&b->h, b->stream, CAPACITY, FIRST, MSS);
}

/* Kind 8, length 10: timestamps; two NOPs in front */
static const uint8_t timestamps[12] = { 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2 };

static struct packet make(struct bench *b, int32_t at, const void *bytes, size_t len, uint8_t flags)
{
	static const uint8_t v6[2][16] = { { 0x20, 1, 0x0d, 0xb8, [15] = 1 },
					   { 0x20, 1, 0x0d, 0xb8, [15] = 2 } };
	static const uint8_t v4[2][4] = { { 192, 168, 33, 1 }, { 192, 168, 33, 10 } };
	struct packet_spec spec = {
		.tuple = { .sport = 40000, .dport = 80 },
		.seq = FIRST + (uint32_t)at,
		.ack = 0x01020304,
		.window = 502,
		.flags = flags | TCP_ACK,
		.options = timestamps,
		.options_len = sizeof(timestamps),
		.payload = bytes,
		.payload_len = len,
	};
	struct packet p;
	size_t size;

	spec.tuple.src = addr_from_bytes(b->family, b->family == 4 ? v4[0] : v6[0]);
	spec.tuple.dst = addr_from_bytes(b->family, b->family == 4 ? v4[1] : v6[1]);
	size = packet_build(&spec, b->buf, sizeof(b->buf));
	assert_int_not_equal(size, 0);
	assert_int_equal(packet_parse(&p, b->buf, size), PACKET_OK);
	return p;
}

static enum hold_result add_packet(struct bench *b, const struct packet *p)
{
	uint32_t id = b->next_id++;
	enum hold_result result = hold_add(&b->h, p, id, 3);

	if (result == HOLD_NEW) {
		memcpy(b->sent[id % SENT].bytes, p->data, p->len);
		b->sent[id % SENT].len = p->len;
	}
	return result;
}

static enum hold_result add_bytes(struct bench *b, int32_t at, const void *bytes, size_t len,
				  uint8_t flags)
{
	struct packet p = make(b, at, bytes, len, flags);

	return add_packet(b, &p);
}

/* A piece of the request, from its byte @at on. */
static enum hold_result add(struct bench *b, int32_t at, size_t len, uint8_t flags)
{
	return add_bytes(b, at, request + at, len, flags);
}

/* The checksum of RFC 9293, 3.1 byte by byte: 0 if the stored one is right. */
static uint16_t plain_checksum(const struct packet *p)
{
	bool v4 = p->tuple.src.family == 4;
	const uint8_t *addrs = p->data + (v4 ? 12 : 8), *tcp = p->data + p->tcp;
	size_t i, tcp_len = p->len - p->tcp;
	uint32_t sum = 6 + (uint32_t)tcp_len;

	for (i = 0; i < (v4 ? 8u : 32u); i++)
		sum += i % 2 ? addrs[i] : (uint32_t)addrs[i] << 8;
	for (i = 0; i < tcp_len; i++)
		sum += i % 2 ? tcp[i] : (uint32_t)tcp[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint16_t plain_ip_checksum(const uint8_t *ip, size_t len)
{
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < len; i += 2)
		sum += get_be16(ip + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void build(struct bench *b, unsigned int n, struct packet *p)
{
	size_t len = hold_build(&b->h, n, b->buf, sizeof(b->buf));

	assert_int_not_equal(len, 0);
	assert_int_equal(hold_build(&b->h, n, b->buf, len - 1), 0);
	assert_int_equal(hold_build(&b->h, n, b->buf, len), len);
	if (b->h.packet[n].intact) {
		assert_int_equal(b->sent[b->h.packet[n].id % SENT].len, len);
		assert_memory_equal(b->sent[b->h.packet[n].id % SENT].bytes, b->buf, len);
	}
	assert_int_equal(packet_parse(p, b->buf, len), PACKET_OK);
	assert_int_equal(p->len, len);
	assert_true(packet_tcp_checksum_ok(p));
	assert_int_equal(plain_checksum(p), 0);
	if (p->tuple.src.family == 4)
		assert_int_equal(plain_ip_checksum(p->data, p->tcp), 0);
}

/* Release everything: what a receiver puts together is @text, in order, without a gap. */
static void check_release(struct bench *b, const void *text, size_t len, bool fin)
{
	uint8_t received[CAPACITY];
	size_t next = 0;
	bool ended = false;
	unsigned int n;

	for (n = 0; n < b->h.packets; n++) {
		struct packet p;
		size_t at, end;

		build(b, n, &p);
		at = (uint32_t)(p.seq - FIRST);
		end = at + packet_payload_len(&p);
		assert_true(at <= next);
		assert_false(ended);
		assert_true(end <= len);
		memcpy(received + at, p.data + p.payload, packet_payload_len(&p));
		next = end > next ? end : next;
		ended = p.flags & TCP_FIN && end == len;
		assert_int_equal(!!(p.flags & TCP_FIN), ended);
	}
	assert_int_equal(ended, fin);
	assert_int_equal(next, len);
	assert_memory_equal(received, text, len);
	assert_int_equal(hold_ready(&b->h), len);
	assert_memory_equal(b->stream, text, len);
}

static void test_one_packet(void **state)
{
	struct bench *b = *state;
	struct packet p;

	assert_int_equal(hold_ready(&b->h), 0);
	assert_false(hold_complete(&b->h));
	b->next_id = 77;
	assert_int_equal(add(b, 0, REQUEST_LEN, TCP_PSH), HOLD_NEW);
	assert_int_equal(b->h.packet[0].id, 77);
	assert_int_equal(b->h.packet[0].queue, 3);
	assert_true(b->h.packet[0].intact);
	check_release(b, request, REQUEST_LEN, false);
	assert_false(hold_complete(&b->h));

	/* But for nothing else, the packet is the one that came. */
	build(b, 0, &p);
	assert_int_equal(p.seq, FIRST);
	assert_int_equal(p.ack, 0x01020304);
	assert_int_equal(p.window, 502);
	assert_int_equal(p.flags, TCP_ACK | TCP_PSH);
	assert_int_equal(p.tuple.sport, 40000);
	assert_memory_equal(p.data + p.tcp + 20, timestamps, sizeof(timestamps));
}

static void test_split_at_every_byte(void **state)
{
	struct bench *b = *state;
	size_t cut;

	for (b->family = 4; b->family <= 6; b->family += 2) {
		for (cut = 1; cut < REQUEST_LEN; cut++) {
			again(b);
			assert_int_equal(add(b, 0, cut, 0), HOLD_NEW);
			assert_int_equal(hold_ready(&b->h), cut);
			assert_int_equal(add(b, (int32_t)cut, REQUEST_LEN - cut, TCP_PSH),
					 HOLD_NEW);
			check_release(b, request, REQUEST_LEN, false);

			again(b);
			assert_int_equal(add(b, (int32_t)cut, REQUEST_LEN - cut, TCP_PSH),
					 HOLD_NEW);
			assert_int_equal(hold_ready(&b->h), 0);
			assert_int_equal(add(b, 0, cut, 0), HOLD_NEW);
			check_release(b, request, REQUEST_LEN, false);
			assert_int_equal(b->h.spans, 1);
		}
	}
}

static void test_reverse_order(void **state)
{
	struct bench *b = *state;
	int32_t at;

	for (at = 8 * 20; at >= 0; at -= 8) {
		assert_int_equal(add(b, at, 8, 0), HOLD_NEW);
		assert_int_equal(b->h.spans, 1);
		assert_int_equal(hold_ready(&b->h), at ? 0 : 8 * 21);
	}
	check_release(b, request, 8 * 21, false);
}

/* Every second piece first, so that each of the others joins two spans. */
static void test_spans_join(void **state)
{
	struct bench *b = *state;
	int32_t i;

	for (i = 1; i < 16; i += 2)
		assert_int_equal(add(b, i * 10, 10, 0), HOLD_NEW);
	assert_int_equal(b->h.spans, HOLD_SPANS);
	for (i = 2; i < 16; i += 2)
		assert_int_equal(add(b, i * 10, 10, 0), HOLD_NEW);
	assert_int_equal(b->h.spans, 1);
	assert_int_equal(hold_ready(&b->h), 0);
	assert_int_equal(add(b, 0, 10, 0), HOLD_NEW);
	check_release(b, request, 160, false);
}

static void test_duplicates(void **state)
{
	struct bench *b = *state;
	struct hold before;

	assert_int_equal(add(b, 0, 50, 0), HOLD_NEW);
	assert_int_equal(add(b, 50, 50, 0), HOLD_NEW);
	assert_int_equal(add(b, 150, 50, 0), HOLD_NEW);
	before = b->h;
	assert_int_equal(add(b, 0, 50, 0), HOLD_DUPLICATE);
	assert_int_equal(add(b, 0, 100, 0), HOLD_DUPLICATE);
	assert_int_equal(add(b, 49, 2, 0), HOLD_DUPLICATE);
	assert_int_equal(add(b, 160, 1, 0), HOLD_DUPLICATE);
	assert_int_equal(add(b, 0, 0, 0), HOLD_DUPLICATE);
	assert_memory_equal(&b->h, &before, sizeof(before));
	/* A retransmission in one larger packet closes the gap; it stays whole. */
	assert_int_equal(add(b, 0, 200, 0), HOLD_NEW);
	check_release(b, request, 200, false);
}

static void test_first_bytes_count(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add_bytes(b, 0, "aaaa", 4, 0), HOLD_NEW);
	assert_int_equal(add_bytes(b, 8, "bbbb", 4, 0), HOLD_NEW);
	assert_int_equal(add_bytes(b, 2, "cccccccccccc", 12, 0), HOLD_NEW);
	assert_int_equal(add_bytes(b, 0, "dddddddddddddddd", 16, 0), HOLD_NEW);
	assert_int_equal(add_bytes(b, 0, "eeee", 4, 0), HOLD_DUPLICATE);
	check_release(b, "aaaaccccbbbbccdd", 16, false);
	/* What shares bytes with an earlier one is not what its sender has sent. */
	for (unsigned int n = 0; n < b->h.packets; n++)
		assert_int_equal(b->h.packet[n].intact, b->h.packet[n].id < 2);
}

static void test_before_the_stream(void **state)
{
	struct bench *b = *state;
	struct packet p;

	/* Keepalive probes: one old byte, or none. */
	assert_int_equal(add_bytes(b, -1, "x", 1, 0), HOLD_OUTSIDE);
	assert_int_equal(add_bytes(b, -1, "", 0, 0), HOLD_OUTSIDE);
	assert_int_equal(add_bytes(b, -1000, request, REQUEST_LEN, 0), HOLD_OUTSIDE);
	assert_int_equal(add_bytes(b, INT32_MIN, "x", 1, 0), HOLD_OUTSIDE);
	assert_int_equal(b->h.packets, 0);
	/* One old byte with new ones behind it: cut. */
	assert_int_equal(add_bytes(b, -1, "xGET", 4, 0), HOLD_NEW);
	check_release(b, "GET", 3, false);
	build(b, 0, &p);
	assert_int_equal(p.seq, FIRST);
	assert_int_equal(packet_payload_len(&p), 3);
	assert_int_equal(add_bytes(b, -1, "xGET", 4, 0), HOLD_DUPLICATE);

	again(b);
	b->family = 6;
	assert_int_equal(add_bytes(b, -2, "xxGET", 5, 0), HOLD_NEW);
	check_release(b, "GET", 3, false);
}

static void test_beyond_capacity(void **state)
{
	static uint8_t bytes[CAPACITY + 1];
	struct bench *b = *state;

	assert_int_equal(add_bytes(b, CAPACITY, bytes, 1, 0), HOLD_OUTSIDE);
	assert_int_equal(add_bytes(b, CAPACITY + 1, bytes, 0, TCP_FIN), HOLD_OUTSIDE);
	assert_int_equal(add_bytes(b, INT32_MAX, bytes, 1, 0), HOLD_OUTSIDE);
	assert_int_equal(b->h.packets + b->h.spans, 0);
	assert_int_equal(add_bytes(b, CAPACITY - 1, bytes, 1, 0), HOLD_NEW);
	assert_int_equal(add_bytes(b, 0, bytes, CAPACITY, 0), HOLD_NEW);
	/* A FIN takes no byte. */
	assert_int_equal(add_bytes(b, CAPACITY, bytes, 0, TCP_FIN), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	check_release(b, bytes, CAPACITY, true);

	/* What reaches beyond is cut, and a FIN behind it is not ours to keep. */
	again(b);
	assert_int_equal(add_bytes(b, 0, bytes, CAPACITY + 1, TCP_FIN), HOLD_NEW);
	assert_int_equal(hold_ready(&b->h), CAPACITY);
	assert_int_equal(hold_end(&b->h), FIRST + CAPACITY);
	assert_false(hold_complete(&b->h));
	check_release(b, bytes, CAPACITY, false);
	assert_int_equal(add_bytes(b, CAPACITY - 1, bytes, 2, 0), HOLD_DUPLICATE);
}

static void test_fin_alone(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, 0, 20, 0), HOLD_NEW);
	assert_int_equal(add(b, 20, 0, TCP_FIN), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	assert_int_equal(add(b, 20, 0, TCP_FIN), HOLD_DUPLICATE);
	assert_int_equal(add(b, 0, 20, TCP_FIN), HOLD_DUPLICATE);
	check_release(b, request, 20, true);
	assert_int_equal(b->h.packets, 2);

	/* Behind an old byte. */
	again(b);
	assert_int_equal(add_bytes(b, -1, "x", 1, TCP_FIN), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	check_release(b, request, 0, true);

	/* At once, without a byte. */
	again(b);
	assert_int_equal(add(b, 0, 0, TCP_FIN), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	check_release(b, request, 0, true);
}

/* The ACK that completes a handshake: held if it is the first, and then as it came. */
static void test_ack_first(void **state)
{
	struct bench *b = *state;
	struct packet p;

	assert_int_equal(add(b, 0, 0, 0), HOLD_NEW);
	assert_int_equal(b->h.packets, 1);
	assert_int_equal(hold_ready(&b->h), 0);
	assert_false(hold_complete(&b->h));
	assert_true(b->h.packet[0].intact);
	build(b, 0, &p);
	assert_int_equal(p.seq, FIRST);
	assert_int_equal(packet_payload_len(&p), 0);
	assert_int_equal(add(b, 0, 0, 0), HOLD_DUPLICATE);
	/* What comes behind it stays behind it. */
	assert_int_equal(add(b, 0, 20, TCP_FIN), HOLD_NEW);
	assert_int_equal(b->h.packet[0].len, 0);
	check_release(b, request, 20, true);

	/* One that is late: data in front of it were lost. */
	again(b);
	assert_int_equal(add(b, 20, 0, 0), HOLD_NEW);
	build(b, 0, &p);
	assert_int_equal(p.seq, FIRST + 20);
	assert_int_equal(add(b, 0, 20, 0), HOLD_NEW);
	assert_int_equal(hold_ready(&b->h), 20);

	/* But not an old number. */
	again(b);
	assert_int_equal(add_bytes(b, -1, "", 0, 0), HOLD_OUTSIDE);
}

static void test_fin_with_data(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, 0, 20, TCP_FIN), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	check_release(b, request, 20, true);

	/* The data came before without it. */
	again(b);
	assert_int_equal(add(b, 0, 20, 0), HOLD_NEW);
	assert_false(hold_complete(&b->h));
	assert_int_equal(add(b, 0, 20, TCP_FIN), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	check_release(b, request, 20, true);
}

static void test_fin_before_data(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, 30, 0, TCP_FIN), HOLD_NEW);
	assert_false(hold_complete(&b->h));
	assert_int_equal(add(b, 10, 20, 0), HOLD_NEW);
	assert_false(hold_complete(&b->h));
	assert_int_equal(add(b, 0, 10, 0), HOLD_NEW);
	assert_true(hold_complete(&b->h));
	check_release(b, request, 30, true);
}

/* The stream has one end: the first FIN counts, and bytes that are there do. */
static void test_fin_elsewhere(void **state)
{
	struct bench *b = *state;

	assert_int_equal(add(b, 0, 20, TCP_FIN), HOLD_NEW);
	assert_int_equal(add(b, 10, 0, TCP_FIN), HOLD_OUTSIDE);
	assert_int_equal(add(b, 20, 1, 0), HOLD_OUTSIDE);
	assert_int_equal(add(b, 20, 1, TCP_FIN), HOLD_OUTSIDE);
	assert_int_equal(add(b, 15, 10, 0), HOLD_OUTSIDE);
	check_release(b, request, 20, true);

	again(b);
	assert_int_equal(add(b, 0, 20, 0), HOLD_NEW);
	assert_int_equal(add(b, 10, 5, TCP_FIN), HOLD_OUTSIDE);
	assert_int_equal(add_bytes(b, -1, "", 0, TCP_FIN), HOLD_OUTSIDE);
	assert_false(b->h.fin);
	check_release(b, request, 20, false);
}

static void test_spans_full(void **state)
{
	struct bench *b = *state;
	struct hold before;
	int32_t i;

	for (i = 0; i < HOLD_SPANS; i++)
		assert_int_equal(add(b, 10 + 10 * i, 5, 0), HOLD_NEW);
	before = b->h;
	assert_int_equal(add(b, 100, 5, 0), HOLD_FULL);
	assert_int_equal(add(b, 0, 5, 0), HOLD_FULL);
	assert_int_equal(add(b, 6, 2, 0), HOLD_FULL);
	assert_int_equal(add(b, 100, 5, TCP_FIN), HOLD_FULL);
	assert_memory_equal(&b->h, &before, sizeof(before));
	/* What touches a span needs none of its own. */
	assert_int_equal(add(b, 5, 5, 0), HOLD_NEW);
	assert_int_equal(add(b, 0, 100, 0), HOLD_NEW);
	assert_int_equal(b->h.spans, 1);
	check_release(b, request, 100, false);
}

static void test_headers_too_long(void **state)
{
	/*
	 * IPv6, payload length 133, hop-by-hop options; hop-by-hop: next TCP, 13 * 8 + 8 bytes,
	 * PadN of 108 bytes; TCP 20 bytes without options, FIRST, ACK; one byte of data: the
	 * headers are 40 + 112 + 20 = 172 bytes
	 */
	uint8_t bytes[40 + 112 + 20 + 1] = { 0x60,    [5] = 133,  [7] = 64, [40] = 6,
					     13,      1,	  108,	    [152] = 0x9c,
					     0x40,    0,	  80,	    0xff,
					     0xff,    0xff,	  0x80,	    [164] = 0x50,
					     TCP_ACK, [172] = 'G' };
	struct bench *b = *state;
	struct packet p;

	assert_int_equal(packet_parse(&p, bytes, sizeof(bytes)), PACKET_OK);
	assert_int_equal(p.seq, FIRST);
	assert_int_equal(p.payload, 172);
	assert_int_equal(add_packet(b, &p), HOLD_FULL);
	assert_int_equal(b->h.packets + b->h.spans, 0);
}

static void test_ip_options(void **state)
{
	struct bench *b = *state;
	struct packet p = make(b, 0, request, 40, TCP_PSH);
	/* Router alert (RFC 2113): type 148, length 4, value 0 */
	static const uint8_t alert[4] = { 148, 4, 0, 0 };
	uint8_t bytes[256];

	memcpy(bytes, p.data, 20);
	memcpy(bytes + 20, alert, 4);
	memcpy(bytes + 24, p.data + 20, p.len - 20);
	bytes[0] = 0x46;
	put_be16(bytes + 2, (uint16_t)(p.len + 4));
	assert_int_equal(packet_parse(&p, bytes, p.len + 4), PACKET_OK);
	packet_checksum_fill(&p);
	assert_int_equal(p.tcp, 24);
	assert_int_equal(add_packet(b, &p), HOLD_NEW);
	check_release(b, request, 40, false);
	build(b, 0, &p);
	assert_int_equal(p.tcp, 24);
	assert_memory_equal(p.data + 20, alert, 4);
}

static void test_single_bytes(void **state)
{
	static uint8_t bytes[CAPACITY];
	struct bench *b = *state;
	size_t i;

	for (i = 0; i < CAPACITY; i++)
		bytes[i] = (uint8_t)rand();
	for (i = 0; i < CAPACITY; i++) {
		assert_int_equal(add_bytes(b, (int32_t)i, bytes + i, 1, 0),
				 i < HOLD_PACKETS ? HOLD_NEW : HOLD_MERGED);
		assert_int_equal(hold_ready(&b->h), i + 1);
	}
	assert_int_equal(b->h.packets, HOLD_PACKETS);
	for (i = 0; i < HOLD_PACKETS; i++) {
		assert_in_range(b->h.packet[i].len, 1, MSS);
		assert_int_equal(b->h.packet[i].id, i);
	}
	/* The end of the stream and PSH go along with the last one. */
	assert_int_equal(add_bytes(b, CAPACITY, bytes, 0, TCP_FIN | TCP_PSH), HOLD_MERGED);
	assert_true(hold_complete(&b->h));
	assert_int_equal(add_bytes(b, CAPACITY, bytes, 0, TCP_FIN), HOLD_DUPLICATE);
	check_release(b, bytes, CAPACITY, true);
}

/* All places taken, and nothing to merge with. */
static void test_packets_full(void **state)
{
	static uint8_t bytes[CAPACITY];
	struct bench *b = *state;
	struct hold before;
	size_t i;

	b->h.mss = 100;
	for (i = 0; i < HOLD_PACKETS; i++)
		assert_int_equal(add_bytes(b, (int32_t)(100 + 100 * i), bytes, 100, 0), HOLD_NEW);
	before = b->h;
	assert_int_equal(add_bytes(b, 0, bytes, 100, 0), HOLD_FULL);
	assert_int_equal(add_bytes(b, 0, bytes, 101, 0), HOLD_FULL);
	assert_int_equal(add_bytes(b, 100 * HOLD_PACKETS + 100, bytes, 1, 0), HOLD_FULL);
	assert_int_equal(add_bytes(b, 100 * HOLD_PACKETS + 101, bytes, 1, 0), HOLD_FULL);
	assert_memory_equal(&b->h, &before, sizeof(before));
	assert_int_equal(add_bytes(b, 200, bytes, 10, 0), HOLD_DUPLICATE);
	/* A FIN takes no room in a packet. */
	assert_int_equal(add_bytes(b, 100 * HOLD_PACKETS + 100, bytes, 0, TCP_FIN), HOLD_MERGED);
}

/* A piece is merged in front of a gap, and its FIN or length must not overtake what is behind. */
static void test_merge_in_the_middle(void **state)
{
	static uint8_t bytes[CAPACITY];
	struct bench *b = *state;
	size_t i;

	for (i = 0; i < CAPACITY; i++)
		bytes[i] = (uint8_t)(i * 7);
	for (i = 0; i < HOLD_PACKETS; i++)
		assert_int_equal(add_bytes(b, (int32_t)(i < 20 ? 10 * i : 300 + 10 * i),
					   bytes + (i < 20 ? 10 * i : 300 + 10 * i), 10, 0),
				 HOLD_NEW);
	assert_int_equal(hold_ready(&b->h), 200);
	assert_int_equal(add_bytes(b, 200, bytes + 200, 420, TCP_FIN), HOLD_FULL);
	assert_int_equal(add_bytes(b, 199, bytes + 199, 1702, 0), HOLD_FULL);
	assert_int_equal(add_bytes(b, 200, bytes + 200, 100, 0), HOLD_MERGED);
	assert_int_equal(hold_ready(&b->h), 300);
	assert_int_equal(add_bytes(b, 290, bytes + 290, 250, 0), HOLD_MERGED);
	assert_int_equal(hold_ready(&b->h), 620);
	check_release(b, bytes, 620, false);
}

/* Nothing that was taken over is in no packet, and nothing else is. */
static void check_packets(const struct hold *h, const bool *there, size_t length)
{
	bool held[512] = { false };
	size_t i, at;

	for (i = 0; i < h->packets; i++) {
		const struct hold_packet *hp = &h->packet[i];

		assert_true(i == 0 || hp[-1].start <= hp->start);
		assert_in_range(hp->start + hp->len, 1, length);
		for (at = hp->start; at < (size_t)hp->start + hp->len; at++)
			held[at] = true;
	}
	assert_memory_equal(held, there, length * sizeof(held[0]));
}

/* Random pieces with random bytes: the first ones for each place come out. */
static void random_round(struct bench *b)
{
	uint8_t model[512], bytes[512];
	bool there[512] = { false };
	size_t length = 1 + (size_t)rand() % sizeof(model), ready, i;
	size_t longest = 1 + (size_t)rand() % length;
	int step;

	again(b);
	b->h.mss = (uint16_t)(1 + rand() % 600);
	for (step = 0; step < 150; step++) {
		size_t at = (size_t)rand() % length, len = 1 + (size_t)rand() % longest;
		enum hold_result result;
		bool covered = true;

		if (at + len > length)
			len = length - at;
		for (i = 0; i < len; i++) {
			bytes[i] = (uint8_t)rand();
			covered &= there[at + i];
		}
		result = add_bytes(b, (int32_t)at, bytes, len, 0);
		assert_int_equal(result == HOLD_DUPLICATE, covered);
		assert_int_not_equal(result, HOLD_OUTSIDE);
		if (result == HOLD_NEW || result == HOLD_MERGED) {
			for (i = at; i < at + len; i++) {
				if (!there[i])
					model[i] = bytes[i - at];
				there[i] = true;
			}
		}
	}
	for (ready = 0; ready < length && there[ready];)
		ready++;
	assert_int_equal(hold_ready(&b->h), ready);
	check_packets(&b->h, there, length);
	if (b->h.spans == 1 && b->h.span[0].start == 0)
		check_release(b, model, ready, false);
}

static void test_random(void **state)
{
	struct bench *b = *state;
	int round;

	for (round = 0; round < 4000; round++)
		random_round(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_packet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_split_at_every_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reverse_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spans_join, setup, teardown),
		cmocka_unit_test_setup_teardown(test_duplicates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_bytes_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_before_the_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beyond_capacity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fin_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ack_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fin_with_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fin_before_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fin_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spans_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ip_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_single_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_packets_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_in_the_middle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
