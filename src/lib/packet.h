/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A TCP packet in a buffer: the only parser of packet headers, and their in-place writers. */
#ifndef L3DSR_PACKET_H
#define L3DSR_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

/** enum packet_fault - why a packet is no TCP packet we can work with; each is a counter */
enum packet_fault {
	PACKET_OK = 0,
	PACKET_TRUNCATED, /* shorter than its own headers or total length say */
	PACKET_BAD_IP,	  /* version, header length or total length is impossible */
	PACKET_FRAGMENT,  /* no first and only fragment: ports may be missing */
	PACKET_NOT_TCP,
	PACKET_BAD_TCP, /* data offset outside of 20..60 or beyond the packet */
	PACKET_FAULTS,
};

/** enum packet_checksum - what is known of the TCP checksum (NFQA_SKB_INFO) */
enum packet_checksum {
	CHECKSUM_COMPLETE,   /* verified, or generated in full */
	CHECKSUM_UNVERIFIED, /* complete, but nobody has compared it with the data */
	CHECKSUM_PARTIAL,    /* unfinished: only the pseudo header, the device would do the rest */
};

/**
 * struct packet - a parsed TCP packet; everything read from the wire in host order
 * @data, @len:		the IP packet, @len as its header says, never more than the buffer
 * @tcp:		offset of the TCP header
 * @payload:		offset of the first byte of data; @payload <= @len
 * @flags:		the eight low bits, enum tcp_flag
 * @checksum:		set by the caller after parsing; CHECKSUM_COMPLETE until then
 *
 * The buffer belongs to the caller. The setters below keep struct and buffer in agreement, but not
 * the checksums: packet_checksum_adjust() does that once for all changes of a packet.
 */
struct packet {
	uint8_t *data;
	size_t len;
	uint16_t tcp;
	uint16_t payload;
	struct tuple tuple;
	uint32_t seq, ack;
	uint16_t window;
	uint8_t flags;
	uint8_t dscp;
	enum packet_checksum checksum;
};

/** packet_parse() - check @data against @len and fill @p; on a fault @p is not to be used */
enum packet_fault packet_parse(struct packet *p, void *data, size_t len);

/** packet_payload_len() - bytes of data behind the TCP header */
static inline size_t packet_payload_len(const struct packet *p)
{
	return p->len - p->payload;
}

/** packet_seq_len() - sequence space the packet takes: data, SYN and FIN (RFC 9293, 3.4) */
static inline uint32_t packet_seq_len(const struct packet *p)
{
	return (uint32_t)packet_payload_len(p) + !!(p->flags & TCP_SYN) + !!(p->flags & TCP_FIN);
}

/** packet_is_syn() - does it begin a connection? With ACK, RST or FIN it does not */
static inline bool packet_is_syn(const struct packet *p)
{
	return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/** packet_options() - the TCP options; @len gets their length in bytes */
static inline uint8_t *packet_options(const struct packet *p, size_t *len)
{
	*len = (size_t)p->payload - p->tcp - 20;
	return p->data + p->tcp + 20;
}

/** packet_tcp_checksum_ok() - does the stored TCP checksum fit header, data and addresses? */
bool packet_tcp_checksum_ok(const struct packet *p);

/** packet_checksum_fill() - compute the IPv4 header checksum and the TCP checksum in full */
void packet_checksum_fill(struct packet *p);

/**
 * packet_header_sum() - sum over addresses, TCP length and TCP header, as they are now
 * Taken before a packet's headers are changed, for packet_checksum_adjust() afterwards.
 */
uint64_t packet_header_sum(const struct packet *p);

/**
 * packet_checksum_adjust() - mend the checksums after header fields were changed in place
 * @before: packet_header_sum() of the unchanged packet. By difference (RFC 1624), so that a damaged
 * packet stays damaged; in full when the kernel left the checksum unfinished (CHECKSUM_PARTIAL).
 * The data must be unchanged, in bytes and length.
 */
void packet_checksum_adjust(struct packet *p, uint64_t before);

/* The setters; an address must be of the packet's own family. */
void packet_set_src(struct packet *p, const struct addr *addr, uint16_t port);
void packet_set_dst(struct packet *p, const struct addr *addr, uint16_t port);
void packet_set_seq(struct packet *p, uint32_t seq);
void packet_set_ack(struct packet *p, uint32_t ack);
void packet_set_window(struct packet *p, uint16_t window);
void packet_set_flags(struct packet *p, uint8_t flags);
/** packet_set_dscp() - code point 0..63; the two ECN bits beside it stay as they are */
void packet_set_dscp(struct packet *p, uint8_t dscp);
/**
 * packet_truncate() - cut the data to its first @payload_len bytes, no more than there are
 * Adjusts the length in the IP header too.
 */
void packet_truncate(struct packet *p, size_t payload_len);

/**
 * struct packet_spec - a TCP packet to be made from nothing
 * @options:	multiple of four bytes, at most 40
 * @ttl:	0 means 64
 */
struct packet_spec {
	struct tuple tuple;
	uint32_t seq, ack;
	uint16_t window;
	uint8_t flags, dscp, ttl;
	const uint8_t *options;
	size_t options_len;
	const void *payload;
	size_t payload_len;
};

/**
 * packet_build() - write the packet @spec describes, checksums complete
 * Both addresses are of one family. Returns its length, 0 if it does not fit into @size bytes.
 */
size_t packet_build(const struct packet_spec *spec, uint8_t *buf, size_t size);

/** seq_before() - is @a earlier than @b in sequence space? (RFC 9293, 3.4: modulo 2^32) */
static inline bool seq_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

/**
 * seq_advance() - is @p near what its sender has sent so far?
 * @next: the highest sequence number seen plus one; moves on with the packet if it is near.
 *
 * What ends a connection is believed only when it is within 64 KiB of @next. One who does not see
 * the packets of a connection hits that range once in 32,768 tries, for each port that he has to
 * guess as well. A gap that is wider, after a burst of losses, closes with the retransmissions.
 */
static inline bool seq_advance(uint32_t *next, const struct packet *p)
{
	uint32_t end = p->seq + packet_seq_len(p);
	bool near = p->seq - *next + 0x10000 <= 0x20000;

	if (near && !(p->flags & TCP_RST) && seq_before(*next, end))
		*next = end;
	return near;
}

/* Unaligned big-endian access: wire structs are never cast onto buffers. */
static inline uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t get_be64(const uint8_t *p)
{
	return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

static inline void put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, (uint16_t)(v >> 16));
	put_be16(p + 2, (uint16_t)v);
}

static inline void put_be64(uint8_t *p, uint64_t v)
{
	put_be32(p, (uint32_t)(v >> 32));
	put_be32(p + 4, (uint32_t)v);
}

#endif
