/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The numbers by which the kernel's maps know bridges. */
#ifndef L3DSR_BALANCER_BRIDGES_H
#define L3DSR_BALANCER_BRIDGES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "os/nft_sets.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * A connection in the map `flows4` has the number of its bridge, and the map `bridges4` its address.
 * Connections outlive the daemon, and backends come and go with its configuration; so a number is
 * given once and for all: at the start the map is read, an address that is there keeps its number, and
 * a new one gets the lowest that is free. Nothing is taken out: a connection may still need it.
 */

#define BRIDGES_MAX 65535 /* a number is the lower half of a packet's mark; 0 is none */

/**
 * struct bridges - read-only after the start
 * @addresses:	by number, @count of them; those without a family are free
 * @numbers:	by backend_settings.number
 */
struct bridges {
	struct addr *addresses;
	size_t count;
	uint16_t *numbers;
};

/** bridges_init() - number the backends of @settings; 0 or -errno after the reason was logged */
int bridges_init(struct bridges *b, const struct balancer_settings *settings, const char *table);
void bridges_clean(struct bridges *b);

/** bridges_put() - add all to @set, which has room for bridges.count */
void bridges_put(const struct bridges *b, struct nft_set *set);

/** bridges_address() - NULL if the number is nobody's */
const struct addr *bridges_address(const struct bridges *b, uint32_t number);

#endif
