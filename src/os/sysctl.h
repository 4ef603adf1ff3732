/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings of the kernel that a daemon wants, below /proc/sys. */
#ifndef L3DSR_SYSCTL_H
#define L3DSR_SYSCTL_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct sysctl_want - one setting
 * @name:	"net.ipv4.ip_forward"; a part that is "*" stands for all that are there
 * @file:	of SYSCTLDIR, which has the value
 */
struct sysctl_want {
	const char *name;
	uint32_t value;
	const char *file;
};

/** sysctl_read() - the number that @name, without "*", is; 0 or -errno */
int sysctl_read(const char *name, uint32_t *value);

/**
 * sysctl_check() - is it as it should be?
 * If not, @say (log_warning() or log_error()) is told name and value of the first that differs, and where
 * the value is to be set.
 */
bool sysctl_check(const struct sysctl_want *want, void (*say)(const char *format, ...));

#endif
