/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How messages about settings speak: of values, of what would be right, of what may be meant. */
#include "config_text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define NAME_LEN 32 /* no setting of ours has a longer name */

/* A string as libconfig reads it, cut to what @buf holds. */
static void quote(const char *text, char *buf, size_t size)
{
	size_t len = 0;

	buf[len++] = '"';
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (len + 4 + sizeof("...\"") > size) {
			memcpy(buf + len, "...", 3);
			len += 3;
			break;
		}
		if (c == '"' || c == '\\')
			len += (size_t)sprintf(buf + len, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			len += (size_t)sprintf(buf + len, "\\x%02x", c);
		else
			buf[len++] = (char)c;
	}
	memcpy(buf + len, "\"", 2);
}

const char *setting_show(const config_setting_t *s, char buf[VALUE_LEN])
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		snprintf(buf, VALUE_LEN, "%lld", config_setting_get_int64(s));
		break;
	case CONFIG_TYPE_FLOAT:
		/* Whole numbers too keep what makes them no integers: "10000.0" */
		snprintf(buf, VALUE_LEN, "%#g", config_setting_get_float(s));
		break;
	case CONFIG_TYPE_BOOL:
		snprintf(buf, VALUE_LEN, "%s", config_setting_get_bool(s) ? "true" : "false");
		break;
	case CONFIG_TYPE_STRING:
		quote(config_setting_get_string(s), buf, VALUE_LEN);
		break;
	case CONFIG_TYPE_GROUP:
		snprintf(buf, VALUE_LEN, "a group { ... }");
		break;
	case CONFIG_TYPE_ARRAY:
		snprintf(buf, VALUE_LEN, "an array [ ... ]");
		break;
	default:
		snprintf(buf, VALUE_LEN, "a list ( ... )");
		break;
	}
	return buf;
}

const char *setting_explain(const struct setting *t, char buf[EXPLAIN_LEN])
{
	size_t len;

	switch (t->type) {
	case SETTING_INT:
		snprintf(buf, EXPLAIN_LEN, "%s is %d to %d", t->noun, t->min, t->max);
		break;
	case SETTING_FACTOR:
		snprintf(buf, EXPLAIN_LEN, "%s is %d.%02d to %d.%02d", t->noun, t->min / 100,
			 t->min % 100, t->max / 100, t->max % 100);
		break;
	case SETTING_TEXT:
		snprintf(buf, EXPLAIN_LEN, "%s is a string of 1 to %zu bytes", t->noun,
			 t->size - 1);
		break;
	case SETTING_NAME:
		snprintf(buf, EXPLAIN_LEN,
			 "%s is a string of 1 to %zu letters, digits, '-', '_' and '.'", t->noun,
			 t->size - 1);
		break;
	case SETTING_CHOICE:
		len = (size_t)snprintf(buf, EXPLAIN_LEN, "%s is ", t->noun);
		for (size_t i = 0; t->choices[i]; i++)
			len += (size_t)snprintf(buf + len, EXPLAIN_LEN - len, "%s\"%s\"",
						i == 0		    ? ""
						: t->choices[i + 1] ? ", "
								    : " or ",
						t->choices[i]);
		break;
	case SETTING_ADDR:
		snprintf(buf, EXPLAIN_LEN, "%s is an IPv4 address such as \"192.0.2.1\"", t->noun);
		break;
	case SETTING_GROUP:
		snprintf(buf, EXPLAIN_LEN, "%s is a group { ... }", t->noun);
		break;
	case SETTING_LIST:
		snprintf(buf, EXPLAIN_LEN,
			 "%s is a list of at least one group ( { ... } ), each of them %s", t->name,
			 t->noun);
		break;
	}
	return buf;
}

/* Levenshtein's distance of two names; those that are longer than ours are not close anyway. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[NAME_LEN + 1], len = (unsigned int)strlen(b);

	if (len > NAME_LEN || strlen(a) > NAME_LEN)
		return UINT_MAX;
	for (unsigned int j = 0; j <= len; j++)
		row[j] = j;
	for (unsigned int i = 1; a[i - 1]; i++) {
		unsigned int diagonal = row[0];

		row[0] = i;
		for (unsigned int j = 1; j <= len; j++) {
			unsigned int best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (best > row[j] + 1)
				best = row[j] + 1;
			if (best > row[j - 1] + 1)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[len];
}

const char *setting_guess(const struct setting *table, const char *name)
{
	unsigned int best = strlen(name) < 10 ? 3 : 4;
	const char *found = NULL;

	for (; table->name; table++) {
		unsigned int d = distance(name, table->name);

		if (d < best && d < strlen(table->name)) {
			best = d;
			found = table->name;
		}
	}
	return found;
}
