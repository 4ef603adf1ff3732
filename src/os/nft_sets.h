/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sets of our nft table: filled from the configuration, and again when somebody reloads it. */
#ifndef L3DSR_NFT_SETS_H
#define L3DSR_NFT_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "nft_keep.h"
#include "nft_map.h"

#define NFT_KEY_MAX  20 /* an IPv6 address and a port, padded to 32-bit words */
#define NFT_DATA_MAX 16

struct nft_element {
	uint8_t key[NFT_KEY_MAX], data[NFT_DATA_MAX];
	uint32_t key_len, data_len; /* data_len 0: of a set, not of a map */
	char chain[NFT_CHAIN_LEN];  /* "": of a map to verdicts, where it jumps to */
};

/** struct nft_set - what a set or map of the table shall hold; @elements has room for @capacity */
struct nft_set {
	const char *name;
	struct nft_element *elements;
	size_t count, capacity;
};

/*
 * An empty chain of the rulesets. The number goes up, here and there, when rules and daemon agree on something
 * else: what a set holds, what a mark says, what follows a verdict.
 */
#define NFT_VERSION_CHAIN "version1"

#define NFT_SETS_MAX  8
#define NFT_RULES_MAX 3

/**
 * struct nft_table - a table of family inet, the sets we keep in it, and rules of our own
 * @deleted:	times that somebody has deleted it, as far as nft_sets_event() has seen
 */
struct nft_table {
	const char *name;
	struct nft_set sets[NFT_SETS_MAX];
	struct nft_keep_rule rules[NFT_RULES_MAX];
	size_t set_count, rule_count;
	uint64_t deleted;
	struct mnl_socket *requests, *events;
};

/** nft_sets_open() - connect, and listen for changes of tables; 0 or -errno after logging why */
int nft_sets_open(struct nft_table *table, const char *name);
void nft_sets_close(struct nft_table *table);

/**
 * nft_sets_swap() - exchange what @table shall hold for the sets and rules of @other
 * @other need not be open: it may be nothing but a name, and what was added to it.
 */
void nft_sets_swap(struct nft_table *table, struct nft_table *other);

/** nft_sets_add() - a set @name for at most @capacity elements; NULL when out of memory or sets */
struct nft_set *nft_sets_add(struct nft_table *table, const char *name, size_t capacity);

/* Elements; one that is there already is not added again. @set has room for it. */
void nft_set_put_addr(struct nft_set *set, const struct addr *addr);
void nft_set_put_port(struct nft_set *set, uint16_t port);
void nft_set_put_endpoint(struct nft_set *set, const struct addr *addr, uint16_t port);
void nft_set_put_dscp(struct nft_set *set, uint8_t dscp, const struct addr *addr);
void nft_set_put_mark(struct nft_set *set, uint32_t mark, const struct addr *addr);
void nft_set_put_jump(struct nft_set *set, const struct addr *addr, const char *chain);

/** nft_set_has_addr() - is there an element with this key? */
bool nft_set_has_addr(const struct nft_set *set, const struct addr *addr);

/** nft_sets_add_rule() - a rule that the table shall have; there is room for NFT_RULES_MAX */
void nft_sets_add_rule(struct nft_table *table, const struct nft_keep_rule *rule);

/**
 * nft_sets_fill() - make the kernel's sets and chains hold exactly this, in one transaction
 * Returns 0, -ENOENT if the table, a set or a chain is missing, -EINVAL if a set is of another type, or
 * another -errno.
 */
int nft_sets_fill(struct nft_table *table);

/** nft_sets_fd() - readable when tables have changed */
int nft_sets_fd(const struct nft_table *table);

enum nft_event { NFT_EVENT_NONE, NFT_EVENT_LOADED, NFT_EVENT_DELETED };

/** nft_sets_event() - read what happened to our table: the last of it that counts */
enum nft_event nft_sets_event(struct nft_table *table);

#endif
