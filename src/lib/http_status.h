/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The status in the first bytes of a web server's answer. */
#ifndef L3DSR_HTTP_STATUS_H
#define L3DSR_HTTP_STATUS_H

#include <stddef.h>
#include <stdint.h>

#define HTTP_STATUS_MORE 0
#define HTTP_STATUS_NONE (-1)
#define HTTP_STATUS_LEN	 13 /* bytes that are enough for each answer */

/**
 * http_status() - read a status line (RFC 9112, 4) of HTTP/1.x
 * 100..999, HTTP_STATUS_MORE when @len bytes do not say it yet, HTTP_STATUS_NONE when it is no HTTP.
 */
int http_status(const uint8_t *bytes, size_t len);

#endif
