/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How messages about settings speak: of values, of what would be right, of what may be meant. */
#ifndef L3DSR_CONFIG_TEXT_H
#define L3DSR_CONFIG_TEXT_H

#include <libconfig.h>

#include "config.h"

#define VALUE_LEN   100 /* a longer value is cut */
#define EXPLAIN_LEN 256

/** setting_show() - the value as it stands in the file, made printable; returns @buf */
const char *setting_show(const config_setting_t *s, char buf[VALUE_LEN]);

/** setting_explain() - a sentence that says what would be right; returns @buf */
const char *setting_explain(const struct setting *t, char buf[EXPLAIN_LEN]);

/**
 * setting_guess() - which setting may be meant by @name
 * Two typing errors are forgiven, three in a long name. NULL if none is near.
 */
const char *setting_guess(const struct setting *table, const char *name);

#endif
