/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a recogniser of requests is: bytes in; "more", a request, or "not my protocol" out. */
#ifndef L3DSR_RECOGNISER_H
#define L3DSR_RECOGNISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** struct slice - bytes inside the buffer that was given; not terminated */
struct slice {
	const uint8_t *bytes;
	size_t len;
};

#define REQUEST_NAMES_MAX 512 /* a DNS name has at most 253 bytes, a usual list of protocols 12 */

/**
 * struct request - what routing needs of a request
 * @host:	without port, [brackets] kept; empty if there is none
 * @path:	without query and fragment; begins with '/' but for "*"
 * @query:	behind '?', empty if there is none
 * @alpn:	protocols that a TLS client offers, each behind a byte with its length (RFC 7301, 3.1)
 * @names:	for host and alpn of a ClientHello, which need not be in one piece
 *
 * Slices point into the recognised buffer, or into @names: a request is not copied.
 */
struct request {
	struct slice host;
	struct slice path;
	struct slice query;
	struct slice alpn;
	uint8_t names[REQUEST_NAMES_MAX];
};

/** enum request_part - what the caller needs; a recogniser stops reading when it has that */
enum request_part {
	REQUEST_PATH = 1, /* and query: both stand in the request line */
	REQUEST_HOST = 2,
	REQUEST_ALPN = 4,
};

enum recognised {
	RECOGNISED_MORE,    /* nothing is wrong so far, but it is not complete */
	RECOGNISED_REQUEST, /* the wanted parts are in struct request */
	RECOGNISED_NOT,	    /* it never will be one: give up */
};

/**
 * typedef-free signature of a recogniser: called again with a longer @buf after RECOGNISED_MORE
 * @wanted: or'ed enum request_part. Pure; no state between calls.
 */
enum recognised http1_recognise(const uint8_t *buf, size_t len, unsigned int wanted,
				struct request *request);

/**
 * client_hello_recognise() - the same for the first flight of a TLS client (RFC 8446, 4.1.2)
 * It is read to its end: @host is the server name (RFC 6066, 3), the outer one of an encrypted hello.
 */
enum recognised client_hello_recognise(const uint8_t *buf, size_t len, struct request *request);

#endif
