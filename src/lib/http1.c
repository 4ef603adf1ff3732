/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recogniser of HTTP/1.x requests: the request line, and the Host header if it is wanted. */
#include <string.h>
#include <strings.h>

#include "recogniser.h"

/*
 * DOC: Theory of operation
 *
 * One pass from left to right, each byte looked at once. Each step answers like the recogniser
 * itself: RECOGNISED_REQUEST (the step is complete, the cursor stands behind it), RECOGNISED_MORE
 * (the buffer ended first) or RECOGNISED_NOT. As no step looks at anything behind its own end, the
 * answer for a longer buffer can only differ after RECOGNISED_MORE.
 *
 * It is as strict as a web server where two readers of one request could see two different hosts
 * or paths, and lenient where nothing depends on it: what it refuses still has the fallback of its
 * service.
 */

/* Longer than any registered method; ends the wait for a sender of letters without a blank. */
#define METHOD_LEN_MAX 32

struct cursor {
	const uint8_t *at, *end;
};

enum byte_class {
	TOKEN = 0x01,  /* RFC 9110, 5.6.2 */
	TARGET = 0x02, /* no blank, no control character; bytes over 0x7f are common in paths */
	HOST = 0x04,   /* a registered name or IPv4 address (RFC 3986, 3.2.2) */
	VALUE = 0x08,  /* of a header; control characters but NUL, CR and LF do no harm there */
};

#define IN_VALUE  VALUE
#define IN_TARGET (VALUE | TARGET)
#define IN_NAME	  (VALUE | TARGET | HOST)
#define IN_METHOD (VALUE | TARGET | TOKEN)
#define IN_ALL	  (VALUE | TARGET | TOKEN | HOST)

static const uint8_t classes[256] = {
	[0x01 ... 0x09] = IN_VALUE,
	[0x0b ... 0x0c] = IN_VALUE,
	[0x0e ... 0x20] = IN_VALUE,
	['!'] = IN_ALL,
	['"'] = IN_TARGET,
	['#'] = IN_METHOD,
	['$' ... '\''] = IN_ALL,
	['(' ... ')'] = IN_NAME,
	['*' ... '+'] = IN_ALL,
	[','] = IN_NAME,
	['-' ... '.'] = IN_ALL,
	['/'] = IN_TARGET,
	['0' ... '9'] = IN_ALL,
	[':'] = IN_TARGET,
	[';'] = IN_NAME,
	['<'] = IN_TARGET,
	['='] = IN_NAME,
	['>' ... '@'] = IN_TARGET,
	['A' ... 'Z'] = IN_ALL,
	['[' ... ']'] = IN_TARGET,
	['^'] = IN_METHOD,
	['_'] = IN_ALL,
	['`'] = IN_METHOD,
	['a' ... 'z'] = IN_ALL,
	['{'] = IN_TARGET,
	['|'] = IN_METHOD,
	['}'] = IN_TARGET,
	['~'] = IN_ALL,
	[0x7f] = IN_VALUE,
	[0x80 ... 0xff] = IN_TARGET,
};

static inline bool is(uint8_t byte, enum byte_class class)
{
	return classes[byte] & class;
}

static inline bool is_blank(uint8_t byte)
{
	return byte == ' ' || byte == '\t';
}

static inline uint8_t lower(uint8_t byte)
{
	return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 'a' - 'A') : byte;
}

static inline bool at_end(const struct cursor *c)
{
	return c->at == c->end;
}

/* The bytes of @class from here on. */
static struct slice take(struct cursor *c, enum byte_class class)
{
	struct slice taken = { .bytes = c->at };

	while (!at_end(c) && is(*c->at, class))
		c->at++;
	taken.len = (size_t)(c->at - taken.bytes);
	return taken;
}

static bool equal_nocase(struct slice s, const char *text)
{
	return s.len == strlen(text) && strncasecmp((const char *)s.bytes, text, s.len) == 0;
}

static enum recognised expect(struct cursor *c, const char *text)
{
	for (; *text; text++, c->at++) {
		if (at_end(c))
			return RECOGNISED_MORE;
		if (*c->at != (uint8_t)*text)
			return RECOGNISED_NOT;
	}
	return RECOGNISED_REQUEST;
}

/* CRLF, or a bare LF (RFC 9112, 2.2); a bare CR is read as an end of line by some only. */
static enum recognised line_end(struct cursor *c)
{
	if (!at_end(c) && *c->at == '\r')
		c->at++;
	return expect(c, "\n");
}

/* RFC 9112, 2.2: some clients send an empty line after the body of the request before. */
static enum recognised empty_lines(struct cursor *c)
{
	while (!at_end(c) && (*c->at == '\r' || *c->at == '\n')) {
		enum recognised step = line_end(c);

		if (step != RECOGNISED_REQUEST)
			return step;
	}
	return RECOGNISED_REQUEST;
}

static enum recognised method(struct cursor *c, bool *options)
{
	struct slice name = take(c, TOKEN);

	if (name.len > METHOD_LEN_MAX)
		return RECOGNISED_NOT;
	if (at_end(c))
		return RECOGNISED_MORE;
	if (name.len == 0 || *c->at != ' ')
		return RECOGNISED_NOT;
	c->at++;
	/* Its target is no URL: a tunnel, which is not what a web server behind a VIP offers. */
	if (name.len == 7 && memcmp(name.bytes, "CONNECT", 7) == 0)
		return RECOGNISED_NOT;
	*options = name.len == 7 && memcmp(name.bytes, "OPTIONS", 7) == 0;
	return RECOGNISED_REQUEST;
}

/*
 * Host and port, as in a URL or in Host: the host is the part before the port. The brackets around
 * an IPv6 address belong to it (RFC 3986, 3.2.2), so colons inside are no port.
 */
static bool split_authority(struct slice authority, struct slice *host)
{
	struct cursor c = { authority.bytes, authority.bytes + authority.len };

	if (!at_end(&c) && *c.at == '[') {
		do
			c.at++;
		while (!at_end(&c) && (is(*c.at, HOST) || *c.at == ':'));
		if (at_end(&c) || *c.at != ']' || c.at == authority.bytes + 1)
			return false;
		c.at++;
	} else {
		take(&c, HOST);
	}
	*host = (struct slice){ authority.bytes, (size_t)(c.at - authority.bytes) };
	if (at_end(&c))
		return true;
	if (host->len == 0 || *c.at++ != ':')
		return false;
	while (!at_end(&c) && *c.at >= '0' && *c.at <= '9')
		c.at++;
	return at_end(&c);
}

static inline bool in_authority(uint8_t byte)
{
	return is(byte, HOST) || byte == ':' || byte == '[' || byte == ']';
}

static inline bool ends_authority(uint8_t byte)
{
	return byte == '/' || byte == '?' || byte == '#' || byte == ' ';
}

static enum recognised scheme(struct cursor *c)
{
	const char *text = "http://";

	for (; *text; text++, c->at++) {
		if (at_end(c))
			return RECOGNISED_MORE;
		if (lower(*c->at) != (uint8_t)*text)
			return RECOGNISED_NOT;
	}
	return RECOGNISED_REQUEST;
}

/* The part of an absolute-form in front of its path (RFC 9112, 3.2.2). */
static enum recognised scheme_and_authority(struct cursor *c, struct request *r)
{
	struct slice authority;
	enum recognised step = scheme(c);

	if (step != RECOGNISED_REQUEST)
		return step;
	authority.bytes = c->at;
	while (!at_end(c) && in_authority(*c->at))
		c->at++;
	authority.len = (size_t)(c->at - authority.bytes);
	if (at_end(c))
		return RECOGNISED_MORE;
	/* User names are to be treated as an error (RFC 9110, 4.2.4), and so is an empty host. */
	if (!ends_authority(*c->at) || !split_authority(authority, &r->host) || r->host.len == 0)
		return RECOGNISED_NOT;
	/* An empty path means "/" (RFC 9110, 4.2.3); there is one at the end of the scheme. */
	r->path = (struct slice){ authority.bytes - 1, 1 };
	return RECOGNISED_REQUEST;
}

/* Bytes of a target up to one of two that end it, or to the blank behind the target. */
static struct slice take_part(struct cursor *c, uint8_t stop1, uint8_t stop2)
{
	struct slice part = { .bytes = c->at };

	while (!at_end(c) && is(*c->at, TARGET) && *c->at != stop1 && *c->at != stop2)
		c->at++;
	part.len = (size_t)(c->at - part.bytes);
	return part;
}

static enum recognised path_and_query(struct cursor *c, struct request *r)
{
	struct slice path = take_part(c, '?', '#');

	if (path.len)
		r->path = path;
	if (!at_end(c) && *c->at == '?') {
		c->at++;
		r->query = take_part(c, '#', '#');
	}
	/* A fragment is not for servers; one that comes all the same names nothing else. */
	take(c, TARGET);
	return expect(c, " ");
}

static enum recognised target(struct cursor *c, bool options, struct request *r)
{
	if (at_end(c))
		return RECOGNISED_MORE;
	if (*c->at == '*') {
		if (!options)
			return RECOGNISED_NOT;
		r->path = (struct slice){ c->at++, 1 };
		return expect(c, " ");
	}
	if (*c->at != '/') {
		enum recognised step = scheme_and_authority(c, r);

		if (step != RECOGNISED_REQUEST)
			return step;
	}
	return path_and_query(c, r);
}

static enum recognised version(struct cursor *c)
{
	enum recognised step = expect(c, "HTTP/1.");

	if (step != RECOGNISED_REQUEST)
		return step;
	if (at_end(c))
		return RECOGNISED_MORE;
	if (*c->at < '0' || *c->at > '9')
		return RECOGNISED_NOT;
	c->at++;
	return line_end(c);
}

static enum recognised request_line(struct cursor *c, struct request *r)
{
	enum recognised step;
	bool options;

	step = empty_lines(c);
	if (step == RECOGNISED_REQUEST)
		step = method(c, &options);
	if (step == RECOGNISED_REQUEST)
		step = target(c, options, r);
	if (step == RECOGNISED_REQUEST)
		step = version(c);
	return step;
}

/* A header line; @name is empty for the continuation of the line before (RFC 9112, 5.2). */
static enum recognised header_line(struct cursor *c, struct slice *name, struct slice *value)
{
	*name = take(c, TOKEN);
	if (at_end(c))
		return RECOGNISED_MORE;
	if (name->len) {
		/* No white space in front of the colon (RFC 9112, 5.1). */
		if (*c->at != ':')
			return RECOGNISED_NOT;
		c->at++;
	} else if (!is_blank(*c->at)) {
		return RECOGNISED_NOT;
	}
	*value = take(c, VALUE);
	while (value->len && is_blank(value->bytes[0])) {
		value->bytes++;
		value->len--;
	}
	while (value->len && is_blank(value->bytes[value->len - 1]))
		value->len--;
	return line_end(c);
}

/*
 * To the empty line, and not only to the first Host: a request with two of them is refused by one
 * server and read differently by two others (RFC 9112, 3.2).
 */
static enum recognised headers(struct cursor *c, struct request *r)
{
	bool first = true, seen = false, in_host = false;
	struct slice name, value;

	for (; !at_end(c) && *c->at != '\r' && *c->at != '\n'; first = false) {
		enum recognised step = header_line(c, &name, &value);

		if (step == RECOGNISED_NOT)
			return step;
		if (name.len == 0) {
			if (first || in_host)
				return RECOGNISED_NOT;
		} else {
			in_host = equal_nocase(name, "host");
		}
		if (step == RECOGNISED_MORE)
			return step;
		if (in_host) {
			if (seen || !split_authority(value, &r->host))
				return RECOGNISED_NOT;
			seen = true;
		}
	}
	return line_end(c);
}

enum recognised http1_recognise(const uint8_t *buf, size_t len, unsigned int wanted,
				struct request *request)
{
	const struct slice none = { .bytes = buf };
	struct request r;
	struct cursor c = { buf, buf + len };
	enum recognised step;

	r.host = r.path = r.query = none;
	step = request_line(&c, &r);
	/* The authority of an absolute-form counts more than Host (RFC 9112, 3.2.2). */
	if (step == RECOGNISED_REQUEST && wanted & REQUEST_HOST && r.host.len == 0)
		step = headers(&c, &r);
	if (step == RECOGNISED_REQUEST) {
		request->host = r.host;
		request->path = r.path;
		request->query = r.query;
		request->alpn = none;
	}
	return step;
}
