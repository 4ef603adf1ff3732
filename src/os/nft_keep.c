/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Expressions of libnftnl; see the chapter on registers in include/uapi/linux/netfilter/nf_tables.h. */
#include "nft_keep.h"

#include <errno.h>
#include <stdio.h> /* which libnftnl/expr.h needs and does not include */

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdbool.h>

/* Key, and data or the last field of it; a field of a concatenation begins at a register of its own. */
enum { REG_SADDR = NFT_REG32_00, REG_SPORT, REG_DADDR, REG_DPORT, REG_MARK };

struct nftnl_rule *nft_keep_rule_new(const char *table, const char *chain)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();

	if (!rule)
		return NULL;
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_INET);
	if (nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, table) == 0 &&
	    nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain) == 0)
		return rule;
	nftnl_rule_free(rule);
	return NULL;
}

static bool add_meta(struct nftnl_rule *rule, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *e = nftnl_expr_alloc("meta");

	if (!e)
		return false;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, reg);
	nftnl_rule_add_expr(rule, e);
	return true;
}

/* So that `nft list` knows what the bytes behind are. */
static bool add_protocol(struct nftnl_rule *rule, uint32_t key, uint8_t protocol)
{
	struct nftnl_expr *e;

	if (!add_meta(rule, key, NFT_REG_1))
		return false;
	e = nftnl_expr_alloc("cmp");
	if (!e)
		return false;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, &protocol, sizeof(protocol));
	nftnl_rule_add_expr(rule, e);
	return true;
}

static bool add_payload(struct nftnl_rule *rule, uint32_t base, uint32_t offset, uint32_t len,
			uint32_t reg)
{
	struct nftnl_expr *e = nftnl_expr_alloc("payload");

	if (!e)
		return false;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
	nftnl_rule_add_expr(rule, e);
	return true;
}

static bool add_update(struct nftnl_rule *rule, const struct nft_keep_rule *keep)
{
	struct nftnl_expr *e = nftnl_expr_alloc("dynset");

	if (!e)
		return false;
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, REG_SADDR);
	if (keep->map) /* else the mark is the last field of the key */
		nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_DATA, REG_MARK);
	nftnl_expr_set_u64(e, NFTNL_EXPR_DYNSET_TIMEOUT, keep->timeout_ms);
	nftnl_expr_set_str(e, NFTNL_EXPR_DYNSET_SET_NAME, keep->set);
	nftnl_rule_add_expr(rule, e);
	return true;
}

int nft_keep_rule_fill(struct nftnl_rule *rule, const struct nft_keep_rule *keep)
{
	bool done = add_protocol(rule, NFT_META_NFPROTO, NFPROTO_IPV4) &&
		    add_protocol(rule, NFT_META_L4PROTO, IPPROTO_TCP) &&
		    add_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, REG_SADDR) &&
		    add_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, REG_SPORT) &&
		    add_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, 16, 4, REG_DADDR) &&
		    add_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, REG_DPORT) &&
		    add_meta(rule, NFT_META_MARK, REG_MARK) && add_update(rule, keep);

	return done ? 0 : -ENOMEM;
}
