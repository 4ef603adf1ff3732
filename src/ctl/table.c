/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading an answer line by line, and printing it. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "lib/words.h"

static bool is_number(const char *word)
{
	size_t digits = strspn(word, "0123456789");

	if (!digits || (word[0] == '0' && digits > 1)) /* JSON has no leading zeros */
		return false;
	if (word[digits] != '.')
		return !word[digits];
	word += digits + 1;
	return *word && !word[strspn(word, "0123456789")];
}

static enum table_line read_columns(struct table *t, char **words, size_t count)
{
	if (t->column_count || !count || count > TABLE_COLUMNS)
		return TABLE_BROKEN;
	for (size_t i = 0; i < count; i++) {
		if (strncmp(words[i], "n:", 2) != 0 && strncmp(words[i], "s:", 2) != 0)
			return TABLE_BROKEN;
		t->columns[i].name = strdup(words[i] + 2);
		if (!t->columns[i].name)
			return TABLE_BROKEN;
		t->columns[i].number = words[i][0] == 'n';
		t->column_count++;
	}
	return TABLE_MORE;
}

static enum table_line read_row(struct table *t, char **words, size_t count)
{
	if (!t->column_count || count != t->column_count)
		return TABLE_BROKEN;
	if (t->count + count > t->capacity) {
		size_t capacity = t->capacity ? 2 * t->capacity : 64 * TABLE_COLUMNS;
		char **cells = reallocarray(t->cells, capacity, sizeof(*cells));

		if (!cells)
			return TABLE_BROKEN;
		t->cells = cells;
		t->capacity = capacity;
	}
	for (size_t i = 0; i < count; i++) {
		if (t->columns[i].number && *words[i] && !is_number(words[i]))
			return TABLE_BROKEN;
		t->cells[t->count] = strdup(words[i]);
		if (!t->cells[t->count])
			return TABLE_BROKEN;
		t->count++;
	}
	return TABLE_MORE;
}

enum table_line table_line(struct table *t, char *line, size_t len, char **error)
{
	char *words[TABLE_COLUMNS + 1];
	int count = words_split(line, len, words, TABLE_COLUMNS + 1);

	if (count < 1)
		return TABLE_BROKEN;
	if (!strcmp(words[0], "columns"))
		return read_columns(t, words + 1, (size_t)count - 1);
	if (!strcmp(words[0], "row"))
		return read_row(t, words + 1, (size_t)count - 1);
	if (!strcmp(words[0], "done") && count == 1)
		return TABLE_DONE;
	if (strcmp(words[0], "error") != 0 || count != 2)
		return TABLE_BROKEN;
	*error = strdup(words[1]);
	return *error ? TABLE_ERROR : TABLE_BROKEN;
}

void table_clean(struct table *t)
{
	for (size_t i = 0; i < t->column_count; i++)
		free(t->columns[i].name);
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){ .column_count = 0 };
}

static const char *cell_text(const char *cell)
{
	return *cell ? cell : "-";
}

static void print_cell(const struct table *t, size_t column, const char *text, int width, FILE *out)
{
	bool last = column + 1 == t->column_count;

	if (t->columns[column].number)
		fprintf(out, "%*s", width, text);
	else
		fprintf(out, "%-*s", last ? 0 : width, text);
	fputs(last ? "\n" : "  ", out);
}

void table_print_text(const struct table *t, FILE *out)
{
	int width[TABLE_COLUMNS];

	for (size_t i = 0; i < t->column_count; i++)
		width[i] = (int)strlen(t->columns[i].name);
	for (size_t i = 0; i < t->count; i++) {
		int len = (int)strlen(cell_text(t->cells[i]));

		if (len > width[i % t->column_count])
			width[i % t->column_count] = len;
	}
	for (size_t i = 0; i < t->column_count; i++)
		print_cell(t, i, t->columns[i].name, width[i], out);
	for (size_t i = 0; i < t->count; i++)
		print_cell(t, i % t->column_count, cell_text(t->cells[i]),
			   width[i % t->column_count], out);
}

/* Words are printable ASCII: of that, JSON wants two escaped (RFC 8259, 7). */
static void print_string(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

void table_print_json(const struct table *t, FILE *out)
{
	fputc('[', out);
	for (size_t i = 0; i < t->count; i++) {
		size_t column = i % t->column_count;

		fputs(column ? ", " : i ? ",\n {" : "\n {", out);
		print_string(t->columns[column].name, out);
		fputs(": ", out);
		if (t->columns[column].number)
			fputs(*t->cells[i] ? t->cells[i] : "null", out);
		else
			print_string(t->cells[i], out);
		if (column + 1 == t->column_count)
			fputc('}', out);
	}
	fputs(t->count ? "\n]\n" : "]\n", out);
}
