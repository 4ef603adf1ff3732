/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answer of a daemon as a table: for people, or as JSON. */
#ifndef L3DSR_CTL_TABLE_H
#define L3DSR_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS 16

/**
 * struct table - columns, and rows of as many words
 * @cells:	@count of them, row by row
 */
struct table {
	struct {
		char *name;
		bool number;
	} columns[TABLE_COLUMNS];
	size_t column_count;
	char **cells;
	size_t count, capacity;
};

enum table_line { TABLE_MORE, TABLE_DONE, TABLE_ERROR, TABLE_BROKEN };

/**
 * table_line() - one line of an answer (lib/words.h), of @len bytes without its newline, and a byte more
 * Returns TABLE_ERROR with what the daemon says in @error, which is to be freed; TABLE_BROKEN for a line
 * that no daemon sends, or when there is no memory for it.
 */
enum table_line table_line(struct table *t, char *line, size_t len, char **error);
void table_clean(struct table *t);

/** table_print_text() - in columns; table_print_json(): a list of objects, one for each row */
void table_print_text(const struct table *t, FILE *out);
void table_print_json(const struct table *t, FILE *out);

#endif
