/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: requests on the control socket, and answers printed as tables and as JSON. */
#include "ctl/table.h"
#include "fuzz.h"
#include "lib/words.h"

/* A request, as the daemon reads it: whatever it makes of it, escaping undoes unescaping. */
static void read_request(const uint8_t *data, size_t size)
{
	char *line = malloc(size + 1), *again = malloc(size * WORDS_ESCAPED + 1);
	char *words[WORDS_MAX];
	int count;

	CHECK(line && again);
	memcpy(line, data, size);
	count = words_split(line, size, words, WORDS_MAX);
	CHECK(count <= WORDS_MAX);
	for (int i = 0; i < count; i++) {
		size_t len = strlen(words[i]);

		CHECK(words[i] >= line && words[i] + len <= line + size);
		if (words_unescape(words[i]))
			continue;
		CHECK(strlen(words[i]) <= len);
		words_escape(words[i], strlen(words[i]), again);
		CHECK(words_unescape(again) == 0 && !strcmp(again, words[i]));
	}
	free(line);
	free(again);
}

/* Strings end, what is between them is JSON's punctuation, a number or null, and brackets match. */
static void check_json(const char *text)
{
	bool inside = false;
	int depth = 0;

	for (; *text; text++) {
		CHECK(*text == '\n' || (*text >= ' ' && *text <= '~'));
		if (inside && *text == '\\')
			text++;
		else if (*text == '"')
			inside = !inside;
		else if (!inside && !strncmp(text, "null", strlen("null")))
			text += strlen("null") - 1;
		else if (!inside) {
			CHECK(strchr("[]{}:, \n.0123456789", *text));
			depth += *text == '[' || *text == '{';
			depth -= *text == ']' || *text == '}';
			CHECK(depth >= 0);
		}
		CHECK(*text);
	}
	CHECK(!inside && depth == 0);
}

static void print(const struct table *t)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	CHECK(out);
	table_print_json(t, out);
	CHECK(fclose(out) == 0);
	check_json(text);
	free(text);
	out = open_memstream(&text, &size);
	CHECK(out);
	table_print_text(t, out);
	CHECK(fclose(out) == 0);
	free(text);
}

/* An answer, as l3dsrctl reads it: line by line until one that ends it. */
static void read_answer(const uint8_t *data, size_t size)
{
	enum table_line result = TABLE_MORE;
	struct table t = { .column_count = 0 };
	char *error = NULL;

	while (size && result == TABLE_MORE) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t len = end ? (size_t)(end - data) : size;
		char *line = malloc(len + 1);

		CHECK(line);
		memcpy(line, data, len);
		result = table_line(&t, line, len, &error);
		free(line);
		data += len + (end != NULL);
		size -= len + (end != NULL);
	}
	if (result == TABLE_ERROR)
		free(error);
	if (result != TABLE_BROKEN)
		print(&t);
	table_clean(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_request(data, size);
	read_answer(data, size);
	return 0;
}
