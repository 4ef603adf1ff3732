/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules that learn a connection and keep it, put together expression by expression. */
#ifndef L3DSR_NFT_KEEP_H
#define L3DSR_NFT_KEEP_H

#include <stdbool.h>
#include <stdint.h>

struct nftnl_rule;

/**
 * struct nft_keep_rule - the one rule of @chain, in the text of nft
 *   update @set { ip saddr . tcp sport . ip daddr . tcp dport timeout @timeout_ms : meta mark }
 * or, where @set is no @map,
 *   update @set { ip saddr . tcp sport . ip daddr . tcp dport . meta mark timeout @timeout_ms }
 *
 * It cannot stand in the ruleset's file: its timeout is a setting of the daemon, and that of a set can
 * only be given when the set is made, which would lose the connections in it.
 */
struct nft_keep_rule {
	const char *chain, *set;
	bool map;
	uint64_t timeout_ms;
};

/** nft_keep_rule_new() - an empty rule of @chain, to be freed with nftnl_rule_free(), or NULL */
struct nftnl_rule *nft_keep_rule_new(const char *table, const char *chain);
/** nft_keep_rule_fill() - make it the rule above; 0 or -ENOMEM */
int nft_keep_rule_fill(struct nftnl_rule *rule, const struct nft_keep_rule *keep);

#endif
