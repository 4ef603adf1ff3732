/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the kernel's settings, and saying what is wrong with them. */
#include "sysctl.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

#define ROOT	 "/proc/sys/"
#define PATH_MAX 256

/* Only dots of @name are separators: an interface with a dot in its name is found by "*". */
static void make_path(const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, ROOT "%s", name);
	for (char *p = path + strlen(ROOT); *p; p++)
		if (*p == '.')
			*p = '/';
}

static int read_number(const char *path, uint32_t *value)
{
	FILE *file = fopen(path, "re");
	int ret = 0;

	if (!file)
		return -errno;
	if (fscanf(file, "%u", value) != 1)
		ret = -EINVAL;
	fclose(file);
	return ret;
}

int sysctl_read(const char *name, uint32_t *value)
{
	char path[PATH_MAX];

	make_path(name, path);
	return read_number(path, value);
}

static bool check_path(const struct sysctl_want *want, const char *path,
		       void (*say)(const char *format, ...))
{
	uint32_t value;
	int ret = read_number(path, &value);

	if (ret)
		say("%s cannot be read: %s", path, strerror(-ret));
	else if (value != want->value)
		say("%s is %u and must be %u: set %s=%u, as " SYSCTLDIR "/%s does", path, value,
		    want->value, want->name, want->value, want->file);
	return !ret && value == want->value;
}

bool sysctl_check(const struct sysctl_want *want, void (*say)(const char *format, ...))
{
	char path[PATH_MAX];
	bool good = true;
	glob_t found;

	make_path(want->name, path);
	if (glob(path, GLOB_NOMAGIC, NULL, &found))
		return check_path(want, path, say);
	for (size_t i = 0; good && i < found.gl_pathc; i++)
		good = check_path(want, found.gl_pathv[i], say);
	globfree(&found);
	return good;
}
