/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets written byte by byte, with checksums of their own: what the library is compared with. */
#ifndef L3DSR_TESTS_WIRE_H
#define L3DSR_TESTS_WIRE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WIRE_MAX 2048

/* Nothing here uses the library, so that an error there cannot hide itself. */

/**
 * struct wire_fields - what a packet says
 * @version:	4 or 6; @src and @dst have 4 or 16 bytes
 * @ip_options:	IPv4 options in whole words, or the IPv6 header of type @ip_next and all behind it,
 *		whose last one names TCP
 */
struct wire_fields {
	unsigned int version;
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint16_t window, urgent;
	uint8_t flags, dscp, ecn;
	uint8_t options[40];
	size_t options_len;
	uint8_t payload[256];
	size_t payload_len;
	uint8_t ip_next, ip_options[256];
	size_t ip_options_len;
};

/** struct wire - a packet; @tcp and @payload are offsets */
struct wire {
	uint8_t bytes[WIRE_MAX];
	size_t len, tcp, payload;
};

static inline void wire_put(uint8_t *at, uint32_t value, unsigned int bytes)
{
	while (bytes--) {
		at[bytes] = (uint8_t)value;
		value /= 256;
	}
}

static inline uint32_t wire_get(const uint8_t *at, unsigned int bytes)
{
	uint32_t value = 0;

	while (bytes--)
		value = value * 256 + *at++;
	return value;
}

/* RFC 1071 as it is told to beginners: big-endian words, the last byte padded, carry added. */
static inline uint16_t wire_sum(uint16_t sum, const uint8_t *p, size_t len)
{
	uint32_t total = sum;

	for (size_t i = 0; i < len; i++) {
		total += i % 2 ? p[i] : (uint32_t)p[i] * 256;
		total = total % 65536 + total / 65536;
	}
	return (uint16_t)total;
}

static inline unsigned int wire_version(const struct wire *w)
{
	return w->bytes[0] / 16;
}

/** wire_pseudo() - the sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1) */
static inline uint16_t wire_pseudo(const struct wire *w)
{
	uint8_t tail[8] = { 0 };
	uint16_t sum;

	sum = wire_version(w) == 4 ? wire_sum(0, w->bytes + 12, 8) : wire_sum(0, w->bytes + 8, 32);
	wire_put(tail, (uint32_t)(w->len - w->tcp), 4);
	tail[7] = 6;
	return wire_sum(sum, tail, sizeof(tail));
}

/** wire_tcp_check() - what the TCP checksum has to be */
static inline uint16_t wire_tcp_check(const struct wire *w)
{
	uint16_t sum = wire_sum(wire_pseudo(w), w->bytes + w->tcp, 16);

	return (uint16_t)~wire_sum(sum, w->bytes + w->tcp + 18, w->len - w->tcp - 18);
}

/** wire_ip_check() - what the checksum of the IPv4 header has to be */
static inline uint16_t wire_ip_check(const struct wire *w)
{
	return (uint16_t)~wire_sum(wire_sum(0, w->bytes, 10), w->bytes + 12, w->tcp - 12);
}

static inline void wire_check_fill(struct wire *w)
{
	if (wire_version(w) == 4)
		wire_put(w->bytes + 10, wire_ip_check(w), 2);
	wire_put(w->bytes + w->tcp + 16, wire_tcp_check(w), 2);
}

static inline size_t wire_put_ipv4(uint8_t *ip, const struct wire_fields *f, size_t tcp_len)
{
	size_t header = 20 + f->ip_options_len;

	ip[0] = (uint8_t)(4 * 16 + header / 4);
	ip[1] = (uint8_t)(f->dscp * 4 + f->ecn);
	wire_put(ip + 2, (uint32_t)(header + tcp_len), 2);
	ip[6] = 0x40; /* do not fragment */
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, f->src, 4);
	memcpy(ip + 16, f->dst, 4);
	memcpy(ip + 20, f->ip_options, f->ip_options_len);
	return header;
}

static inline size_t wire_put_ipv6(uint8_t *ip, const struct wire_fields *f, size_t tcp_len)
{
	/* version, traffic class, flow label 0x54321 */
	wire_put(ip, 0x60054321u + (f->dscp * 4u + f->ecn) * 0x100000u, 4);
	wire_put(ip + 4, (uint32_t)(f->ip_options_len + tcp_len), 2);
	ip[6] = f->ip_options_len ? f->ip_next : 6;
	ip[7] = 64;
	memcpy(ip + 8, f->src, 16);
	memcpy(ip + 24, f->dst, 16);
	memcpy(ip + 40, f->ip_options, f->ip_options_len);
	return 40 + f->ip_options_len;
}

/** wire_make() - the packet that says @f, checksums right */
static inline void wire_make(struct wire *w, const struct wire_fields *f)
{
	size_t header = 20 + f->options_len;
	uint8_t *th;

	assert(f->options_len % 4 == 0);
	memset(w, 0, sizeof(*w));
	w->tcp = (f->version == 4 ? wire_put_ipv4 : wire_put_ipv6)(w->bytes, f,
								   header + f->payload_len);
	w->payload = w->tcp + header;
	w->len = w->payload + f->payload_len;
	assert(w->len <= WIRE_MAX);
	th = w->bytes + w->tcp;
	wire_put(th, f->sport, 2);
	wire_put(th + 2, f->dport, 2);
	wire_put(th + 4, f->seq, 4);
	wire_put(th + 8, f->ack, 4);
	th[12] = (uint8_t)(header * 4);
	th[13] = f->flags;
	wire_put(th + 14, f->window, 2);
	wire_put(th + 18, f->urgent, 2);
	memcpy(th + 20, f->options, f->options_len);
	memcpy(th + header, f->payload, f->payload_len);
	wire_check_fill(w);
}

/** wire_exact() - a copy in exactly @len bytes, so that a sanitizer sees each byte too many */
static inline uint8_t *wire_exact(const void *bytes, size_t len)
{
	uint8_t *copy = malloc(len);

	assert(copy || !len);
	if (len)
		memcpy(copy, bytes, len);
	return copy;
}

static inline uint32_t wire_random(void)
{
	return (uint32_t)rand() << 16 ^ (uint32_t)rand();
}

static inline void wire_random_bytes(uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(rand() >> 8);
}

/** wire_random_fields() - anything a packet without IP options may say; no TCP options either */
static inline void wire_random_fields(struct wire_fields *f, unsigned int version)
{
	memset(f, 0, sizeof(*f));
	f->version = version;
	wire_random_bytes(f->src, version == 4 ? 4 : 16);
	wire_random_bytes(f->dst, version == 4 ? 4 : 16);
	f->sport = (uint16_t)wire_random();
	f->dport = (uint16_t)wire_random();
	f->seq = wire_random();
	f->ack = wire_random();
	f->window = (uint16_t)wire_random();
	f->urgent = (uint16_t)wire_random();
	f->flags = (uint8_t)wire_random();
	f->dscp = wire_random() % 64;
	f->ecn = wire_random() % 4;
	f->payload_len = wire_random() % sizeof(f->payload);
	wire_random_bytes(f->payload, f->payload_len);
}

#endif
