/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to nfnetlink, and their answers, through libmnl. */
#include "nft_reader.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <sys/socket.h>

#include "log.h"

#define RECEIVE_MAX 32768 /* the kernel fills one part of a dump up to this */

int nft_reader_open(struct nft_reader *r, const char *table)
{
	int ret;

	*r = (struct nft_reader){ .table = table };
	r->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (r->socket && mnl_socket_bind(r->socket, 0, MNL_SOCKET_AUTOPID) == 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot talk to nftables");
	nft_reader_close(r);
	return ret;
}

void nft_reader_close(struct nft_reader *r)
{
	if (r->socket)
		mnl_socket_close(r->socket);
	r->socket = NULL;
}

struct nlmsghdr *nft_reader_begin(struct nft_reader *r, void *buf, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(buf, type, NFPROTO_INET, flags | NLM_F_ACK, ++r->seq);
}

int nft_reader_ask(struct nft_reader *r, const struct nlmsghdr *nlh)
{
	char rest[64];

	/* What an earlier request that failed has left. */
	while (recv(mnl_socket_get_fd(r->socket), rest, sizeof(rest), 0) > 0)
		;
	return mnl_socket_sendto(r->socket, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}

int nft_reader_take(struct nft_reader *r, int (*each)(const struct nlmsghdr *nlh, void *data),
		    void *data)
{
	char buf[RECEIVE_MAX];
	ssize_t len = mnl_socket_recvfrom(r->socket, buf, sizeof(buf));
	int ret;

	if (len < 0)
		return -errno;
	ret = mnl_cb_run(buf, (size_t)len, r->seq, mnl_socket_get_portid(r->socket), each, data);
	return ret < 0 ? -errno : ret > MNL_CB_STOP;
}
