/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the map that is there, and numbering what is new. */
#include "bridges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os/log.h"
#include "os/nft_map.h"

static void take(void *context, const void *key, size_t key_len, const void *data, size_t data_len)
{
	struct bridges *b = context;
	uint32_t number;

	if (key_len != sizeof(number) || data_len != 4)
		return;
	memcpy(&number, key, sizeof(number));
	if (number == 0 || number > BRIDGES_MAX)
		return;
	b->addresses[number] = addr_from_bytes(4, data);
	if (number >= b->count)
		b->count = number + 1;
}

/* A worker that looks meanwhile sees all of the address, or none. */
static void give(struct bridges *b, size_t number, const struct addr *address)
{
	memcpy(b->addresses[number].bytes, address->bytes, sizeof(address->bytes));
	__atomic_store_n(&b->addresses[number].family, address->family, __ATOMIC_RELEASE);
	if (number >= b->count)
		b->count = number + 1;
}

uint16_t bridges_number(struct bridges *b, const struct addr *address)
{
	size_t number = 0;

	for (size_t i = 1; i < b->count; i++) {
		if (addr_equal(&b->addresses[i], address))
			return (uint16_t)i;
		if (!number && !b->addresses[i].family)
			number = i;
	}
	if (!number)
		number = b->count > 1 ? b->count : 1;
	if (number > BRIDGES_MAX) {
		log_error("the map bridges4 of table inet %s is full: delete the table, "
			  "with all connections in it",
			  b->table);
		return 0;
	}
	give(b, number, address);
	return (uint16_t)number;
}

int bridges_init(struct bridges *b, const char *table)
{
	struct nft_reader reader;
	int ret;

	b->table = table;
	b->addresses = calloc(BRIDGES_MAX + 1, sizeof(*b->addresses));
	if (!b->addresses) {
		log_error("not enough memory for the numbers of bridges");
		return -ENOMEM;
	}
	ret = nft_reader_open(&reader, table);
	if (ret)
		return ret;
	ret = nft_map_each(&reader, "bridges4", take, b);
	nft_reader_close(&reader);
	if (!ret || ret == -ENOENT) /* without a table there are no connections either */
		return 0;
	log_error("cannot read the map bridges4 of table inet %s: %s", table, strerror(-ret));
	return ret;
}

void bridges_clean(struct bridges *b)
{
	free(b->addresses);
}

void bridges_put(const struct bridges *b, struct nft_set *set)
{
	for (uint32_t i = 1; i < b->count; i++)
		if (b->addresses[i].family)
			nft_set_put_mark(set, i, &b->addresses[i]);
}

const struct addr *bridges_address(const struct bridges *b, uint32_t number)
{
	if (number > BRIDGES_MAX ||
	    !__atomic_load_n(&b->addresses[number].family, __ATOMIC_ACQUIRE))
		return NULL;
	return &b->addresses[number];
}
