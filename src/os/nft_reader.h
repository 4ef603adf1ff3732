/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking the kernel about our nft table: a socket, requests, and the messages that answer them. */
#ifndef L3DSR_NFT_READER_H
#define L3DSR_NFT_READER_H

#include <stdint.h>

#define NFT_REQUEST_MAX 1024 /* room for a message that asks */

struct mnl_socket;
struct nlmsghdr;

/** struct nft_reader - of one thread, for the table @table of family inet */
struct nft_reader {
	const char *table;
	struct mnl_socket *socket;
	uint32_t seq;
};

/** nft_reader_open() - 0, or -errno after the reason was logged */
int nft_reader_open(struct nft_reader *r, const char *table);
void nft_reader_close(struct nft_reader *r);

/**
 * nft_reader_begin() - the header of a request, in NFT_REQUEST_MAX bytes at @buf
 * @type:	of nf_tables_msg_types
 * @flags:	NLM_F_DUMP, or 0
 */
struct nlmsghdr *nft_reader_begin(struct nft_reader *r, void *buf, uint16_t type, uint16_t flags);
/** nft_reader_ask() - send it; 0 or -errno */
int nft_reader_ask(struct nft_reader *r, const struct nlmsghdr *nlh);
/**
 * nft_reader_take() - a part of what answers it, each message to @each (mnl_cb_t)
 * Returns 1 if there is more, 0 at the end, or -errno. It never waits: an answer is there when the
 * request was sent.
 */
int nft_reader_take(struct nft_reader *r, int (*each)(const struct nlmsghdr *nlh, void *data),
		    void *data);

#endif
