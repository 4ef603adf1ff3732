/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP options: the ones a connection negotiates, where the moving ones stand, and how to write
 * them. */
#ifndef L3DSR_TCP_OPTIONS_H
#define L3DSR_TCP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_OPTIONS_MAX 40  /* bytes: data offset is four bits of 32-bit words (RFC 9293, 3.1) */
#define TCP_WSCALE_MAX	14  /* RFC 7323, 2.3 */
#define MSS_DEFAULT	536 /* RFC 9293, 3.7.1: assumed when no MSS option came */

/**
 * struct tcp_options - what the options of one packet say
 * @mss:		0 if the option is missing
 * @wscale:		-1 if missing; more than 14 is read as 14 (RFC 7323, 2.3)
 * @sack_permitted:	only meaningful in a SYN
 * @timestamps:		@tsval and @tsecr are there, at @ts_at: offset of TSval inside the options
 * @sack_blocks:	number of SACK blocks, each two 32-bit edges, the first at offset @sack_at
 */
struct tcp_options {
	uint16_t mss;
	int8_t wscale;
	bool sack_permitted;
	bool timestamps;
	uint32_t tsval, tsecr;
	uint8_t ts_at;
	uint8_t sack_blocks;
	uint8_t sack_at;
};

/**
 * tcp_options_parse() - read @len bytes of options
 * Unknown kinds are skipped by their length. Returns 0, or -EBADMSG when a length is 0, 1, beyond
 * the header or wrong for its kind; what was read before the bad one is kept, as Linux does
 * (tcp_parse_options()), so a caller may go on with it. Also as there: an option whose length is
 * only wrong for its kind is skipped, and the last one of a kind counts.
 */
int tcp_options_parse(struct tcp_options *o, const uint8_t *options, size_t len);

/**
 * tcp_options_write_syn() - the options of a SYN that offers exactly what @o holds
 * In Linux's order, padded with NOP to whole words. Returns the length, at most 20 bytes.
 */
size_t tcp_options_write_syn(const struct tcp_options *o, uint8_t buf[TCP_OPTIONS_MAX]);

#endif
