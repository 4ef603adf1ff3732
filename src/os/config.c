/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings described by tables: read from a libconfig file, checked, and printed again. */
#include "config.h"

#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config_source.h"
#include "config_text.h"

#define PATH_LEN  256 /* "services[12].port"; a longer name out of a file is cut */
#define NAME_SHOW 64

struct problem {
	unsigned int line; /* of the whole text; 0 sorts first */
	unsigned int number;
	char *text;
};

struct settings_check {
	struct source source;
	config_t config;
	struct problem *problems;
	size_t problem_count;
	size_t lost; /* problems that there was no memory for */
};

/* Problems */

__attribute__((format(printf, 4, 0))) static void add_problem(struct settings_check *check,
							      unsigned int line,
							      const char *setting,
							      const char *format, va_list args)
{
	struct problem *problems =
		realloc(check->problems, (check->problem_count + 1) * sizeof(*problems));
	char place[SOURCE_PLACE_LEN], *text = NULL, *full = NULL;

	if (problems)
		check->problems = problems;
	if (problems && vasprintf(&text, format, args) >= 0 &&
	    asprintf(&full, "%s: %s: %s", source_place(&check->source, line, place), setting,
		     text) >= 0)
		problems[check->problem_count] = (struct problem){
			.line = line,
			.number = (unsigned int)check->problem_count,
			.text = full,
		};
	if (full)
		check->problem_count++;
	else
		check->lost++;
	free(text);
}

__attribute__((format(printf, 4, 5))) static void problem(struct settings_check *check,
							  unsigned int line, const char *setting,
							  const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_problem(check, line, setting, format, args);
	va_end(args);
}

static int compare_problems(const void *a, const void *b)
{
	const struct problem *p = a, *q = b;

	if (p->line != q->line)
		return p->line < q->line ? -1 : 1;
	return p->number < q->number ? -1 : p->number > q->number;
}

/* Write and forget them; returns how many there were. */
static size_t flush_problems(struct settings_check *check, FILE *errors)
{
	size_t count = check->problem_count + check->lost;

	if (check->problem_count)
		qsort(check->problems, check->problem_count, sizeof(*check->problems),
		      compare_problems);
	for (size_t i = 0; i < check->problem_count; i++) {
		fprintf(errors, "%s\n", check->problems[i].text);
		free(check->problems[i].text);
	}
	if (check->lost)
		fprintf(errors, "%s: %zu errors more, but no memory for them\n",
			check->source.files[0], check->lost);
	free(check->problems);
	return count;
}

/* Single settings */

/* One setting: "VALUE wrong; right" */
static void refuse(struct settings_check *check, const config_setting_t *s, const char *path,
		   const struct setting *t, const char *wrong)
{
	char value[VALUE_LEN], right[EXPLAIN_LEN];

	problem(check, config_setting_source_line(s), path, "%s %s; %s", setting_show(s, value),
		wrong, setting_explain(t, right));
}

static void read_int(struct settings_check *check, const config_setting_t *s, const char *path,
		     const struct setting *t, int *value)
{
	int type = config_setting_type(s);
	long long number = config_setting_get_int64(s);

	if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
		refuse(check, s, path, t, "is not an integer");
	else if (number < t->min || number > t->max)
		refuse(check, s, path, t, "is out of range");
	else
		*value = (int)number;
}

static void read_factor(struct settings_check *check, const config_setting_t *s, const char *path,
			const struct setting *t, int *value)
{
	int type = config_setting_type(s);
	double number = type == CONFIG_TYPE_FLOAT ? config_setting_get_float(s)
						  : (double)config_setting_get_int64(s);

	if (type != CONFIG_TYPE_FLOAT && type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
		refuse(check, s, path, t, "is not a number");
	else if (!(number * 100 >= t->min && number * 100 <= t->max))
		refuse(check, s, path, t, "is out of range");
	else
		*value = (int)(number * 100 + 0.5);
}

static void read_text(struct settings_check *check, const config_setting_t *s, const char *path,
		      const struct setting *t, char *text)
{
	static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyz"
					 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789-_.";
	const char *value = config_setting_get_string(s);
	size_t len = value ? strlen(value) : 0;

	if (!value)
		refuse(check, s, path, t, "is not a string");
	else if (len == 0)
		refuse(check, s, path, t, "is empty");
	else if (len >= t->size)
		refuse(check, s, path, t, "is too long");
	else if (t->type == SETTING_NAME && value[strspn(value, name_bytes)])
		refuse(check, s, path, t, "is not a name");
	else
		memcpy(text, value, len + 1);
}

static void read_choice(struct settings_check *check, const config_setting_t *s, const char *path,
			const struct setting *t, int *choice)
{
	const char *value = config_setting_get_string(s);

	for (int i = 0; value && t->choices[i]; i++) {
		if (!strcmp(value, t->choices[i])) {
			*choice = i;
			return;
		}
	}
	refuse(check, s, path, t, value ? "is unknown" : "is not a string");
}

/* 0.0.0.0/8, 224.0.0.0/4 and 240.0.0.0/4 (RFC 6890) are nobody's address. */
static bool is_host(const struct addr *addr)
{
	return addr->bytes[0] != 0 && addr->bytes[0] < 224;
}

static void read_addr(struct settings_check *check, const config_setting_t *s, const char *path,
		      const struct setting *t, struct addr *addr)
{
	const char *value = config_setting_get_string(s);
	struct addr parsed;

	if (!value)
		refuse(check, s, path, t, "is not a string");
	else if (addr_parse(&parsed, value))
		refuse(check, s, path, t, "is not an address");
	else if (parsed.family != 4)
		refuse(check, s, path, t, "is an IPv6 address, and only IPv4 is supported so far");
	else if (!is_host(&parsed))
		refuse(check, s, path, t, "is not the address of a host");
	else
		*addr = parsed;
}

static void set_default(const struct setting *t, void *field)
{
	switch (t->type) {
	case SETTING_INT:
	case SETTING_FACTOR:
	case SETTING_CHOICE:
		*(int *)field = t->number;
		break;
	case SETTING_TEXT:
	case SETTING_NAME:
		snprintf(field, t->size, "%s", t->text ? t->text : "");
		break;
	case SETTING_ADDR:
		addr_parse(field, t->text);
		break;
	case SETTING_GROUP:
	case SETTING_LIST:
		break;
	}
}

/* Unknown settings */

static const struct setting *find_setting(const struct setting *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

static void refuse_unknown(struct settings_check *check, const config_setting_t *s,
			   const char *path, const struct setting *table)
{
	const char *meant = setting_guess(table, config_setting_name(s));
	char known[512];
	size_t len = 0;

	if (meant) {
		problem(check, config_setting_source_line(s), path,
			"not a setting; did you mean %s?", meant);
		return;
	}
	for (; table->name && len < sizeof(known); table++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "",
					table->name);
	problem(check, config_setting_source_line(s), path, "not a setting; known here: %s", known);
}

/* Groups and lists */

static void read_setting(struct settings_check *check, const config_setting_t *s, const char *path,
			 const struct setting *t, char *base);

/*
 * @s: the group, or NULL if it is missing and gives nothing but defaults
 * @line: where missing settings are missed
 */
static void read_members(struct settings_check *check, const config_setting_t *s, unsigned int line,
			 const char *path, const struct setting *table, char *base)
{
	char name[PATH_LEN];

	for (int i = 0; s && i < config_setting_length(s); i++) {
		const config_setting_t *member = config_setting_get_elem(s, (unsigned int)i);

		snprintf(name, sizeof(name), "%s%s%.*s", path, *path ? "." : "", NAME_SHOW,
			 config_setting_name(member));
		if (!find_setting(table, config_setting_name(member)))
			refuse_unknown(check, member, name, table);
	}
	for (; table->name; table++) {
		const config_setting_t *member =
			s ? config_setting_get_member(s, table->name) : NULL;
		char right[EXPLAIN_LEN];

		snprintf(name, sizeof(name), "%s%s%s", path, *path ? "." : "", table->name);
		if (member)
			read_setting(check, member, name, table, base);
		else if (table->type == SETTING_GROUP)
			read_members(check, NULL, line, name, table->members, base);
		else if (table->required)
			problem(check, line, name, "missing; %s", setting_explain(table, right));
		else
			set_default(table, base + table->offset);
	}
}

/* The member of a list's elements that must be unique, or NULL. */
static const struct setting *unique_member(const struct setting *list)
{
	for (const struct setting *t = list->members; t->name; t++)
		if (t->unique)
			return t;
	return NULL;
}

static void check_unique(struct settings_check *check, const char *path, const struct setting *t,
			 const char *elements, size_t count)
{
	const struct setting *unique = unique_member(t);
	char this[PATH_LEN + 64], other[PATH_LEN + 64];

	for (size_t i = 0; unique && i < count; i++) {
		const char *name = elements + i * t->size + unique->offset;

		for (size_t j = 0; *name && j < i; j++) {
			if (strcmp(name, elements + j * t->size + unique->offset))
				continue;
			snprintf(this, sizeof(this), "%s[%zu].%s", path, i, unique->name);
			snprintf(other, sizeof(other), "%s[%zu].%s", path, j, unique->name);
			settings_conflict(check, this, other,
					  "\"%s\" is taken; %s has a name of its "
					  "own",
					  name, t->noun);
			break;
		}
	}
}

static void read_list(struct settings_check *check, const config_setting_t *s, const char *path,
		      const struct setting *t, char *base)
{
	int count = config_setting_length(s);
	char name[PATH_LEN], *elements;

	if (t->required && count == 0) {
		refuse(check, s, path, t, "is empty");
		return;
	}
	elements = count ? calloc((size_t)count, t->size) : NULL;
	if (!elements) {
		if (count)
			check->lost++;
		return;
	}
	*(char **)(base + t->offset) = elements;
	*(size_t *)(base + t->count_offset) = (size_t)count;
	for (int i = 0; i < count; i++) {
		const config_setting_t *element = config_setting_get_elem(s, (unsigned int)i);
		char value[VALUE_LEN];

		snprintf(name, sizeof(name), "%.*s[%d]", PATH_LEN - 16, path, i);
		if (config_setting_is_group(element))
			read_members(check, element, config_setting_source_line(element), name,
				     t->members, elements + (size_t)i * t->size);
		else
			problem(check, config_setting_source_line(element), name,
				"%s is not a group; %s is a group { ... }",
				setting_show(element, value), t->noun);
	}
	check_unique(check, path, t, elements, (size_t)count);
}

static void read_setting(struct settings_check *check, const config_setting_t *s, const char *path,
			 const struct setting *t, char *base)
{
	void *field = base + t->offset;

	switch (t->type) {
	case SETTING_INT:
		read_int(check, s, path, t, field);
		break;
	case SETTING_FACTOR:
		read_factor(check, s, path, t, field);
		break;
	case SETTING_TEXT:
	case SETTING_NAME:
		read_text(check, s, path, t, field);
		break;
	case SETTING_CHOICE:
		read_choice(check, s, path, t, field);
		break;
	case SETTING_ADDR:
		read_addr(check, s, path, t, field);
		break;
	case SETTING_GROUP:
		if (config_setting_is_group(s))
			read_members(check, s, config_setting_source_line(s), path, t->members,
				     base);
		else
			refuse(check, s, path, t, "is not a group");
		break;
	case SETTING_LIST:
		if (config_setting_is_list(s))
			read_list(check, s, path, t, base);
		else
			refuse(check, s, path, t, "is not a list");
		break;
	}
}

/* Checks of the daemons */

/* The line of "services[1].port", or of what is nearest around it. */
static unsigned int find_line(const struct settings_check *check, const char *path)
{
	const config_setting_t *s = config_root_setting(&check->config);
	char name[NAME_SHOW + 1];

	for (;;) {
		size_t len = strcspn(path, "[.");
		const config_setting_t *next;

		if (*path == '[') {
			char *end;

			next = config_setting_get_elem(s,
						       (unsigned int)strtoul(path + 1, &end, 10));
			path = end + 1;
		} else {
			snprintf(name, sizeof(name), "%.*s", (int)len, path);
			next = config_setting_get_member(s, name);
			path += len;
		}
		if (!next || !*path)
			return config_setting_source_line(next ? next : s);
		s = next;
		path += *path == '.';
	}
}

void settings_error(struct settings_check *check, const char *setting, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_problem(check, find_line(check, setting), setting, format, args);
	va_end(args);
}

void settings_conflict(struct settings_check *check, const char *setting, const char *other,
		       const char *format, ...)
{
	char place[SOURCE_PLACE_LEN], *text = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0) {
		check->lost++;
		return;
	}
	source_place(&check->source, find_line(check, other), place);
	settings_error(check, setting, "%s (%s at %s)", text, other, place);
	free(text);
}

/* Whole files */

static int parse(struct settings_check *check, FILE *errors)
{
	char place[SOURCE_PLACE_LEN];
	const char *text;

	if (config_read_string(&check->config, check->source.text))
		return 0;
	source_place(&check->source, (unsigned int)config_error_line(&check->config), place);
	text = config_error_text(&check->config);
	if (!strcmp(text, "syntax error"))
		fprintf(errors, "%s: syntax error here, or at the end of the line before\n", place);
	else
		fprintf(errors, "%s: %s\n", place, text);
	return -EINVAL;
}

int settings_load(const struct setting *table, void *settings, const void *running,
		  const char *path, void (*more)(struct settings_check *check, void *settings),
		  FILE *errors)
{
	struct settings_check check = { .problem_count = 0 };
	int result = source_read(&check.source, path, errors);

	if (result)
		goto out;
	config_init(&check.config);
	result = parse(&check, errors);
	if (!result) {
		read_members(&check, config_root_setting(&check.config), 0, "", table, settings);
		if (running && !check.problem_count && !check.lost)
			settings_keep(table, settings, running);
		more(&check, settings);
		result = flush_problems(&check, errors) ? -EINVAL : 0;
	}
	config_destroy(&check.config);
out:
	source_clean(&check.source);
	return result ? -EINVAL : 0;
}

void settings_free(const struct setting *table, void *settings)
{
	for (; table->name; table++) {
		char **elements = (char **)((char *)settings + table->offset);
		size_t count;

		if (table->type != SETTING_LIST)
			continue;
		count = *(size_t *)((char *)settings + table->count_offset);
		for (size_t i = 0; i < count; i++)
			settings_free(table->members, *elements + i * table->size);
		free(*elements);
		*elements = NULL;
	}
}
