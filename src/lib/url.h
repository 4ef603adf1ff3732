/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The normal form of hosts, paths and queries, and keys made of them: equal URLs are equal bytes. */
#ifndef L3DSR_URL_H
#define L3DSR_URL_H

#include <stddef.h>
#include <stdint.h>

#include "recogniser.h"

/*
 * DOC: Theory of operation
 *
 * What RFC 3986, 6.2.2 and 6.2.3, calls equivalent becomes the same:
 *
 *   host	in lower case, without dots at its end; a port is no part of it
 *   path	escapes of unreserved characters are decoded, all others have upper case digits;
 *		what may not stand in a path as it is (bytes over 0x7f, quotes, brackets, a percent
 *		sign that begins no escape) is escaped;
 *		dot segments are removed, after that (5.2.4)
 *   query	the same, without the dot segments; one that is empty is none
 *
 * and nothing else does: escapes of reserved characters (%2F is no slash), empty segments, the slash at
 * the end and the case of a path may mean something to a web server. A path of "*" is "*". The normal
 * form of a normal form is itself.
 *
 * The parts are written one behind the other, so that a key is mostly a slice of them.
 */

/** enum key_kind - what of a request chooses the backend */
enum key_kind {
	KEY_DEFAULT, /* as the protocol, or the service of a route, says; resolved when settings are read */
	KEY_PATH,
	KEY_HOST_PATH,
	KEY_URI, /* path and query */
	KEY_HOST,
	KEY_SNI,
	KEY_SOURCE, /* the client's address: nothing of the request */
};

/**
 * struct key_policy - a kind of key, and what is left of its parts
 * @depth:	segments of the path that count, 0: all
 * @arguments:	names of arguments of the query that count, divided by blanks; empty: all of the query
 */
struct key_policy {
	int kind;
	int depth;
	char arguments[256];
};

/** URL_ROOM() - bytes that url_normalise() and url_key() need at most, for @len bytes of a request */
#define URL_ROOM(len) (6 * (size_t)(len) + 4)

/**
 * url_normalise() - the normal form of what @wanted (enum request_part) names of @request
 * @normal gets it, with slices into @buf, which has URL_ROOM() of all parts together; parts that are not
 * wanted are empty. Returns how much of @buf is used.
 */
size_t url_normalise(const struct request *request, unsigned int wanted, struct request *normal,
		     uint8_t *buf);

/**
 * url_key() - the bytes to be hashed for @policy, of a request in its normal form
 * @rest: room behind the @normal form, for keys that are no part of it as they are
 * Empty for KEY_SOURCE, and when the request has no host and nothing but that was asked for.
 */
struct slice url_key(const struct request *normal, const struct key_policy *policy, uint8_t *rest);

#endif
