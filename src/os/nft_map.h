/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the maps of our nft table: one element, or all. */
#ifndef L3DSR_NFT_MAP_H
#define L3DSR_NFT_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "nft_reader.h"

#define NFT_CHAIN_LEN 16 /* of a name that we use, with the zero at its end */

/**
 * nft_map_get() - look one element up; a system call and its answer
 * @data gets exactly @data_len bytes; of a verdict these are NFT_CHAIN_LEN, see below. Returns 0, -ENOENT if there is no such element, table or map,
 * or another -errno.
 */
int nft_map_get(struct nft_reader *r, const char *map, const void *key, size_t key_len, void *data,
		size_t data_len);

/**
 * nft_map_each() - call @each for all elements, with key and data as the kernel has them
 * Of a verdict the data is the name of its chain, filled up with zeros to NFT_CHAIN_LEN; one whose
 * chain has a longer name is left out.
 * Returns 0, -ENOENT if there is no such table or map, or another -errno.
 */
int nft_map_each(struct nft_reader *r, const char *map,
		 void (*each)(void *context, const void *key, size_t key_len, const void *data,
			      size_t data_len),
		 void *context);

/**
 * nft_map_dump() - begin to read all elements of @map, in portions; 0 or -errno
 * The reader must not be used for anything else before the end.
 */
int nft_map_dump(struct nft_reader *r, const char *map);
/**
 * nft_map_dump_next() - give the next of them, some hundred, to @each as nft_map_each() does
 * Returns 1 if there are more, 0 at the end, -EINTR if the table was changed meanwhile, or another -errno.
 */
int nft_map_dump_next(struct nft_reader *r,
		      void (*each)(void *context, const void *key, size_t key_len, const void *data,
				   size_t data_len),
		      void *context);

#endif
