/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Load a shipped ruleset, also on a kernel without the nft `queue` expression. */

/*
 * DOC: Theory of operation
 *
 * A kernel that knows `queue` gets the file as it is. Elsewhere (CONFIG_NFT_QUEUE is not set) the
 * same is done in two transactions: the file is loaded with a `drop` in place of each line that
 * holds nothing but `queue num N`, then the rules of those chains are replaced by the xtables
 * target NFQUEUE, which nft cannot write but the kernel accepts. In between a packet is dropped,
 * as it is by a queue that no program listens on: nobody notices but by a retransmission.
 *
 * This belongs to the lab. Kernels of distributions have `queue`.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/xt_NFQUEUE.h>

#define CHAINS_MAX 16
#define NAME_LEN   63

/* Two messages of less than 400 bytes for each chain: they never come near the end. */
#define BATCH_SIZE 65536

/** struct queue_chain - a chain whose only statement is `queue num N` */
struct queue_chain {
	uint16_t family; /* NFPROTO_* */
	char table[NAME_LEN + 1];
	char name[NAME_LEN + 1];
	uint16_t number;
};

/** struct ruleset - the file without its queue statements, and where they stood */
struct ruleset {
	char *text;
	size_t len;
	struct queue_chain chains[CHAINS_MAX];
	unsigned int count;
};

static const char probe[] = "table inet l3dsr_probe {\n"
			    "\tchain probe {\n"
			    "\t\tqueue num 0\n"
			    "\t}\n"
			    "}\n";

/* nft_run() - feed @text to @command, an nft that reads stdin; was it content? */
static bool nft_run(const char *command, const char *text, size_t len)
{
	FILE *nft = popen(command, "w");
	bool written;

	if (!nft) {
		perror("load-ruleset: nft");
		return false;
	}
	written = fwrite(text, 1, len, nft) == len;
	return pclose(nft) == 0 && written;
}

/* family_parse() - NFPROTO_* of a family's name, or -1 */
static int family_parse(const char *name)
{
	if (!strcmp(name, "inet"))
		return NFPROTO_INET;
	if (!strcmp(name, "ip"))
		return NFPROTO_IPV4;
	if (!strcmp(name, "ip6"))
		return NFPROTO_IPV6;
	return -1;
}

/*
 * ruleset_line() - learn from @line in which table and chain the reader is
 * Returns 1 if it is a queue statement (now the last one in @rs), 0 if not, -1 after an error.
 */
static int ruleset_line(struct ruleset *rs, struct queue_chain *here, const char *line)
{
	char family[8], table[NAME_LEN + 1], brace;
	unsigned int number;
	int end = -1;

	if (sscanf(line, " table %7s %63s %c", family, table, &brace) == 3 && brace == '{') {
		int proto = family_parse(family);

		if (proto < 0) {
			fprintf(stderr, "load-ruleset: table of family %s: only inet, ip, ip6\n",
				family);
			return -1;
		}
		here->family = (uint16_t)proto;
		memcpy(here->table, table, sizeof(here->table));
	} else if (sscanf(line, " chain %63s %c", table, &brace) == 2 && brace == '{') {
		memcpy(here->name, table, sizeof(here->name));
	} else if (sscanf(line, " queue num %u %n", &number, &end) == 1 && end >= 0 && !line[end]) {
		if (number > UINT16_MAX || rs->count == CHAINS_MAX) {
			fprintf(stderr, "load-ruleset: queue %u in chain %s: %s\n", number,
				here->name, number > UINT16_MAX ? "not a queue" : "too many");
			return -1;
		}
		here->number = (uint16_t)number;
		rs->chains[rs->count++] = *here;
		return 1;
	}
	return 0;
}

/* ruleset_read() - read @path into @rs; 0, or -1 after the reason was printed */
static int ruleset_read(struct ruleset *rs, const char *path)
{
	FILE *in = fopen(path, "r"), *out = open_memstream(&rs->text, &rs->len);
	struct queue_chain here = { 0 };
	char *line = NULL;
	size_t size = 0;
	int queue = 0;

	if (!in || !out) {
		fprintf(stderr, "load-ruleset: %s: %s\n", path, strerror(errno));
		if (in)
			fclose(in);
		if (out)
			fclose(out);
		return -1;
	}
	while (queue >= 0 && getline(&line, &size, in) > 0) {
		queue = ruleset_line(rs, &here, line);
		fputs(queue > 0 ? "drop\n" : line, out);
	}
	if (ferror(in)) {
		fprintf(stderr, "load-ruleset: %s: %s\n", path, strerror(errno));
		queue = -1;
	}
	free(line);
	fclose(in);
	if (fclose(out)) {
		perror("load-ruleset");
		queue = -1;
	}
	return queue < 0 ? -1 : 0;
}

/* expr_nfqueue() - the target NFQUEUE for @number; a NULL means that there is no memory */
static struct nftnl_expr *expr_nfqueue(uint16_t number)
{
	struct xt_NFQ_info_v3 nfqueue = { .queuenum = number, .queues_total = 1 };
	struct nftnl_expr *expr = nftnl_expr_alloc("target");
	/* Targets are padded to eight bytes. libnftnl frees the buffer together with the rule. */
	void *info = calloc(1, 8);

	_Static_assert(sizeof(nfqueue) <= 8, "fits into the padded target");
	if (!expr || !info) {
		if (expr)
			nftnl_expr_free(expr);
		free(info);
		return NULL;
	}
	memcpy(info, &nfqueue, sizeof(nfqueue));
	nftnl_expr_set_str(expr, NFTNL_EXPR_TG_NAME, "NFQUEUE");
	nftnl_expr_set_u32(expr, NFTNL_EXPR_TG_REV, 3);
	nftnl_expr_set(expr, NFTNL_EXPR_TG_INFO, info, 8);
	return expr;
}

/* batch_add_chain() - in @batch: empty the chain, then its one rule; 0 or -ENOMEM */
static int batch_add_chain(struct mnl_nlmsg_batch *batch, const struct queue_chain *chain,
			   uint32_t seq)
{
	struct nftnl_rule *rule = nftnl_rule_alloc();
	struct nftnl_expr *expr = expr_nfqueue(chain->number);
	struct nlmsghdr *nlh;

	if (!rule || !expr) {
		if (rule)
			nftnl_rule_free(rule);
		if (expr)
			nftnl_expr_free(expr);
		return -ENOMEM;
	}
	nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, chain->family);
	nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, chain->table);
	nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, chain->name);
	nlh = nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch), NFT_MSG_DELRULE, chain->family,
				    NLM_F_ACK, seq);
	nftnl_rule_nlmsg_build_payload(nlh, rule);
	mnl_nlmsg_batch_next(batch);

	nftnl_rule_add_expr(rule, expr);
	nlh = nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(batch), NFT_MSG_NEWRULE, chain->family,
				    NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, seq);
	nftnl_rule_nlmsg_build_payload(nlh, rule);
	mnl_nlmsg_batch_next(batch);
	nftnl_rule_free(rule);
	return 0;
}

/* batch_build() - one transaction for all chains; chain i has sequence number @seq + i */
static int batch_build(struct mnl_nlmsg_batch *batch, const struct ruleset *rs, uint32_t seq)
{
	unsigned int i;
	int err;

	nftnl_batch_begin(mnl_nlmsg_batch_current(batch), seq);
	mnl_nlmsg_batch_next(batch);
	for (i = 0; i < rs->count; i++) {
		err = batch_add_chain(batch, &rs->chains[i], seq + i);
		if (err)
			return err;
	}
	nftnl_batch_end(mnl_nlmsg_batch_current(batch), seq);
	mnl_nlmsg_batch_next(batch);
	return 0;
}

/* batch_send() - send, and read the answers: two for each chain; 0 or -errno */
static int batch_send(struct mnl_socket *nl, struct mnl_nlmsg_batch *batch,
		      const struct ruleset *rs, uint32_t seq)
{
	unsigned int portid = mnl_socket_get_portid(nl), answers = 2 * rs->count;
	static char buf[BATCH_SIZE];

	if (mnl_socket_sendto(nl, mnl_nlmsg_batch_head(batch), mnl_nlmsg_batch_size(batch)) < 0)
		return -errno;
	while (answers) {
		ssize_t len = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
		int left = (int)len;

		if (len < 0)
			return -errno;
		for (; answers && mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
			if (mnl_cb_run(nlh, nlh->nlmsg_len, 0, portid, NULL, NULL) < 0) {
				int err = errno;
				uint32_t i = nlh->nlmsg_seq - seq;

				fprintf(stderr, "load-ruleset: chain %s: %s\n",
					i < rs->count ? rs->chains[i].name : "?", strerror(err));
				return -err;
			}
			answers--;
		}
	}
	return 0;
}

/* ruleset_add_targets() - the second transaction; 0 or -errno */
static int ruleset_add_targets(const struct ruleset *rs)
{
	static char buf[BATCH_SIZE];
	struct mnl_nlmsg_batch *batch = mnl_nlmsg_batch_start(buf, sizeof(buf) / 2);
	struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
	uint32_t seq = (uint32_t)time(NULL);
	int err = -ENOMEM;

	if (!batch || !nl)
		goto out;
	err = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;
	if (!err)
		err = batch_build(batch, rs, seq);
	if (!err)
		err = batch_send(nl, batch, rs, seq);
out:
	if (batch)
		mnl_nlmsg_batch_stop(batch);
	if (nl)
		mnl_socket_close(nl);
	return err;
}

static int ruleset_load(const struct ruleset *rs, const char *path)
{
	int err;

	if (!nft_run("nft -f -", rs->text, rs->len)) {
		fprintf(stderr, "load-ruleset: nft does not take %s\n", path);
		return EXIT_FAILURE;
	}
	err = ruleset_add_targets(rs);
	if (err) {
		fprintf(stderr, "load-ruleset: %s: the target NFQUEUE: %s\n", path, strerror(-err));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct ruleset rs = { 0 };
	int status = EXIT_FAILURE;

	if (argc != 2 || argv[1][0] == '-') {
		fputs("usage: load-ruleset FILE\n", stderr);
		return 2;
	}
	if (nft_run("nft -c -f - 2>/dev/null", probe, sizeof(probe) - 1)) {
		execlp("nft", "nft", "-f", argv[1], (char *)NULL);
		perror("load-ruleset: nft");
		return EXIT_FAILURE;
	}
	if (ruleset_read(&rs, argv[1]) == 0)
		status = ruleset_load(&rs, argv[1]);
	free(rs.text);
	return status;
}
