/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of a configuration file with its includes put in, and where each line came from. */
#ifndef L3DSR_CONFIG_SOURCE_H
#define L3DSR_CONFIG_SOURCE_H

#include <stddef.h>
#include <stdio.h>

/*
 * DOC: Theory of operation
 *
 * libconfig reads files and includes by itself, but not as hostile as they may be: a directory as
 * an include ends the whole program, a number that does not fit 32 bits loses its upper bits
 * without a word (port 4294967376 becomes 80), and a comment without an end swallows the rest of
 * the file. So the text is put together here, and libconfig gets one string:
 *
 * - `@include "FILE"` at the begin of a line is replaced by FILE, relative to the including file;
 * - an integer that does not fit 32 bits gets the suffix L, which makes libconfig keep 64 (what
 *   does not fit these either becomes the largest that does: out of any range);
 * - text that libconfig would misread is an error.
 *
 * Not handled here: the grammar, which is libconfig's.
 */

#define SOURCE_PLACE_LEN 512 /* room for "FILE:LINE"; longer names are cut */

struct source_line {
	unsigned int file;
	unsigned int line;
};

/** struct source - @text is terminated; its line n, from 1, is described by lines[n - 1] */
struct source {
	char *text;
	size_t len, size;
	struct source_line *lines;
	size_t line_count, line_size;
	char **files;
	size_t file_count;
};

/** source_read() - 0, or -errno after the reason was written to @errors; clean it in any case */
int source_read(struct source *s, const char *path, FILE *errors);
void source_clean(struct source *s);

/** source_place() - "FILE:LINE" of a line of the text, "FILE" for line 0; returns @buf */
const char *source_place(const struct source *s, unsigned int line, char buf[SOURCE_PLACE_LEN]);

#endif
