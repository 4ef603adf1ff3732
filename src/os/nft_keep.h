/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rule that learns a connection and keeps it, put together expression by expression. */
#ifndef L3DSR_NFT_KEEP_H
#define L3DSR_NFT_KEEP_H

#include <stdint.h>

struct nftnl_rule;

/*
 * In the text of nft: update @map { ip saddr . tcp sport . ip daddr . tcp dport timeout T : meta mark }
 *
 * It cannot stand in the ruleset's file: its timeout is a setting of the daemon, and that of a set can
 * only be given when the set is made, which would lose the connections in it.
 */

/** nft_keep_rule_new() - an empty rule of @chain, to be freed with nftnl_rule_free(), or NULL */
struct nftnl_rule *nft_keep_rule_new(const char *table, const char *chain);
/** nft_keep_rule_fill() - make it the rule above; 0 or -ENOMEM */
int nft_keep_rule_fill(struct nftnl_rule *rule, const char *map, uint64_t timeout_ms);

#endif
