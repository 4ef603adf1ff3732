/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests for named counters, through libnftnl. */
#include "nft_counter.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/object.h>
#include <linux/netfilter/nf_tables.h>
#include <stdbool.h>

struct wanted {
	uint64_t packets;
	bool found;
};

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	struct wanted *w = data;
	struct nftnl_obj *o = nftnl_obj_alloc();

	if (!o)
		return MNL_CB_ERROR;
	if (nftnl_obj_nlmsg_parse(nlh, o) == 0 && nftnl_obj_is_set(o, NFTNL_OBJ_CTR_PKTS)) {
		w->packets = nftnl_obj_get_u64(o, NFTNL_OBJ_CTR_PKTS);
		w->found = true;
	}
	nftnl_obj_free(o);
	return MNL_CB_OK;
}

static int ask(struct nft_reader *r, const char *name)
{
	uint8_t buf[NFT_REQUEST_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = nft_reader_begin(r, buf, NFT_MSG_GETOBJ, 0);
	struct nftnl_obj *o = nftnl_obj_alloc();

	if (!o)
		return -ENOMEM;
	nftnl_obj_set_u32(o, NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
	nftnl_obj_set_str(o, NFTNL_OBJ_TABLE, r->table);
	nftnl_obj_set_str(o, NFTNL_OBJ_NAME, name);
	nftnl_obj_nlmsg_build_payload(nlh, o);
	nftnl_obj_free(o);
	return nft_reader_ask(r, nlh);
}

int nft_counter_get(struct nft_reader *r, const char *name, uint64_t *packets)
{
	struct wanted wanted = { .found = false };
	int ret = ask(r, name);

	if (ret)
		return ret;
	do
		ret = nft_reader_take(r, on_message, &wanted);
	while (ret > 0);
	if (ret)
		return ret;
	if (!wanted.found)
		return -ENOENT;
	*packets = wanted.packets;
	return 0;
}
