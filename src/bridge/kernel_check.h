/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is the kernel fit for translating connections, and are its settings? */
#ifndef L3DSR_BRIDGE_KERNEL_CHECK_H
#define L3DSR_BRIDGE_KERNEL_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "settings.h"

/**
 * kernel_check() - look at the kernel's settings, and try it out with an entry
 * Returns false, after the reason was logged, if the kernel's data plane cannot be used. What is only
 * unwise is logged as a warning, with file and value.
 */
bool kernel_check(const struct bridge_settings *settings);

/**
 * kernel_far_us() - round trip time from which on a client is far for web servers of this host (open.h)
 * By the congestion control that connections have by default.
 */
uint32_t kernel_far_us(void);

#endif
