/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading and writing of TCP options, tolerant where Linux is. */
#include "tcp_options.h"

#include <errno.h>
#include <string.h>

#include "packet.h"

enum option_kind {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_WSCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_SACK = 5,
	OPTION_TIMESTAMPS = 8,
};

enum option_len {
	OPTION_MSS_LEN = 4,
	OPTION_WSCALE_LEN = 3,
	OPTION_SACK_PERMITTED_LEN = 2,
	OPTION_SACK_BASE_LEN = 2,
	OPTION_SACK_BLOCK_LEN = 8,
	OPTION_TIMESTAMPS_LEN = 10,
};

static bool len_fits(uint8_t kind, size_t len)
{
	switch (kind) {
	case OPTION_MSS:
		return len == OPTION_MSS_LEN;
	case OPTION_WSCALE:
		return len == OPTION_WSCALE_LEN;
	case OPTION_SACK_PERMITTED:
		return len == OPTION_SACK_PERMITTED_LEN;
	case OPTION_SACK:
		return len > OPTION_SACK_BASE_LEN &&
		       (len - OPTION_SACK_BASE_LEN) % OPTION_SACK_BLOCK_LEN == 0;
	case OPTION_TIMESTAMPS:
		return len == OPTION_TIMESTAMPS_LEN;
	default:
		return true;
	}
}

/* @at: offset of the option's kind; the length behind it was found to fit. */
static void read_option(struct tcp_options *o, const uint8_t *options, size_t at, size_t len)
{
	const uint8_t *value = options + at + 2;

	switch (options[at]) {
	case OPTION_MSS:
		o->mss = get_be16(value);
		break;
	case OPTION_WSCALE:
		o->wscale = (int8_t)(value[0] > TCP_WSCALE_MAX ? TCP_WSCALE_MAX : value[0]);
		break;
	case OPTION_SACK_PERMITTED:
		o->sack_permitted = true;
		break;
	case OPTION_SACK:
		o->sack_at = (uint8_t)(at + 2);
		o->sack_blocks = (uint8_t)((len - OPTION_SACK_BASE_LEN) / OPTION_SACK_BLOCK_LEN);
		break;
	case OPTION_TIMESTAMPS:
		o->timestamps = true;
		o->ts_at = (uint8_t)(at + 2);
		o->tsval = get_be32(value);
		o->tsecr = get_be32(value + 4);
		break;
	}
}

int tcp_options_parse(struct tcp_options *o, const uint8_t *options, size_t len)
{
	int result = 0;
	size_t at = 0;

	*o = (struct tcp_options){ .wscale = -1 };
	if (len > TCP_OPTIONS_MAX)
		return -EBADMSG;
	while (at < len && options[at] != OPTION_END) {
		size_t option_len;

		if (options[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (len - at < 2)
			return -EBADMSG;
		option_len = options[at + 1];
		if (option_len < 2 || option_len > len - at)
			return -EBADMSG;
		if (len_fits(options[at], option_len))
			read_option(o, options, at, option_len);
		else
			result = -EBADMSG;
		at += option_len;
	}
	return result;
}

static uint8_t *put_option(uint8_t *p, uint8_t kind, uint8_t len)
{
	p[0] = kind;
	p[1] = len;
	return p + 2;
}

static uint8_t *put_nops(uint8_t *p, size_t count)
{
	memset(p, OPTION_NOP, count);
	return p + count;
}

size_t tcp_options_write_syn(const struct tcp_options *o, uint8_t buf[TCP_OPTIONS_MAX])
{
	uint8_t *p = buf;

	if (o->mss) {
		p = put_option(p, OPTION_MSS, OPTION_MSS_LEN);
		put_be16(p, o->mss);
		p += 2;
	}
	/* "SACK permitted" takes the place of the two NOPs in front of the timestamps. */
	if (o->timestamps && !o->sack_permitted)
		p = put_nops(p, 2);
	if (o->timestamps && o->sack_permitted)
		p = put_option(p, OPTION_SACK_PERMITTED, OPTION_SACK_PERMITTED_LEN);
	if (o->timestamps) {
		p = put_option(p, OPTION_TIMESTAMPS, OPTION_TIMESTAMPS_LEN);
		put_be32(p, o->tsval);
		put_be32(p + 4, o->tsecr);
		p += 8;
	}
	if (o->wscale >= 0) {
		p = put_nops(p, 1);
		p = put_option(p, OPTION_WSCALE, OPTION_WSCALE_LEN);
		*p++ = (uint8_t)o->wscale;
	}
	if (o->sack_permitted && !o->timestamps) {
		p = put_nops(p, 2);
		p = put_option(p, OPTION_SACK_PERMITTED, OPTION_SACK_PERMITTED_LEN);
	}
	return (size_t)(p - buf);
}
