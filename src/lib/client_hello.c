/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recogniser of the first message of TLS: server name and protocols of a ClientHello. */
#include <string.h>

#include "recogniser.h"

/*
 * DOC: Theory of operation
 *
 * The message is read through a cursor that steps over the headers of the records that carry it: a
 * hello with keys for post-quantum exchange has 1.7 KB and more, and may be cut anywhere (RFC 8446,
 * 5.1). Each step answers like the recogniser itself, see http1.c. Lengths that contradict each other
 * make it no hello; what is only strange (GREASE, unknown extensions, old versions) is skipped.
 */

enum {
	RECORD_HANDSHAKE = 22,
	RECORD_HEADER = 5,
	RECORD_MAX = 16384 + 256, /* RFC 8446, 5.1; older versions had room for compression */
	CLIENT_HELLO = 1,
	RANDOM_LEN = 32,
	SESSION_ID_MAX = 32,
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_ALPN = 16,
	HOST_NAME = 0,
};

/* @left: bytes of the record that @at is in */
struct cursor {
	const uint8_t *at, *end;
	size_t left;
	uint32_t message; /* bytes of the handshake message that are still to come */
};

/* A header of a record, which is no alert, no SSL 2 and not the begin of something else. */
static enum recognised next_record(struct cursor *c)
{
	size_t there = (size_t)(c->end - c->at);
	uint16_t len;

	if (there > 0 && c->at[0] != RECORD_HANDSHAKE)
		return RECOGNISED_NOT;
	if (there > 1 && c->at[1] != 3)
		return RECOGNISED_NOT;
	if (there < RECORD_HEADER)
		return RECOGNISED_MORE;
	len = (uint16_t)(c->at[3] << 8 | c->at[4]);
	if (len == 0 || len > RECORD_MAX)
		return RECOGNISED_NOT;
	c->at += RECORD_HEADER;
	c->left = len;
	return RECOGNISED_REQUEST;
}

/* @count bytes of the message, to @to if it is not NULL. */
static enum recognised take(struct cursor *c, uint8_t *to, size_t count)
{
	if (count > c->message)
		return RECOGNISED_NOT;
	c->message -= (uint32_t)count;
	while (count) {
		size_t piece = (size_t)(c->end - c->at);
		enum recognised step;

		if (!c->left) {
			step = next_record(c);
			if (step != RECOGNISED_REQUEST)
				return step;
			continue;
		}
		if (!piece)
			return RECOGNISED_MORE;
		if (piece > c->left)
			piece = c->left;
		if (piece > count)
			piece = count;
		if (to) {
			memcpy(to, c->at, piece);
			to += piece;
		}
		c->at += piece;
		c->left -= piece;
		count -= piece;
	}
	return RECOGNISED_REQUEST;
}

/* A number of @size bytes, at most three. */
static enum recognised number(struct cursor *c, size_t size, uint32_t *value)
{
	uint8_t bytes[3] = { 0 };
	enum recognised step = take(c, bytes + 3 - size, size);

	*value = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
	return step;
}

/* A vector whose length has @size bytes and is @min to @max. */
static enum recognised skip_vector(struct cursor *c, size_t size, uint32_t min, uint32_t max)
{
	uint32_t len;
	enum recognised step = number(c, size, &len);

	if (step != RECOGNISED_REQUEST)
		return step;
	return len < min || len > max ? RECOGNISED_NOT : take(c, NULL, len);
}

/* RFC 6066, 3: a list of names, of which one kind is known, and only one may be there. */
static enum recognised server_name(struct cursor *c, uint32_t len, struct request *r, size_t *used)
{
	uint32_t list, kind, name;
	enum recognised step;

	if (len < 5)
		return len ? RECOGNISED_NOT : RECOGNISED_REQUEST;
	step = number(c, 2, &list);
	if (step == RECOGNISED_REQUEST)
		step = number(c, 1, &kind);
	if (step == RECOGNISED_REQUEST)
		step = number(c, 2, &name);
	if (step != RECOGNISED_REQUEST)
		return step;
	if (list != len - 2 || name > list - 3)
		return RECOGNISED_NOT;
	if (kind != HOST_NAME || r->host.len || name > REQUEST_NAMES_MAX - *used)
		return take(c, NULL, len - 5);
	r->host = (struct slice){ r->names + *used, name };
	*used += name;
	step = take(c, r->names + *used - name, name);
	return step == RECOGNISED_REQUEST ? take(c, NULL, list - 3 - name) : step;
}

/* RFC 7301, 3.1: a list of names with their lengths. One that is too long for us is no list at all. */
static enum recognised protocols(struct cursor *c, uint32_t len, struct request *r, size_t *used)
{
	uint32_t list;
	enum recognised step;

	if (len < 2)
		return RECOGNISED_NOT;
	step = number(c, 2, &list);
	if (step != RECOGNISED_REQUEST)
		return step;
	if (list != len - 2)
		return RECOGNISED_NOT;
	if (r->alpn.len || list > REQUEST_NAMES_MAX - *used)
		return take(c, NULL, list);
	r->alpn = (struct slice){ r->names + *used, list };
	*used += list;
	return take(c, r->names + *used - list, list);
}

static enum recognised extension(struct cursor *c, uint32_t *left, struct request *r, size_t *used)
{
	uint32_t type, len;
	enum recognised step;

	if (*left < 4)
		return RECOGNISED_NOT;
	step = number(c, 2, &type);
	if (step == RECOGNISED_REQUEST)
		step = number(c, 2, &len);
	if (step != RECOGNISED_REQUEST)
		return step;
	if (len > *left - 4)
		return RECOGNISED_NOT;
	*left -= 4 + len;
	if (type == EXTENSION_SERVER_NAME)
		return server_name(c, len, r, used);
	if (type == EXTENSION_ALPN)
		return protocols(c, len, r, used);
	return take(c, NULL, len);
}

static enum recognised extensions(struct cursor *c, struct request *r)
{
	enum recognised step;
	uint32_t left;
	size_t used = 0;

	if (!c->message) /* before TLS 1.2 there may be none */
		return RECOGNISED_REQUEST;
	step = number(c, 2, &left);
	if (step == RECOGNISED_REQUEST && left != c->message)
		return RECOGNISED_NOT;
	while (step == RECOGNISED_REQUEST && left)
		step = extension(c, &left, r, &used);
	return step;
}

/* RFC 8446, 4 and 4.1.2. */
static enum recognised hello(struct cursor *c, struct request *r)
{
	enum recognised step;
	uint32_t type, version;

	step = number(c, 1, &type);
	if (step == RECOGNISED_REQUEST && type != CLIENT_HELLO)
		return RECOGNISED_NOT;
	if (step == RECOGNISED_REQUEST) {
		uint32_t len;

		step = number(c, 3, &len);
		c->message = len;
	}
	if (step == RECOGNISED_REQUEST)
		step = number(c, 2, &version);
	if (step == RECOGNISED_REQUEST && version >> 8 != 3)
		return RECOGNISED_NOT;
	if (step == RECOGNISED_REQUEST)
		step = take(c, NULL, RANDOM_LEN);
	if (step == RECOGNISED_REQUEST)
		step = skip_vector(c, 1, 0, SESSION_ID_MAX);
	if (step == RECOGNISED_REQUEST)
		step = skip_vector(c, 2, 2, 65534); /* cipher suites */
	if (step == RECOGNISED_REQUEST)
		step = skip_vector(c, 1, 1, 255); /* compression methods */
	return step == RECOGNISED_REQUEST ? extensions(c, r) : step;
}

enum recognised client_hello_recognise(const uint8_t *buf, size_t len, struct request *request)
{
	const struct slice none = { .bytes = buf };
	/* Enough for its type and length, which then says how long it is. */
	struct cursor c = { .at = buf, .end = buf + len, .message = 4 };

	request->host = request->path = request->query = request->alpn = none;
	return hello(&c, request);
}
