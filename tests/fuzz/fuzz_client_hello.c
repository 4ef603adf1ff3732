/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the recogniser of ClientHellos gives the same answer however the bytes come. */
#include "fuzz.h"
#include "lib/recogniser.h"

/* Input: the bytes of the client. */

#define WHOLE_MAX 2048 /* each prefix is tried: the work grows with the square */

static void check_place(struct slice slice, const struct request *r)
{
	CHECK(slice.len == 0 || slice.bytes >= r->names);
	CHECK(slice.len == 0 || slice.bytes + slice.len <= r->names + sizeof(r->names));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum recognised last = RECOGNISED_MORE;
	struct request first = { 0 };

	if (size > WHOLE_MAX)
		size = WHOLE_MAX;
	for (size_t len = 0; len <= size; len++) {
		uint8_t *exact = fuzz_copy(data, len, len);
		struct request r;
		enum recognised answer = client_hello_recognise(exact, len, &r);

		/* Only "more" can become something else. */
		CHECK(last == RECOGNISED_MORE || answer == last);
		if (answer == RECOGNISED_REQUEST) {
			check_place(r.host, &r);
			check_place(r.alpn, &r);
			CHECK(r.path.len == 0 && r.query.len == 0);
			if (last == RECOGNISED_MORE)
				first = r;
			else
				CHECK(r.host.len == first.host.len &&
				      r.alpn.len == first.alpn.len &&
				      memcmp(r.names, first.names, r.host.len + r.alpn.len) == 0);
		}
		last = answer;
		free(exact);
	}
	return 0;
}
