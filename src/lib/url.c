/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Normal forms of URLs, and keys. */
#include "url.h"

#include <stdbool.h>
#include <string.h>

enum byte_class {
	UNRESERVED = 0x01, /* RFC 3986, 2.3: an escape of it means the same */
	RESERVED = 0x02,   /* stands for itself; an escape of it means something else */
};

static const uint8_t classes[256] = {
	['!'] = RESERVED,	    ['$'] = RESERVED,		['%'] = RESERVED,
	['&' ... ','] = RESERVED,   ['-' ... '.'] = UNRESERVED, ['/'] = RESERVED,
	['0' ... '9'] = UNRESERVED, [':' ... ';'] = RESERVED,	['='] = RESERVED,
	['?' ... '@'] = RESERVED,   ['A' ... 'Z'] = UNRESERVED, ['_'] = UNRESERVED,
	['a' ... 'z'] = UNRESERVED, ['~'] = UNRESERVED,
};

static const uint8_t upper_digits[16] = "0123456789ABCDEF";

static struct slice between(const uint8_t *begin, const uint8_t *end)
{
	return (struct slice){ begin, (size_t)(end - begin) };
}

/* 16 for what is no digit. */
static unsigned int digit(uint8_t byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte |= 0x20;
	return byte >= 'a' && byte <= 'f' ? (unsigned int)(byte - 'a') + 10 : 16;
}

static uint8_t *put_escape(uint8_t *to, uint8_t byte)
{
	to[0] = '%';
	to[1] = upper_digits[byte >> 4];
	to[2] = upper_digits[byte & 15];
	return to + 3;
}

/* Bytes and escapes, each in its one form; at most three times as many. A stray percent sign is a byte. */
static uint8_t *put_text(uint8_t *to, struct slice from)
{
	const uint8_t *at = from.bytes, *end = from.bytes + from.len;

	while (at < end) {
		unsigned int high, low;

		while (at < end && classes[*at] && *at != '%')
			*to++ = *at++;
		if (at == end)
			break;
		high = *at == '%' && end - at > 2 ? digit(at[1]) : 16;
		low = high < 16 ? digit(at[2]) : 16;
		if (low < 16) {
			uint8_t byte = (uint8_t)(high << 4 | low);

			if (classes[byte] == UNRESERVED)
				*to++ = byte;
			else
				to = put_escape(to, byte);
			at += 3;
		} else {
			to = put_escape(to, *at++);
		}
	}
	return to;
}

static bool is_segment(const uint8_t *at, const uint8_t *end, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(end - at) >= len && memcmp(at, text, len) == 0 &&
	       (at + len == end || at[len] == '/');
}

/* RFC 3986, 5.2.4, in place; what begins with a slash still does. Returns the new end. */
static uint8_t *remove_dots(uint8_t *begin, const uint8_t *end)
{
	const uint8_t *at = begin;
	uint8_t *to = begin;

	while (at < end) {
		if (is_segment(at, end, "/.")) {
			at += 2;
		} else if (is_segment(at, end, "/..")) {
			at += 3;
			while (to > begin && *--to != '/')
				;
		} else {
			do
				*to++ = *at++;
			while (at < end && *at != '/');
			continue;
		}
		/* It was a directory: its slash stays. */
		if (at == end)
			*to++ = '/';
	}
	return to;
}

static uint8_t *put_host(uint8_t *to, struct slice host)
{
	while (host.len && host.bytes[host.len - 1] == '.')
		host.len--;
	for (size_t i = 0; i < host.len; i++) {
		uint8_t byte = host.bytes[i];

		*to++ = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
	}
	return to;
}

size_t url_normalise(const struct request *request, unsigned int wanted, struct request *normal,
		     uint8_t *buf)
{
	uint8_t *to = buf, *part;

	if (wanted & REQUEST_HOST)
		to = put_host(to, request->host);
	normal->host = between(buf, to);
	part = to;
	if (wanted & REQUEST_PATH) {
		to = put_text(to, request->path);
		if (request->path.len && *part == '/')
			to = remove_dots(part, to);
	}
	normal->path = between(part, to);
	part = to;
	if (wanted & REQUEST_PATH && request->query.len) {
		*to++ = '?';
		part = to;
		to = put_text(to, request->query);
	}
	normal->query = between(part, to);
	normal->alpn = request->alpn;
	return (size_t)(to - buf);
}

/* The first @depth segments, without the slash behind them. */
static size_t cut(struct slice path, int depth)
{
	for (size_t i = 0; i < path.len; i++)
		if (path.bytes[i] == '/' && depth-- == 0)
			return i;
	return path.len;
}

/* The values of all arguments of that name, in their order, behind one another. */
static uint8_t *put_argument(uint8_t *to, struct slice query, const char *name, size_t name_len)
{
	const uint8_t *at = query.bytes, *end = query.bytes + query.len, *next;

	for (; at < end; at = next + 1) {
		next = memchr(at, '&', (size_t)(end - at));
		if (!next)
			next = end;
		if ((size_t)(next - at) < name_len || memcmp(at, name, name_len) != 0 ||
		    (at + name_len < next && at[name_len] != '='))
			continue;
		memcpy(to, at, (size_t)(next - at));
		to += next - at;
		*to++ = '&';
	}
	return to;
}

/* As often as an argument is named, so often its bytes are written: names differ, as was checked. */
static uint8_t *put_arguments(uint8_t *to, struct slice query, const char *names)
{
	while (*names) {
		size_t len = strcspn(names, " ");

		if (len)
			to = put_argument(to, query, names, len);
		names += len + (names[len] == ' ');
	}
	return to;
}

struct slice url_key(const struct request *normal, const struct key_policy *policy, uint8_t *rest)
{
	const uint8_t *path = normal->path.bytes, *path_end = path + normal->path.len;
	uint8_t *to = rest;

	if (policy->depth)
		path_end = path + cut(normal->path, policy->depth);
	switch (policy->kind) {
	case KEY_PATH:
		return between(path, path_end);
	case KEY_HOST_PATH:
		return between(normal->host.bytes, path_end);
	case KEY_HOST:
	case KEY_SNI:
		return normal->host;
	case KEY_URI:
		if (!policy->depth && !policy->arguments[0])
			return between(path, normal->query.bytes + normal->query.len);
		memcpy(to, path, (size_t)(path_end - path));
		to += path_end - path;
		*to++ = '?';
		if (policy->arguments[0]) {
			to = put_arguments(to, normal->query, policy->arguments);
		} else {
			memcpy(to, normal->query.bytes, normal->query.len);
			to += normal->query.len;
		}
		return between(rest, to);
	default:
		return between(rest, rest);
	}
}
