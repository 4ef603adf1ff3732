/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the HTTP recogniser gives the same answer however the bytes come. */
#include "fuzz.h"
#include "lib/recogniser.h"

/* Input: the wanted parts (enum request_part), the bytes of the client. */

#define WHOLE_MAX 2048 /* each prefix is tried: the work grows with the square */

/* Where a slice stands, for comparison between buffers. */
struct place {
	size_t at, len;
};

struct answer {
	enum recognised result;
	struct place host, path, query;
};

static struct place place(struct slice slice, const uint8_t *buf, size_t len)
{
	CHECK(slice.bytes >= buf && slice.bytes <= buf + len);
	CHECK(slice.len <= (size_t)(buf + len - slice.bytes));
	return (struct place){ (size_t)(slice.bytes - buf), slice.len };
}

static struct answer recognise(const uint8_t *buf, size_t len, unsigned int wanted)
{
	struct answer answer = { 0 };
	struct request r;

	answer.result = http1_recognise(buf, len, wanted, &r);
	if (answer.result == RECOGNISED_REQUEST) {
		answer.host = place(r.host, buf, len);
		answer.path = place(r.path, buf, len);
		answer.query = place(r.query, buf, len);
	}
	return answer;
}

/* What is recognised can be used for routing without another look. */
static void check_parts(const struct answer *answer, const uint8_t *buf)
{
	const uint8_t *path = buf + answer->path.at, *query = buf + answer->query.at;

	CHECK(answer->path.len && (path[0] == '/' || (path[0] == '*' && answer->path.len == 1)));
	for (size_t i = 0; i < answer->path.len; i++)
		CHECK(path[i] > ' ' && path[i] != '?' && path[i] != '#' && path[i] != 0x7f);
	for (size_t i = 0; i < answer->query.len; i++)
		CHECK(query[i] > ' ' && query[i] != '#' && query[i] != 0x7f);
	for (size_t i = 0; i < answer->host.len; i++)
		CHECK(!strchr("/?#@ \t\r\n", buf[answer->host.at + i]));
}

/* @end is the end of a buffer, so that a look behind the prefix is one behind the buffer. */
static void check_prefixes(uint8_t *end, const uint8_t *data, size_t size, unsigned int wanted)
{
	struct answer answer, last = { .result = RECOGNISED_MORE };

	for (size_t len = 0; len <= size; len++) {
		memcpy(end - len, data, len);
		answer = recognise(end - len, len, wanted);
		CHECK(answer.result <= RECOGNISED_NOT);
		CHECK(last.result == RECOGNISED_MORE ||
		      memcmp(&answer, &last, sizeof(answer)) == 0);
		last = answer;
	}
	if (last.result != RECOGNISED_REQUEST)
		return;
	check_parts(&last, data);
	/* The request line alone says the same of path and query. */
	answer = recognise(end - size, size, REQUEST_PATH);
	CHECK(answer.result == RECOGNISED_REQUEST);
	CHECK(memcmp(&answer.path, &last.path, sizeof(last.path)) == 0);
	CHECK(memcmp(&answer.query, &last.query, sizeof(last.query)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	unsigned int wanted = fuzz_u8(&in) & (REQUEST_PATH | REQUEST_HOST);
	uint8_t *buf;

	if (in.size > WHOLE_MAX)
		in.size = WHOLE_MAX;
	buf = fuzz_copy(NULL, 0, in.size + 1);
	check_prefixes(buf + in.size + 1, in.data, in.size, wanted);
	free(buf);
	return 0;
}
