/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests for set elements, and the kernel's answers, through libnftnl. */
#include "nft_map.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#define DUMP_TRIES 5

struct each {
	void (*call)(void *context, const void *key, size_t key_len, const void *data,
		     size_t data_len);
	void *context;
};

static int on_element(struct nftnl_set_elem *elem, void *data)
{
	const struct each *each = data;
	uint32_t key_len = 0, data_len = 0;
	const void *key = nftnl_set_elem_get(elem, NFTNL_SET_ELEM_KEY, &key_len);
	const void *value = nftnl_set_elem_get(elem, NFTNL_SET_ELEM_DATA, &data_len);
	char chain[NFT_CHAIN_LEN] = "";

	if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_CHAIN)) {
		const char *name = nftnl_set_elem_get_str(elem, NFTNL_SET_ELEM_CHAIN);

		value = strlen(name) < sizeof(chain) ? strcpy(chain, name) : NULL;
		data_len = sizeof(chain);
	}
	if (key && value)
		each->call(each->context, key, key_len, value, data_len);
	return 0;
}

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		return MNL_CB_ERROR;
	if (nftnl_set_elems_nlmsg_parse(nlh, s) == 0)
		nftnl_set_elem_foreach(s, on_element, data);
	nftnl_set_free(s);
	return MNL_CB_OK;
}

/* Send a request for the elements in @s, or for all if @flags says NLM_F_DUMP. */
static int ask(struct nft_reader *r, struct nftnl_set *s, uint16_t flags)
{
	uint8_t buf[NFT_REQUEST_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = nft_reader_begin(r, buf, NFT_MSG_GETSETELEM, flags);

	nftnl_set_elems_nlmsg_build_payload(nlh, s);
	return nft_reader_ask(r, nlh);
}

static int request(struct nft_reader *r, struct nftnl_set *s, uint16_t flags,
		   const struct each *each)
{
	int ret = ask(r, s, flags);

	if (ret)
		return ret;
	do
		ret = nft_reader_take(r, on_message, (void *)each);
	while (ret > 0);
	return ret;
}

static struct nftnl_set *make_set(const struct nft_reader *r, const char *map)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (s) {
		nftnl_set_set_u32(s, NFTNL_SET_FAMILY, NFPROTO_INET);
		nftnl_set_set_str(s, NFTNL_SET_TABLE, r->table);
		nftnl_set_set_str(s, NFTNL_SET_NAME, map);
	}
	return s;
}

struct wanted {
	void *data;
	size_t len;
	int ret;
};

static void take(void *context, const void *key, size_t key_len, const void *data, size_t data_len)
{
	struct wanted *w = context;

	(void)key;
	(void)key_len;
	if (data_len != w->len)
		return;
	memcpy(w->data, data, w->len);
	w->ret = 0;
}

int nft_map_get(struct nft_reader *r, const char *map, const void *key, size_t key_len, void *data,
		size_t data_len)
{
	struct wanted wanted = { .data = data, .len = data_len, .ret = -ENOENT };
	const struct each each = { .call = take, .context = &wanted };
	struct nftnl_set *s = make_set(r, map);
	struct nftnl_set_elem *elem = nftnl_set_elem_alloc();
	int ret = -ENOMEM;

	if (s && elem) {
		nftnl_set_elem_set(elem, NFTNL_SET_ELEM_KEY, key, (uint32_t)key_len);
		nftnl_set_elem_add(s, elem);
		elem = NULL; /* it is the set's now */
		ret = request(r, s, 0, &each);
	}
	if (elem)
		nftnl_set_elem_free(elem);
	if (s)
		nftnl_set_free(s);
	return ret ? ret : wanted.ret;
}

int nft_map_each(struct nft_reader *r, const char *map,
		 void (*each)(void *context, const void *key, size_t key_len, const void *data,
			      size_t data_len),
		 void *context)
{
	const struct each call = { .call = each, .context = context };
	struct nftnl_set *s = make_set(r, map);
	int ret = -ENOMEM;

	for (int tries = 0; s && tries < DUMP_TRIES; tries++) {
		ret = request(r, s, NLM_F_DUMP, &call);
		if (ret != -EINTR) /* else the map was changed meanwhile */
			break;
	}
	if (s)
		nftnl_set_free(s);
	return ret;
}

int nft_map_dump(struct nft_reader *r, const char *map)
{
	struct nftnl_set *s = make_set(r, map);
	int ret = s ? ask(r, s, NLM_F_DUMP) : -ENOMEM;

	if (s)
		nftnl_set_free(s);
	return ret;
}

int nft_map_dump_next(struct nft_reader *r,
		      void (*each)(void *context, const void *key, size_t key_len, const void *data,
				   size_t data_len),
		      void *context)
{
	const struct each call = { .call = each, .context = context };

	return nft_reader_take(r, on_message, (void *)&call);
}
