/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: TCP options, read, written again, and read once more. */
#include <errno.h>

#include "fuzz.h"
#include "lib/packet.h"
#include "lib/tcp_options.h"

/* The whole input is the options. */

static void check_places(const struct tcp_options *o, const uint8_t *options, size_t len)
{
	CHECK(o->wscale >= -1 && o->wscale <= TCP_WSCALE_MAX);
	if (o->timestamps) {
		CHECK(o->ts_at >= 2 && o->ts_at + 8u <= len);
		CHECK(get_be32(options + o->ts_at) == o->tsval);
		CHECK(get_be32(options + o->ts_at + 4) == o->tsecr);
	}
	if (o->sack_blocks)
		CHECK(o->sack_at >= 2 && o->sack_at + 8u * o->sack_blocks <= len);
}

static void check_rewritten(const struct tcp_options *o)
{
	uint8_t *buf = fuzz_copy(NULL, 0, TCP_OPTIONS_MAX);
	size_t len = tcp_options_write_syn(o, buf);
	struct tcp_options again;

	CHECK(len <= 20 && len % 4 == 0);
	CHECK(tcp_options_parse(&again, buf, len) == 0);
	CHECK(again.mss == o->mss && again.wscale == o->wscale);
	CHECK(again.sack_permitted == o->sack_permitted && again.sack_blocks == 0);
	CHECK(again.timestamps == o->timestamps);
	CHECK(again.tsval == o->tsval && again.tsecr == o->tsecr);
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *options = fuzz_copy(data, size, size);
	struct tcp_options o;
	int result = tcp_options_parse(&o, options, size);

	CHECK(result == 0 || result == -EBADMSG);
	CHECK(size <= TCP_OPTIONS_MAX || result == -EBADMSG);
	check_places(&o, options, size);
	check_rewritten(&o);
	free(options);
	return 0;
}
