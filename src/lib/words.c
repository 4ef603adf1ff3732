/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Escaping, splitting, unescaping. */
#include "words.h"

#include <errno.h>
#include <stdint.h>

static const char digits[] = "0123456789abcdef";

static int is_printable(unsigned char c)
{
	return c >= ' ' && c <= '~';
}

size_t words_escape(const void *bytes, size_t len, char *out)
{
	const uint8_t *in = bytes;
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		if (in[i] == '\\') {
			out[used++] = '\\';
			out[used++] = '\\';
		} else if (is_printable(in[i])) {
			out[used++] = (char)in[i];
		} else {
			out[used++] = '\\';
			out[used++] = 'x';
			out[used++] = digits[in[i] >> 4];
			out[used++] = digits[in[i] & 15];
		}
	}
	out[used] = '\0';
	return used;
}

int words_split(char *line, size_t len, char *words[], size_t max)
{
	size_t count = 0;

	for (size_t i = 0, begin = 0; i <= len; i++) {
		if (i < len && line[i] != '\t') {
			if (!is_printable((unsigned char)line[i]))
				return -EINVAL;
			continue;
		}
		if (count == max)
			return -E2BIG;
		words[count++] = line + begin;
		line[i] = '\0';
		begin = i + 1;
	}
	return (int)count;
}

static int digit(char c)
{
	for (int i = 0; i < 16; i++)
		if (digits[i] == c)
			return i;
	return -1;
}

int words_unescape(char *word)
{
	char *out = word;

	while (*word) {
		int high, low;

		if (*word != '\\') {
			*out++ = *word++;
			continue;
		}
		if (word[1] == '\\') {
			*out++ = '\\';
			word += 2;
			continue;
		}
		if (word[1] != 'x' || (high = digit(word[2])) < 0 || (low = digit(word[3])) < 0 ||
		    high + low == 0)
			return -EINVAL;
		*out++ = (char)(high << 4 | low);
		word += 4;
	}
	*out = '\0';
	return 0;
}
