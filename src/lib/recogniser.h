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

/** struct request - what routing needs of a request; slices point into the recognised buffer */
struct request {
	struct slice host;  /* without port, [brackets] kept; empty if there is none */
	struct slice path;  /* without query and fragment; begins with '/' but for "*" */
	struct slice query; /* behind '?', empty if there is none */
};

/** enum request_part - what the caller needs; a recogniser stops reading when it has that */
enum request_part {
	REQUEST_PATH = 1, /* and query: both stand in the request line */
	REQUEST_HOST = 2,
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

#endif
