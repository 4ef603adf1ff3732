/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The canonical form of settings: what libconfig reads again to the same. */
#include "config.h"

static void print_indent(FILE *out, unsigned int depth)
{
	while (depth--)
		fputc('\t', out);
}

static void print_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void print_members(const struct setting *table, const char *base, unsigned int depth,
			  FILE *out);

static void print_list(const struct setting *t, const char *base, unsigned int depth, FILE *out)
{
	const char *elements = *(char *const *)(base + t->offset);
	size_t count = *(const size_t *)(base + t->count_offset);

	fputs("(\n", out);
	for (size_t i = 0; i < count; i++) {
		print_indent(out, depth + 1);
		fputs("{\n", out);
		print_members(t->members, elements + i * t->size, depth + 2, out);
		print_indent(out, depth + 1);
		fputs(i + 1 < count ? "},\n" : "}\n", out);
	}
	print_indent(out, depth);
	fputc(')', out);
}

static void print_value(const struct setting *t, const char *base, unsigned int depth, FILE *out)
{
	const void *field = base + t->offset;
	char buf[ADDR_STRLEN];

	switch (t->type) {
	case SETTING_INT:
		fprintf(out, "%d", *(const int *)field);
		break;
	case SETTING_FACTOR:
		fprintf(out, "%d.%02d", *(const int *)field / 100, *(const int *)field % 100);
		break;
	case SETTING_TEXT:
	case SETTING_NAME:
		print_text(out, field);
		break;
	case SETTING_CHOICE:
		print_text(out, t->choices[*(const int *)field]);
		break;
	case SETTING_ADDR:
		print_text(out, addr_format(field, buf));
		break;
	case SETTING_GROUP:
		fputs("{\n", out);
		print_members(t->members, base, depth + 1, out);
		print_indent(out, depth);
		fputc('}', out);
		break;
	case SETTING_LIST:
		print_list(t, base, depth, out);
		break;
	}
}

/* A text or factor without a default that was not given, a list that nobody needs: no value. */
static bool is_missing(const struct setting *t, const char *base)
{
	switch (t->type) {
	case SETTING_FACTOR:
		return *(const int *)(base + t->offset) == 0;
	case SETTING_TEXT:
	case SETTING_NAME:
		return !t->text && !base[t->offset];
	case SETTING_LIST:
		return *(const size_t *)(base + t->count_offset) == 0;
	default:
		return false;
	}
}

static void print_members(const struct setting *table, const char *base, unsigned int depth,
			  FILE *out)
{
	for (; table->name; table++) {
		if (is_missing(table, base))
			continue;
		print_indent(out, depth);
		fprintf(out, "%s = ", table->name);
		print_value(table, base, depth, out);
		fputs(";\n", out);
	}
}

void settings_print(const struct setting *table, const void *settings, FILE *out)
{
	print_members(table, settings, 0, out);
}
