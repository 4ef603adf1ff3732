/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings described by tables: read from a libconfig file, checked, and printed again. */
#ifndef L3DSR_CONFIG_H
#define L3DSR_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "lib/addr.h"

/*
 * DOC: Theory of operation
 *
 * A daemon describes its configuration once, as tables of struct setting. Reading, the messages
 * about what is wrong, the defaults and the canonical form all come from them. What concerns more
 * than one setting is a function of the daemon that runs afterwards.
 *
 * All errors of a file are told in one run, in the order of the file. A setting that was not
 * accepted is left zero (an empty string, an address without a family), so that the checks behind
 * can see that there is nothing to compare; no accepted value of any setting is zero, except that
 * of a choice.
 *
 * libconfig owns the prefix config_, so functions are called settings_ here.
 */

enum setting_type {
	SETTING_INT,	/* int */
	SETTING_FACTOR, /* int: hundredths; a default of 0 is that there is none */
	SETTING_TEXT,	/* char[size], not empty */
	SETTING_NAME,	/* char[size]; letters, digits, '-', '_', '.' */
	SETTING_CHOICE, /* int: which of @choices */
	SETTING_ADDR,	/* struct addr; IPv4, of a host */
	SETTING_GROUP,	/* @members, with offsets from the same struct */
	SETTING_LIST,	/* struct { @members } *, allocated; the size_t at @count_offset counts them
			 */
};

/**
 * struct setting - one setting; a table ends with one that has no @name
 * @noun:	how messages speak of a value: "a port"; for a list of one of its elements
 * @required:	there is no default; a required list has at least one element
 * @unique:	of a name: no other element of the list has it
 * @fixed:	a running daemon cannot change it; not for lists, and what is in them
 */
struct setting {
	const char *name;
	const char *noun;
	enum setting_type type;
	bool required, unique, fixed;
	size_t offset;
	size_t size;
	size_t count_offset;
	int min, max;		    /* of a factor in hundredths, as its default */
	int number;		    /* default of a number or a choice */
	const char *text;	    /* default of a text or an address; a text may have none */
	const char *const *choices; /* ends with NULL */
	const struct setting *members;
};

/** SETTING_FIELD() - where the value of a setting is kept: a member of struct @owner */
#define SETTING_FIELD(owner, member)                                                               \
	.offset = offsetof(struct owner, member), .size = sizeof(((struct owner *)NULL)->member)

/** SETTING_ELEMENTS() - the same for a list: a pointer to elements, and how many there are */
#define SETTING_ELEMENTS(owner, member, count)                                                     \
	.offset = offsetof(struct owner, member), .size = sizeof(*((struct owner *)NULL)->member), \
	.count_offset = offsetof(struct owner, count)

struct settings_check;

/**
 * settings_load() - fill @settings, which was zeroed, from the file @path by @table
 * @running:	what the daemon runs by: fixed settings stay, after a warning each; NULL at its start
 * @check:	what the table cannot say; calls settings_error() for each thing that is wrong
 * Returns 0, or -EINVAL after all errors were written to @errors, one per line. settings_free()
 * is due in both cases.
 */
int settings_load(const struct setting *table, void *settings, const void *running,
		  const char *path, void (*check)(struct settings_check *check, void *settings),
		  FILE *errors);

/** settings_keep() - the part of settings_load() that is about @running */
void settings_keep(const struct setting *table, void *settings, const void *running);

/** settings_free() - the lists inside @settings, not @settings itself */
void settings_free(const struct setting *table, void *settings);

/** settings_print() - the canonical form: every setting; read again, it gives the same */
void settings_print(const struct setting *table, const void *settings, FILE *out);

/** settings_error() - note an error at @setting ("services[1].port"), or where it would stand */
void settings_error(struct settings_check *check, const char *setting, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * settings_conflict() - @setting does not go together with @other, which stands before it
 * Writes "SETTING: " and the formatted text, followed by the name and the place of @other.
 */
void settings_conflict(struct settings_check *check, const char *setting, const char *other,
		       const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
