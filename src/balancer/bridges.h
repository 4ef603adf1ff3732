/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The numbers by which the kernel's maps know bridges. */
#ifndef L3DSR_BALANCER_BRIDGES_H
#define L3DSR_BALANCER_BRIDGES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "os/nft_sets.h"

/*
 * DOC: Theory of operation
 *
 * A connection in the map `flows4` has the number of its bridge, and the map `bridges4` its address.
 * Connections outlive the daemon, and backends come and go with its configuration; so a number is
 * given once and for all: at the start the map is read, an address that is there keeps its number, and
 * a new one gets the lowest that is free, now or when the configuration is read again. Nothing is taken
 * out: a connection may still need it.
 */

#define BRIDGES_MAX 65535 /* a number is the lower half of a packet's mark; 0 is none */

/**
 * struct bridges - of the process; the main thread adds to it while workers read
 * @addresses:	by number; those without a family are free
 * @count:	all numbers are below it; the main thread's
 */
struct bridges {
	struct addr *addresses;
	size_t count;
	const char *table;
};

/** bridges_init() - as the kernel's map has them; 0 or -errno after the reason was logged */
int bridges_init(struct bridges *b, const char *table);
void bridges_clean(struct bridges *b);

/** bridges_number() - of @address, from now on if it has none; 0 after it was logged that all are taken */
uint16_t bridges_number(struct bridges *b, const struct addr *address);

/** bridges_put() - add all to @set, which has room for bridges.count */
void bridges_put(const struct bridges *b, struct nft_set *set);

/** bridges_address() - NULL if the number is nobody's; for all threads */
const struct addr *bridges_address(const struct bridges *b, uint32_t number);

#endif
