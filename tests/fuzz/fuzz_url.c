/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: normal forms of URLs, and their keys. */
#include "fuzz.h"
#include "lib/url.h"

/* Input: kind of key, depth, bits (enum request_part), the lengths of host and path, host, path, query. */

static bool is_dots(struct slice path, size_t at)
{
	size_t end = at;

	while (end < path.len && path.bytes[end] != '/')
		end++;
	return (end - at == 1 && path.bytes[at] == '.') ||
	       (end - at == 2 && path.bytes[at] == '.' && path.bytes[at + 1] == '.');
}

static void check_path(struct slice path)
{
	for (size_t i = 0; i < path.len; i++) {
		CHECK(path.bytes[i] > ' ' && path.bytes[i] < 0x7f);
		CHECK(!strchr("\"<>[]\\^`{|}#", path.bytes[i]));
		CHECK(path.bytes[0] != '/' || path.bytes[i] != '/' || !is_dots(path, i + 1));
	}
}

/* Once more changes nothing. */
static void check_again(const struct request *n, unsigned int wanted)
{
	size_t room = URL_ROOM(n->host.len + n->path.len + n->query.len);
	uint8_t *buf = malloc(room);
	struct request again;

	CHECK(buf);
	CHECK(url_normalise(n, wanted, &again, buf) <= room);
	CHECK(again.host.len == n->host.len &&
	      !memcmp(again.host.bytes, n->host.bytes, n->host.len));
	CHECK(again.path.len == n->path.len &&
	      !memcmp(again.path.bytes, n->path.bytes, n->path.len));
	CHECK(again.query.len == n->query.len &&
	      !memcmp(again.query.bytes, n->query.bytes, n->query.len));
	free(buf);
}

static struct slice take(const uint8_t **data, size_t *size, size_t len)
{
	struct slice taken = { *data, len < *size ? len : *size };

	*data += taken.len;
	*size -= taken.len;
	return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct key_policy policy = { .arguments = "v id a" };
	struct request r = { 0 }, n;
	unsigned int wanted;
	struct slice key;
	size_t room, used, host, path;
	uint8_t *buf;

	if (size < 5)
		return 0;
	policy.kind = data[0] % (KEY_SOURCE + 1);
	policy.depth = data[1] % 4;
	wanted = data[2];
	if (wanted & 0x80)
		policy.arguments[0] = '\0';
	host = data[3];
	path = data[4];
	data += 5;
	size -= 5;
	r.host = take(&data, &size, host);
	r.path = take(&data, &size, path);
	r.query = (struct slice){ data, size };

	room = URL_ROOM(r.host.len + r.path.len + r.query.len);
	buf = malloc(room);
	CHECK(buf);
	used = url_normalise(&r, wanted, &n, buf);
	CHECK(used <= room);
	CHECK(wanted & REQUEST_HOST || n.host.len == 0);
	CHECK(wanted & REQUEST_PATH || n.path.len + n.query.len == 0);
	CHECK(n.host.len <= r.host.len);
	check_path(n.path);
	check_again(&n, wanted);
	key = url_key(&n, &policy, buf + used);
	CHECK(key.bytes >= buf && key.bytes + key.len <= buf + room);
	CHECK(policy.kind != KEY_SOURCE || key.len == 0);
	free(buf);
	return 0;
}
