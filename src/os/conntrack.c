/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ctnetlink through libmnl: messages about entries of connection tracking, and their answers. */
#include "conntrack.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "sysctl.h"

#define DELETE_MAX 128	 /* a message that removes an entry; of IPv6 it has 104 bytes */
#define ANSWER_MAX 32768 /* the kernel fills no more in a dump (NLMSG_GOODSIZE at least) */

_Static_assert((int)CONNTRACK_ESTABLISHED == TCP_CONNTRACK_ESTABLISHED &&
		       (int)CONNTRACK_CLOSE == TCP_CONNTRACK_CLOSE,
	       "states have the kernel's numbers");

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags, unsigned int family,
				   uint32_t seq)
{
	/* libmnl leaves the padding of attributes as it was. */
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(memset(buf, 0, CONNTRACK_MESSAGE_MAX));
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = seq;
	nfg->nfgen_family = family == 6 ? AF_INET6 : family == 4 ? AF_INET : AF_UNSPEC;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

static void put_u32(struct nlmsghdr *nlh, uint16_t type, uint32_t value)
{
	mnl_attr_put_u32(nlh, type, htonl(value));
}

static void put_tuple(struct nlmsghdr *nlh, uint16_t type, const struct tuple *t)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, type), *part;
	bool v6 = t->src.family == 6;

	part = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
	mnl_attr_put(nlh, v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, addr_len(&t->src), t->src.bytes);
	mnl_attr_put(nlh, v6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, addr_len(&t->dst), t->dst.bytes);
	mnl_attr_nest_end(nlh, part);
	part = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, IPPROTO_TCP);
	mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, htons(t->sport));
	mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, htons(t->dport));
	mnl_attr_nest_end(nlh, part);
	mnl_attr_nest_end(nlh, nest);
}

static void put_nat(struct nlmsghdr *nlh, uint16_t type, const struct addr *addr, uint16_t port)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, type), *proto;
	bool v6 = addr->family == 6;

	mnl_attr_put(nlh, v6 ? CTA_NAT_V6_MINIP : CTA_NAT_V4_MINIP, addr_len(addr), addr->bytes);
	mnl_attr_put(nlh, v6 ? CTA_NAT_V6_MAXIP : CTA_NAT_V4_MAXIP, addr_len(addr), addr->bytes);
	proto = mnl_attr_nest_start(nlh, CTA_NAT_PROTO);
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MIN, htons(port));
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MAX, htons(port));
	mnl_attr_nest_end(nlh, proto);
	mnl_attr_nest_end(nlh, nest);
}

static void put_seq_adjust(struct nlmsghdr *nlh, uint16_t type, uint32_t isn, uint32_t delta)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, type);

	put_u32(nlh, CTA_SEQADJ_CORRECTION_POS, isn);
	put_u32(nlh, CTA_SEQADJ_OFFSET_BEFORE, delta);
	put_u32(nlh, CTA_SEQADJ_OFFSET_AFTER, delta);
	mnl_attr_nest_end(nlh, nest);
}

static void put_tcp(struct nlmsghdr *nlh, const struct conntrack_entry *e)
{
	const uint8_t flags =
		IP_CT_TCP_FLAG_BE_LIBERAL | IP_CT_TCP_FLAG_SACK_PERM | IP_CT_TCP_FLAG_WINDOW_SCALE;
	const struct nf_ct_tcp_flags both = { .flags = flags, .mask = flags };
	struct nlattr *nest = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
	struct nlattr *tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);

	mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_STATE, e->state);
	mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, e->wscale_original);
	mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_WSCALE_REPLY, e->wscale_reply);
	mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, sizeof(both), &both);
	mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_REPLY, sizeof(both), &both);
	mnl_attr_nest_end(nlh, tcp);
	mnl_attr_nest_end(nlh, nest);
}

/* ISN and ITS are what the kernel would take for a reset of the web server, and for a SYN of the
 * client: neither is given to it. */
static void put_synproxy(struct nlmsghdr *nlh, const struct conntrack_entry *e)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, CTA_SYNPROXY);

	put_u32(nlh, CTA_SYNPROXY_ISN, e->isn_n + e->seq_delta);
	put_u32(nlh, CTA_SYNPROXY_ITS, 0);
	put_u32(nlh, CTA_SYNPROXY_TSOFF, e->ts_delta);
	mnl_attr_nest_end(nlh, nest);
}

struct nlmsghdr *conntrack_build(void *buf, const struct conntrack_entry *e, uint32_t seq)
{
	const struct tuple untranslated = tuple_reverse(&e->original);
	struct nlmsghdr *nlh = put_header(buf, IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL,
					  e->original.src.family, seq);

	put_tuple(nlh, CTA_TUPLE_ORIG, &e->original);
	put_tuple(nlh, CTA_TUPLE_REPLY, &untranslated);
	put_u32(nlh, CTA_STATUS, IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED);
	put_tcp(nlh, e);
	put_u32(nlh, CTA_TIMEOUT, e->timeout_s);
	put_u32(nlh, CTA_MARK, e->mark);
	put_nat(nlh, CTA_NAT_DST, &e->reply.src, e->reply.sport);
	put_nat(nlh, CTA_NAT_SRC, &e->reply.dst, e->reply.dport);
	put_seq_adjust(nlh, CTA_SEQ_ADJ_ORIG, e->isn_c, 0);
	put_seq_adjust(nlh, CTA_SEQ_ADJ_REPLY, e->isn_n, e->seq_delta);
	put_synproxy(nlh, e);
	return nlh;
}

/* Attributes by type, those whose type is above @max left out. */
struct attributes {
	const struct nlattr **table;
	uint16_t max;
};

static int collect(const struct nlattr *attr, void *data)
{
	struct attributes *a = data;

	if (mnl_attr_get_type(attr) <= a->max)
		a->table[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

static void parse_nested(const struct nlattr *nest, const struct nlattr **table, uint16_t max)
{
	struct attributes a = { .table = table, .max = max };

	if (nest)
		(void)mnl_attr_parse_nested(nest, collect, &a);
}

static bool has(const struct nlattr *attr, size_t len)
{
	return attr && mnl_attr_get_payload_len(attr) >= len;
}

static uint32_t get_u32(const struct nlattr *attr)
{
	return has(attr, 4) ? ntohl(mnl_attr_get_u32(attr)) : 0;
}

static uint8_t get_u8(const struct nlattr *attr)
{
	return has(attr, 1) ? mnl_attr_get_u8(attr) : 0;
}

static bool parse_tuple(const struct nlattr *nest, struct tuple *t)
{
	const struct nlattr *tuple[CTA_TUPLE_MAX + 1] = { 0 }, *ip[CTA_IP_MAX + 1] = { 0 },
						   *proto[CTA_PROTO_MAX + 1] = { 0 };
	unsigned int family;

	parse_nested(nest, tuple, CTA_TUPLE_MAX);
	parse_nested(tuple[CTA_TUPLE_IP], ip, CTA_IP_MAX);
	parse_nested(tuple[CTA_TUPLE_PROTO], proto, CTA_PROTO_MAX);
	if (get_u8(proto[CTA_PROTO_NUM]) != IPPROTO_TCP || !has(proto[CTA_PROTO_SRC_PORT], 2) ||
	    !has(proto[CTA_PROTO_DST_PORT], 2))
		return false;
	if (has(ip[CTA_IP_V4_SRC], 4) && has(ip[CTA_IP_V4_DST], 4))
		family = 4;
	else if (has(ip[CTA_IP_V6_SRC], 16) && has(ip[CTA_IP_V6_DST], 16))
		family = 6;
	else
		return false;
	t->src = addr_from_bytes(
		family, mnl_attr_get_payload(ip[family == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC]));
	t->dst = addr_from_bytes(
		family, mnl_attr_get_payload(ip[family == 4 ? CTA_IP_V4_DST : CTA_IP_V6_DST]));
	t->sport = ntohs(mnl_attr_get_u16(proto[CTA_PROTO_SRC_PORT]));
	t->dport = ntohs(mnl_attr_get_u16(proto[CTA_PROTO_DST_PORT]));
	return true;
}

static void parse_tcp(const struct nlattr *nest, struct conntrack_entry *e)
{
	const struct nlattr *info[CTA_PROTOINFO_MAX + 1] = { 0 },
						      *tcp[CTA_PROTOINFO_TCP_MAX + 1] = { 0 };

	parse_nested(nest, info, CTA_PROTOINFO_MAX);
	parse_nested(info[CTA_PROTOINFO_TCP], tcp, CTA_PROTOINFO_TCP_MAX);
	e->state = get_u8(tcp[CTA_PROTOINFO_TCP_STATE]);
	e->wscale_original = get_u8(tcp[CTA_PROTOINFO_TCP_WSCALE_ORIGINAL]);
	e->wscale_reply = get_u8(tcp[CTA_PROTOINFO_TCP_WSCALE_REPLY]);
	/* The first byte is struct nf_ct_tcp_flags.flags. */
	e->fin_first = get_u8(tcp[CTA_PROTOINFO_TCP_FLAGS_ORIGINAL]) & IP_CT_TCP_FLAG_CLOSE_INIT;
}

static void parse_seq_adjust(const struct nlattr *nest, uint32_t *isn, uint32_t *delta)
{
	const struct nlattr *adjust[CTA_SEQADJ_MAX + 1] = { 0 };

	parse_nested(nest, adjust, CTA_SEQADJ_MAX);
	*isn = get_u32(adjust[CTA_SEQADJ_CORRECTION_POS]);
	*delta = get_u32(adjust[CTA_SEQADJ_OFFSET_AFTER]);
}

bool conntrack_parse(const struct nlmsghdr *nlh, struct conntrack_entry *e)
{
	const struct nlattr *attr[CTA_MAX + 1] = { 0 }, *synproxy[CTA_SYNPROXY_MAX + 1] = { 0 };
	struct attributes a = { .table = attr, .max = CTA_MAX };
	uint32_t zero;

	if (nlh->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(struct nfgenmsg) ||
	    mnl_attr_parse(nlh, sizeof(struct nfgenmsg), collect, &a) < 0)
		return false;
	*e = (struct conntrack_entry){ 0 };
	if (!parse_tuple(attr[CTA_TUPLE_ORIG], &e->original) ||
	    !parse_tuple(attr[CTA_TUPLE_REPLY], &e->reply))
		return false;
	parse_tcp(attr[CTA_PROTOINFO], e);
	parse_seq_adjust(attr[CTA_SEQ_ADJ_ORIG], &e->isn_c, &zero);
	parse_seq_adjust(attr[CTA_SEQ_ADJ_REPLY], &e->isn_n, &e->seq_delta);
	parse_nested(attr[CTA_SYNPROXY], synproxy, CTA_SYNPROXY_MAX);
	e->ts_delta = get_u32(synproxy[CTA_SYNPROXY_TSOFF]);
	e->mark = get_u32(attr[CTA_MARK]);
	e->timeout_s = get_u32(attr[CTA_TIMEOUT]);
	e->id = get_u32(attr[CTA_ID]);
	return true;
}

int conntrack_open(struct conntrack *c)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int ret;

	c->seq = 0;
	c->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	if (c->fd >= 0 && connect(c->fd, (const struct sockaddr *)&kernel, sizeof(kernel)) == 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot talk to connection tracking");
	conntrack_close(c);
	return ret;
}

void conntrack_close(struct conntrack *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/*
 * Send a message and read the answer to it, which is there when send() returns. What a request that
 * asks for none gets is the error, if there was one: no answer is success.
 */
static int request(struct conntrack *c, const struct nlmsghdr *nlh, struct conntrack_entry *entry)
{
	uint8_t buf[8192] __attribute__((aligned(8)));
	int ret = entry ? -EPROTO : 0;
	ssize_t len;

	if (send(c->fd, nlh, nlh->nlmsg_len, 0) < 0)
		return -errno;
	while ((len = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		const struct nlmsghdr *answer = (const struct nlmsghdr *)buf;
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(answer);

		if (!mnl_nlmsg_ok(answer, (int)len) || answer->nlmsg_seq != nlh->nlmsg_seq)
			continue;
		if (answer->nlmsg_type != NLMSG_ERROR)
			ret = entry && conntrack_parse(answer, entry) ? 0 : -EPROTO;
		else if (mnl_nlmsg_get_payload_len(answer) >= sizeof(*err))
			ret = err->error;
		/* An entry comes as a message and needs no second read. */
		break;
	}
	return ret;
}

/*
 * Send the last @count messages, of @len bytes together, as one. The kernel works them off in their order, and
 * answers those that fail: @failed is called with the number of each.
 */
static int request_many(struct conntrack *c, const uint8_t *messages, size_t len, uint32_t count,
			void (*failed)(void *context, uint32_t number, int error), void *context)
{
	const uint32_t first_seq = c->seq - count + 1;
	uint8_t buf[8192] __attribute__((aligned(8)));
	ssize_t received;

	if (send(c->fd, messages, len, 0) < 0)
		return -errno;
	while ((received = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
		const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);

		if (mnl_nlmsg_ok(nlh, (int)received) && nlh->nlmsg_type == NLMSG_ERROR &&
		    mnl_nlmsg_get_payload_len(nlh) >= sizeof(*err) &&
		    nlh->nlmsg_seq - first_seq < count)
			failed(context, nlh->nlmsg_seq - first_seq, err->error);
	}
	return 0;
}

int conntrack_get(struct conntrack *c, const struct tuple *tuple, struct conntrack_entry *entry)
{
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = put_header(buf, IPCTNL_MSG_CT_GET, 0, tuple->src.family, ++c->seq);

	put_tuple(nlh, CTA_TUPLE_ORIG, tuple);
	return request(c, nlh, entry);
}

/* Without a tuple it would mean all entries. */
static struct nlmsghdr *put_delete(void *buf, const struct tuple *tuple, uint32_t seq)
{
	struct nlmsghdr *nlh = put_header(buf, IPCTNL_MSG_CT_DELETE, 0, tuple->src.family, seq);

	put_tuple(nlh, CTA_TUPLE_ORIG, tuple);
	return nlh;
}

int conntrack_delete(struct conntrack *c, const struct conntrack_entry *entry)
{
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = put_delete(buf, &entry->original, ++c->seq);

	put_u32(nlh, CTA_ID, entry->id);
	return request(c, nlh, NULL);
}

static void note_kept(void *context, uint32_t number, int error)
{
	bool *gone = context;

	(void)error;
	gone[number] = false;
}

int conntrack_delete_many(struct conntrack *c, const struct conntrack_entry *entries, size_t count,
			  bool *gone)
{
	/* put_header() makes clean more than such a message needs. */
	uint8_t buf[CONNTRACK_BATCH * DELETE_MAX + CONNTRACK_MESSAGE_MAX]
		__attribute__((aligned(8)));
	size_t len = 0;

	assert(count <= CONNTRACK_BATCH);
	memset(gone, true, count * sizeof(*gone));
	for (size_t i = 0; i < count; i++) {
		struct nlmsghdr *nlh = put_delete(buf + len, &entries[i].original, ++c->seq);

		put_u32(nlh, CTA_ID, entries[i].id);
		assert(nlh->nlmsg_len <= DELETE_MAX);
		len += nlh->nlmsg_len;
	}
	return request_many(c, buf, len, (uint32_t)count, note_kept, gone);
}

enum { REPLACE_ORIGINAL, REPLACE_REPLY, REPLACE_CREATE, REPLACE_MESSAGES };

static void note_create(void *context, uint32_t number, int error)
{
	if (number == REPLACE_CREATE)
		*(int *)context = error;
}

/* Out of its way goes whatever has one of its tuples, in whichever direction. */
static int replace(struct conntrack *c, const struct conntrack_entry *entry)
{
	uint8_t buf[REPLACE_MESSAGES * CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	size_t len = 0;
	int error = 0, ret;

	len += put_delete(buf + len, &entry->original, ++c->seq)->nlmsg_len;
	len += put_delete(buf + len, &entry->reply, ++c->seq)->nlmsg_len;
	len += conntrack_build(buf + len, entry, ++c->seq)->nlmsg_len;
	ret = request_many(c, buf, len, REPLACE_MESSAGES, note_create, &error);
	return ret ? ret : error;
}

int conntrack_create(struct conntrack *c, const struct conntrack_entry *entry)
{
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	int ret = request(c, conntrack_build(buf, entry, ++c->seq), NULL);

	return ret == -EEXIST ? replace(c, entry) : ret;
}

int conntrack_end(struct conntrack *c, const struct tuple *original, uint32_t mark,
		  uint32_t timeout_s)
{
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh =
		put_header(buf, IPCTNL_MSG_CT_NEW, 0, original->src.family, ++c->seq);
	struct nlattr *nest, *tcp;

	put_tuple(nlh, CTA_TUPLE_ORIG, original);
	put_u32(nlh, CTA_TIMEOUT, timeout_s);
	put_u32(nlh, CTA_MARK, mark);
	put_u32(nlh, CTA_MARK_MASK, mark);
	nest = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
	tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);
	mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_STATE, CONNTRACK_CLOSE);
	mnl_attr_nest_end(nlh, tcp);
	mnl_attr_nest_end(nlh, nest);
	return request(c, nlh, NULL);
}

int conntrack_dump(struct conntrack *c, uint32_t mark, uint32_t mask)
{
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = put_header(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, 0, ++c->seq);

	put_u32(nlh, CTA_MARK, mark);
	put_u32(nlh, CTA_MARK_MASK, mask);
	return send(c->fd, nlh, nlh->nlmsg_len, 0) < 0 ? -errno : 0;
}

int conntrack_dump_next(struct conntrack *c,
			void (*each)(void *context, const struct conntrack_entry *entry),
			void *context)
{
	uint8_t buf[ANSWER_MAX] __attribute__((aligned(8)));
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
	struct conntrack_entry entry;
	ssize_t received = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
	int len = (int)received;

	if (received < 0)
		return -errno;
	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
		if (nlh->nlmsg_seq != c->seq)
			continue;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return 0;
		if (nlh->nlmsg_type == NLMSG_ERROR &&
		    mnl_nlmsg_get_payload_len(nlh) >= sizeof(struct nlmsgerr))
			return ((const struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
		if (conntrack_parse(nlh, &entry))
			each(context, &entry);
	}
	return 1;
}

int conntrack_sysctl(const char *name, uint32_t *value)
{
	char full[128];

	snprintf(full, sizeof(full), "net.netfilter.nf_conntrack_%s", name);
	return sysctl_read(full, value);
}
