/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of words: what is spoken on the control socket of a daemon, in both directions. */
#ifndef L3DSR_WORDS_H
#define L3DSR_WORDS_H

#include <stddef.h>

/*
 * DOC: Theory of operation
 *
 * A line is printable ASCII and ends with a newline; tabs divide its words. What is not printable ASCII
 * stands in a word as \xHH, and the backslash itself as \\.
 *
 * A request is one line: a command and its arguments. An answer is lines, by their first word:
 *
 *   columns	the name of each column; of one with numbers behind "n:", of one with text behind "s:"
 *   row	a word for each column
 *   done	the last line
 *   error	instead of it: why there is no answer, or no more of it
 */

#define WORDS_MAX     16
#define WORDS_LINE    8192 /* longest request, with its newline */
#define WORDS_ESCAPED 4	   /* bytes that one byte may take */

/** words_escape() - @len bytes as a word; @out has room for WORDS_ESCAPED of each and a zero. Its length */
size_t words_escape(const void *bytes, size_t len, char *out);

/**
 * words_split() - divide @len bytes of a line, without its newline; there is a byte more for a zero
 * @line is changed, @words point into it; they are as they were sent. Returns how many there are, or
 * -EINVAL for bytes that no line has, -E2BIG for more than @max words.
 */
int words_split(char *line, size_t len, char *words[], size_t max);

/** words_unescape() - undo words_escape() in place; 0, or -EINVAL also for a zero byte */
int words_unescape(char *word);

#endif
