/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings that a running daemon cannot change: they stay, and the operator is told. */
#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "log.h"

#define PATH_LEN  64
#define VALUE_LEN 320

static const char *show(const struct setting *t, const void *field, char buf[VALUE_LEN])
{
	char text[ADDR_STRLEN];

	switch (t->type) {
	case SETTING_INT:
		snprintf(buf, VALUE_LEN, "%d", *(const int *)field);
		break;
	case SETTING_CHOICE:
		snprintf(buf, VALUE_LEN, "\"%s\"", t->choices[*(const int *)field]);
		break;
	case SETTING_ADDR:
		snprintf(buf, VALUE_LEN, "\"%s\"", addr_format(field, text));
		break;
	default:
		snprintf(buf, VALUE_LEN, "\"%s\"", (const char *)field);
		break;
	}
	return buf;
}

static void keep(const struct setting *t, const char *path, char *settings, const char *running)
{
	char now[VALUE_LEN], wanted[VALUE_LEN];

	if (!memcmp(settings + t->offset, running + t->offset, t->size))
		return;
	log_warning("%s = %s takes a restart; still %s", path,
		    show(t, settings + t->offset, wanted), show(t, running + t->offset, now));
	memcpy(settings + t->offset, running + t->offset, t->size);
}

static void keep_members(const struct setting *table, const char *group, char *settings,
			 const char *running)
{
	char path[PATH_LEN];

	for (; table->name; table++) {
		snprintf(path, sizeof(path), "%s%s%s", group, *group ? "." : "", table->name);
		if (table->type == SETTING_GROUP)
			keep_members(table->members, path, settings, running);
		else if (table->fixed)
			keep(table, path, settings, running);
	}
}

void settings_keep(const struct setting *table, void *settings, const void *running)
{
	keep_members(table, "", settings, running);
}
