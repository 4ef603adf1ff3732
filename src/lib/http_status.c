/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a status line. */
#include "http_status.h"

#include <stdbool.h>

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* May the byte @c stand at @at? A digit of the pattern stands for any. */
static bool fits(size_t at, uint8_t c)
{
	static const char pattern[HTTP_STATUS_LEN] = "HTTP/1.1 100 ";

	if (at == 9)
		return is_digit(c) && c != '0';
	if (at == HTTP_STATUS_LEN - 1) /* the reason may be missing, and the blank with it */
		return c == ' ' || c == '\r' || c == '\n';
	return at == 7 || at > 9 ? is_digit(c) : c == (uint8_t)pattern[at];
}

int http_status(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < HTTP_STATUS_LEN; i++) {
		if (i == len)
			return HTTP_STATUS_MORE;
		if (!fits(i, bytes[i]))
			return HTTP_STATUS_NONE;
	}
	return (bytes[9] - '0') * 100 + (bytes[10] - '0') * 10 + bytes[11] - '0';
}
