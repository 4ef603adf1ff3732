/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transactions on set elements through libnftnl, and the kernel's notifications about tables. */
#include "nft_sets.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "lib/packet.h"
#include "log.h"

#define SEQ_BEGIN   1
#define RECEIVE_MAX 16384 /* the kernel's largest notification is below this */

static struct mnl_socket *open_socket(int flags, unsigned int groups)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, flags);

	if (!nl)
		return NULL;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0 &&
	    (!groups ||
	     mnl_socket_setsockopt(nl, NETLINK_ADD_MEMBERSHIP, &groups, sizeof(groups)) == 0))
		return nl;
	mnl_socket_close(nl);
	return NULL;
}

int nft_sets_open(struct nft_table *table, const char *name)
{
	static const struct timeval patience = { .tv_sec = 5 };
	/* Our own fills are told there too, element by element, and read behind them. */
	static const int events_buffer = 16 * 1024 * 1024;
	int ret;

	*table = (struct nft_table){ .name = name };
	table->requests = open_socket(SOCK_CLOEXEC, 0);
	table->events = open_socket(SOCK_CLOEXEC | SOCK_NONBLOCK, NFNLGRP_NFTABLES);
	if (table->requests && table->events &&
	    setsockopt(mnl_socket_get_fd(table->events), SOL_SOCKET, SO_RCVBUFFORCE, &events_buffer,
		       sizeof(events_buffer)) == 0 &&
	    setsockopt(mnl_socket_get_fd(table->requests), SOL_SOCKET, SO_RCVTIMEO, &patience,
		       sizeof(patience)) == 0)
		return 0;
	ret = errno ? -errno : -EIO;
	log_error("cannot talk to nftables: %s", strerror(-ret));
	nft_sets_close(table);
	return ret;
}

void nft_sets_close(struct nft_table *table)
{
	if (table->requests)
		mnl_socket_close(table->requests);
	if (table->events)
		mnl_socket_close(table->events);
	for (size_t i = 0; i < table->set_count; i++)
		free(table->sets[i].elements);
	*table = (struct nft_table){ 0 };
}

void nft_sets_swap(struct nft_table *table, struct nft_table *other)
{
	struct nft_table was = *table;

	*table = *other;
	table->requests = was.requests;
	table->events = was.events;
	table->deleted = was.deleted;
	was.requests = other->requests;
	was.events = other->events;
	was.deleted = other->deleted;
	*other = was;
}

struct nft_set *nft_sets_add(struct nft_table *table, const char *name, size_t capacity)
{
	struct nft_set *set;

	if (table->set_count == NFT_SETS_MAX)
		return NULL;
	set = &table->sets[table->set_count];
	*set = (struct nft_set){ .name = name, .capacity = capacity };
	set->elements = calloc(capacity ? capacity : 1, sizeof(*set->elements));
	if (!set->elements)
		return NULL;
	table->set_count++;
	return set;
}

static void put(struct nft_set *set, const struct nft_element *element)
{
	for (size_t i = 0; i < set->count; i++)
		if (!memcmp(&set->elements[i], element, sizeof(*element)))
			return;
	if (set->count < set->capacity)
		set->elements[set->count++] = *element;
}

void nft_set_put_addr(struct nft_set *set, const struct addr *addr)
{
	struct nft_element element = { .key_len = (uint32_t)addr_len(addr) };

	memcpy(element.key, addr->bytes, element.key_len);
	put(set, &element);
}

void nft_set_put_port(struct nft_set *set, uint16_t port)
{
	struct nft_element element = { .key_len = sizeof(port) };

	put_be16(element.key, port);
	put(set, &element);
}

void nft_set_put_endpoint(struct nft_set *set, const struct addr *addr, uint16_t port)
{
	struct nft_element element = { .key_len = (uint32_t)addr_len(addr) + 4 };

	memcpy(element.key, addr->bytes, addr_len(addr));
	put_be16(element.key + addr_len(addr), port);
	put(set, &element);
}

void nft_set_put_dscp(struct nft_set *set, uint8_t dscp, const struct addr *addr)
{
	struct nft_element element = {
		.key = { dscp },
		.key_len = 1,
		.data_len = (uint32_t)addr_len(addr),
	};

	memcpy(element.data, addr->bytes, element.data_len);
	put(set, &element);
}

void nft_set_put_mark(struct nft_set *set, uint32_t mark, const struct addr *addr)
{
	struct nft_element element = {
		.key_len = sizeof(mark), /* in the order of this machine */
		.data_len = (uint32_t)addr_len(addr),
	};

	memcpy(element.key, &mark, sizeof(mark));
	memcpy(element.data, addr->bytes, element.data_len);
	put(set, &element);
}

void nft_set_put_jump(struct nft_set *set, const struct addr *addr, const char *chain)
{
	struct nft_element element = { .key_len = (uint32_t)addr_len(addr) };

	memcpy(element.key, addr->bytes, element.key_len);
	snprintf(element.chain, sizeof(element.chain), "%s", chain);
	put(set, &element);
}

bool nft_set_has_addr(const struct nft_set *set, const struct addr *addr)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->elements[i].key_len == addr_len(addr) &&
		    !memcmp(set->elements[i].key, addr->bytes, addr_len(addr)))
			return true;
	return false;
}

void nft_sets_add_rule(struct nft_table *table, const struct nft_keep_rule *rule)
{
	table->rules[table->rule_count++] = *rule;
}

static struct nftnl_set *make_set(const struct nft_table *table, const struct nft_set *set,
				  size_t begin, size_t end)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s)
		return NULL;
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, NFPROTO_INET);
	nftnl_set_set_str(s, NFTNL_SET_TABLE, table->name);
	nftnl_set_set_str(s, NFTNL_SET_NAME, set->name);
	for (size_t i = begin; i < end; i++) {
		const struct nft_element *e = &set->elements[i];
		struct nftnl_set_elem *elem = nftnl_set_elem_alloc();

		if (!elem) {
			nftnl_set_free(s);
			return NULL;
		}
		nftnl_set_elem_set(elem, NFTNL_SET_ELEM_KEY, e->key, e->key_len);
		if (e->data_len)
			nftnl_set_elem_set(elem, NFTNL_SET_ELEM_DATA, e->data, e->data_len);
		if (e->chain[0]) {
			nftnl_set_elem_set_u32(elem, NFTNL_SET_ELEM_VERDICT, (uint32_t)NFT_JUMP);
			nftnl_set_elem_set_str(elem, NFTNL_SET_ELEM_CHAIN, e->chain);
		}
		nftnl_set_elem_add(s, elem);
	}
	return s;
}

static int put_message(struct mnl_nlmsg_batch *batch, uint32_t *seq, uint16_t type, uint16_t flags,
		       const struct nft_table *table, const struct nft_set *set, size_t begin,
		       size_t end)
{
	struct nftnl_set *s = make_set(table, set, begin, end);
	struct nlmsghdr *nlh;

	if (!s)
		return -ENOMEM;
	nlh = nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch), type, NFPROTO_INET,
				    flags | NLM_F_ACK, (*seq)++);
	nftnl_set_elems_nlmsg_build_payload(nlh, s);
	nftnl_set_free(s);
	return mnl_nlmsg_batch_next(batch) ? 0 : -EMSGSIZE;
}

#define ELEMENTS_PER_MESSAGE 256 /* an attribute is at most 64 KiB */

/* Empty the set, then add what it shall hold. */
static int put_set(struct mnl_nlmsg_batch *batch, uint32_t *seq, const struct nft_table *table,
		   const struct nft_set *set)
{
	int ret = put_message(batch, seq, NFT_MSG_DELSETELEM, 0, table, set, 0, 0);

	for (size_t i = 0; !ret && i < set->count; i += ELEMENTS_PER_MESSAGE) {
		size_t end = i + ELEMENTS_PER_MESSAGE;

		ret = put_message(batch, seq, NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, set, i,
				  end < set->count ? end : set->count);
	}
	return ret;
}

static int put_rule_message(struct mnl_nlmsg_batch *batch, uint32_t *seq, uint16_t type,
			    uint16_t flags, struct nftnl_rule *r)
{
	struct nlmsghdr *nlh = nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch), type,
						     NFPROTO_INET, flags | NLM_F_ACK, (*seq)++);

	nftnl_rule_nlmsg_build_payload(nlh, r);
	return mnl_nlmsg_batch_next(batch) ? 0 : -EMSGSIZE;
}

/* Empty the chain, which must be there, then add the rule, if there is one. */
static int put_chain(struct mnl_nlmsg_batch *batch, uint32_t *seq, const struct nft_table *table,
		     const char *chain, const struct nft_keep_rule *rule)
{
	struct nftnl_rule *r = nft_keep_rule_new(table->name, chain);
	int ret = r ? put_rule_message(batch, seq, NFT_MSG_DELRULE, 0, r) : -ENOMEM;

	if (!ret && rule)
		ret = nft_keep_rule_fill(r, rule);
	if (!ret && rule)
		ret = put_rule_message(batch, seq, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, r);
	if (r)
		nftnl_rule_free(r);
	return ret;
}

/* Answers of one transaction: the first error, or 0 when all messages up to @last are answered. */
static int read_answers(struct mnl_socket *nl, uint32_t last)
{
	char buf[RECEIVE_MAX];
	int ret = 0;

	for (;;) {
		ssize_t received = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		struct nlmsghdr *nlh = (struct nlmsghdr *)buf;
		int len = (int)received;

		if (received < 0)
			return -errno;
		for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
			const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);

			if (nlh->nlmsg_type != NLMSG_ERROR ||
			    mnl_nlmsg_get_payload_len(nlh) < sizeof(*err))
				continue;
			/* An error names the message; one of the batch as a whole ends it at once.
			 */
			if (err->error && !ret)
				ret = err->error;
			if (nlh->nlmsg_seq == last || nlh->nlmsg_seq == SEQ_BEGIN)
				return ret;
		}
	}
}

int nft_sets_fill(struct nft_table *table)
{
	size_t size = 1024 * 1024;
	char *buf = malloc(2 * size); /* libmnl wants as much again behind the limit */
	struct mnl_nlmsg_batch *batch = buf ? mnl_nlmsg_batch_start(buf, size) : NULL;
	uint32_t seq = SEQ_BEGIN;
	int ret = -ENOMEM;

	if (!batch)
		goto out;
	nftnl_batch_begin(mnl_nlmsg_batch_current(batch), seq++);
	mnl_nlmsg_batch_next(batch);
	ret = put_chain(batch, &seq, table, NFT_VERSION_CHAIN, NULL);
	for (size_t i = 0; !ret && i < table->set_count; i++)
		ret = put_set(batch, &seq, table, &table->sets[i]);
	for (size_t i = 0; !ret && i < table->rule_count; i++)
		ret = put_chain(batch, &seq, table, table->rules[i].chain, &table->rules[i]);
	if (ret)
		goto out;
	nftnl_batch_end(mnl_nlmsg_batch_current(batch), seq);
	mnl_nlmsg_batch_next(batch);

	if (mnl_socket_sendto(table->requests, mnl_nlmsg_batch_head(batch),
			      mnl_nlmsg_batch_size(batch)) < 0)
		ret = -errno;
	else
		ret = read_answers(table->requests, seq - 1);
out:
	if (batch)
		mnl_nlmsg_batch_stop(batch);
	free(buf);
	return ret;
}

int nft_sets_fd(const struct nft_table *table)
{
	return mnl_socket_get_fd(table->events);
}

struct event_context {
	struct nft_table *table;
	enum nft_event event;
};

/* The name of the table is the first attribute of tables and of rules alike. */
static int on_attribute(const struct nlattr *attr, void *data)
{
	const char **name = data;

	if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
		*name = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

_Static_assert((int)NFTA_TABLE_NAME == (int)NFTA_RULE_TABLE, "one way to find either");

/*
 * Our table was made or taken away; or rules of it, by somebody else: when the file is loaded again
 * those that we have put there are gone.
 */
static int on_event(const struct nlmsghdr *nlh, void *data)
{
	struct event_context *context = data;
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	unsigned int own = mnl_socket_get_portid(context->table->requests);
	const char *name = NULL;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg) || nfg->nfgen_family != NFPROTO_INET ||
	    mnl_attr_parse(nlh, sizeof(*nfg), on_attribute, &name) < 0 || !name ||
	    strcmp(name, context->table->name) != 0)
		return MNL_CB_OK;
	switch (NFNL_MSG_TYPE(nlh->nlmsg_type)) {
	case NFT_MSG_NEWTABLE:
		context->event = NFT_EVENT_LOADED;
		break;
	case NFT_MSG_DELTABLE:
		context->table->deleted++; /* it may be there again before we are told */
		context->event = NFT_EVENT_DELETED;
		break;
	case NFT_MSG_DELRULE:
		if (nlh->nlmsg_pid != own && context->event == NFT_EVENT_NONE)
			context->event = NFT_EVENT_LOADED;
		break;
	}
	return MNL_CB_OK;
}

enum nft_event nft_sets_event(struct nft_table *table)
{
	struct event_context context = { .table = table };
	char buf[RECEIVE_MAX];
	ssize_t len;

	while ((len = mnl_socket_recvfrom(table->events, buf, sizeof(buf))) >= 0 ||
	       errno == ENOBUFS) {
		if (len < 0) /* something was missed: it may have been ours */
			context.event = NFT_EVENT_LOADED;
		else
			mnl_cb_run(buf, (size_t)len, 0, 0, on_event, &context);
	}
	return context.event;
}
