/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP sockets for the answers of bridges. */
#ifndef L3DSR_DATAGRAM_H
#define L3DSR_DATAGRAM_H

#include <stdint.h>

#include "lib/addr.h"

/**
 * datagram_open() - a socket at @addr and @port, 0 for any port, that never blocks
 * The address may come later: at boot a daemon can be there before the network. @setting is what the
 * warning calls it then. Returns the descriptor, or -1 with errno.
 */
int datagram_open(const struct addr *addr, uint16_t port, const char *setting);

#endif
