/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NFQUEUE over libmnl: batches with recvmmsg() one way and gathered sendmsg() the other. */
#include "queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"

#define COPY_RANGE     0xffff		  /* all of the packet; 65535 is the most of IP */
#define MESSAGE_SIZE   (65536 + 1024)	  /* packet, netlink headers and the small attributes */
#define SOCKET_BUFFER  (16 * 1024 * 1024) /* measured: none lost at 100k packets/s and more */
#define PENDING_BYTES  (1024 * 1024)	  /* verdict bytes in one send, below the socket's limit */
#define PENDING_HEADER 64		  /* netlink header, verdict, mark, payload header */

static const uint8_t zeros[4];

struct queue {
	struct mnl_socket *socket;
	struct counters *counters;
	uint32_t portid, seq;

	uint8_t *buffers; /* QUEUE_BATCH of MESSAGE_SIZE */
	struct mmsghdr messages[QUEUE_BATCH];
	struct iovec message_iov[QUEUE_BATCH];
	struct queue_packet packets[QUEUE_BATCH];

	uint8_t headers[QUEUE_FLUSH][PENDING_HEADER];
	struct iovec pending_iov[QUEUE_FLUSH * 3];
	size_t pending, pending_iovs, pending_bytes;
};

static enum packet_checksum checksum_state(uint32_t info)
{
	if (info & NFQA_SKB_CSUMNOTREADY)
		return CHECKSUM_PARTIAL;
	return info & NFQA_SKB_CSUM_NOTVERIFIED ? CHECKSUM_UNVERIFIED : CHECKSUM_COMPLETE;
}

/* One netlink message: a packet, or an error that the kernel found in one of our verdicts. */
static bool parse_message(struct queue *q, struct nlmsghdr *nlh, size_t len,
			  struct queue_packet *packet)
{
	struct nlattr *attr[NFQA_MAX + 1] = { 0 };
	struct nfqnl_msg_packet_hdr *header;

	if (!mnl_nlmsg_ok(nlh, (int)len))
		return false;
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		/* The packet was gone: its queue was unbound and bound again. */
		counters_add(q->counters, COUNTER_VERDICTS_REFUSED, 1);
		return false;
	}
	if (nlh->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET) ||
	    nfq_nlmsg_parse(nlh, attr) < 0 || !attr[NFQA_PACKET_HDR] ||
	    mnl_attr_get_payload_len(attr[NFQA_PACKET_HDR]) < sizeof(*header))
		return false;

	header = mnl_attr_get_payload(attr[NFQA_PACKET_HDR]);
	packet->id = ntohl(header->packet_id);
	packet->output = header->hook == NF_INET_LOCAL_OUT;
	packet->mark = attr[NFQA_MARK] ? ntohl(mnl_attr_get_u32(attr[NFQA_MARK])) : 0;
	packet->queue = ntohs(((struct nfgenmsg *)mnl_nlmsg_get_payload(nlh))->res_id);
	packet->data = attr[NFQA_PAYLOAD] ? mnl_attr_get_payload(attr[NFQA_PAYLOAD]) : NULL;
	packet->len = attr[NFQA_PAYLOAD] ? mnl_attr_get_payload_len(attr[NFQA_PAYLOAD]) : 0;
	packet->checksum = attr[NFQA_SKB_INFO]
				   ? checksum_state(ntohl(mnl_attr_get_u32(attr[NFQA_SKB_INFO])))
				   : CHECKSUM_COMPLETE;
	counters_add(q->counters, COUNTER_PACKETS, 1);
	return true;
}

/*
 * Send one configuration message and wait for the kernel's word on it. Packets that arrive in
 * between, from numbers that are bound already, are dropped: their senders repeat them, and nobody
 * is ready to look at them yet.
 */
static int configure(struct queue *q, struct nlmsghdr *nlh)
{
	struct nlmsghdr *answer = (struct nlmsghdr *)q->buffers;
	struct queue_packet packet;
	ssize_t len;

	nlh->nlmsg_flags |= NLM_F_ACK;
	nlh->nlmsg_seq = ++q->seq;
	if (mnl_socket_sendto(q->socket, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		len = mnl_socket_recvfrom(q->socket, answer, MESSAGE_SIZE);
		if (len < 0 && errno != ENOBUFS)
			return -errno;
		if (len < 0)
			continue;
		if (answer->nlmsg_type == NLMSG_ERROR && answer->nlmsg_seq == q->seq)
			break;
		if (parse_message(q, answer, (size_t)len, &packet)) {
			queue_drop(q, packet.queue, packet.id);
			queue_flush(q);
		}
	}
	return mnl_cb_run(answer, (size_t)len, q->seq, q->portid, NULL, NULL) < 0 ? -errno : 0;
}

static int bind_number(struct queue *q, uint16_t number, uint32_t length)
{
	char buf[256];
	struct nlmsghdr *nlh;
	int ret;

	nlh = nfq_nlmsg_put(buf, NFQNL_MSG_CONFIG, number);
	nfq_nlmsg_cfg_put_cmd(nlh, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
	ret = configure(q, nlh);
	if (ret)
		return ret;

	nlh = nfq_nlmsg_put(buf, NFQNL_MSG_CONFIG, number);
	nfq_nlmsg_cfg_put_qmaxlen(nlh, length);
	mnl_attr_put_u32(nlh, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO));
	mnl_attr_put_u32(nlh, NFQA_CFG_MASK, htonl(NFQA_CFG_F_GSO));
	nfq_nlmsg_cfg_put_params(nlh, NFQNL_COPY_PACKET, COPY_RANGE);
	return configure(q, nlh);
}

static void prepare_buffers(struct queue *q)
{
	for (size_t i = 0; i < QUEUE_BATCH; i++) {
		q->message_iov[i] = (struct iovec){ q->buffers + i * MESSAGE_SIZE, MESSAGE_SIZE };
		q->messages[i].msg_hdr.msg_iov = &q->message_iov[i];
		q->messages[i].msg_hdr.msg_iovlen = 1;
	}
}

static int open_socket(struct queue *q)
{
	int size = SOCKET_BUFFER;

	q->socket = mnl_socket_open(NETLINK_NETFILTER);
	if (!q->socket || mnl_socket_bind(q->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	q->portid = mnl_socket_get_portid(q->socket);
	if (setsockopt(queue_fd(q), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    setsockopt(queue_fd(q), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		return -errno;
	return 0;
}

int queue_open(struct queue **queue, const uint16_t *numbers, size_t count, uint32_t length,
	       struct counters *counters)
{
	struct queue *q = calloc(1, sizeof(*q));
	int ret = -ENOMEM;

	if (!q)
		return ret;
	q->counters = counters;
	q->buffers = malloc((size_t)QUEUE_BATCH * MESSAGE_SIZE);
	if (!q->buffers)
		goto out;
	prepare_buffers(q);
	ret = open_socket(q);
	if (ret) {
		log_error("cannot open a netfilter socket: %s", strerror(-ret));
		goto out;
	}
	for (size_t i = 0; i < count; i++) {
		ret = bind_number(q, numbers[i], length);
		if (!ret)
			continue;
		log_error("cannot bind queue %u: %s%s", numbers[i], strerror(-ret),
			  ret == -EPERM || ret == -EBUSY
				  ? " (another process may own it, or CAP_NET_ADMIN is missing)"
				  : "");
		goto out;
	}
	*queue = q;
	return 0;
out:
	queue_close(q);
	return ret;
}

void queue_close(struct queue *q)
{
	if (!q)
		return;
	if (q->socket) {
		queue_flush(q);
		mnl_socket_close(q->socket);
	}
	free(q->buffers);
	free(q);
}

int queue_fd(const struct queue *q)
{
	return mnl_socket_get_fd(q->socket);
}

size_t queue_receive(struct queue *q)
{
	size_t count = 0;
	int received;

	queue_flush(q);
	received = recvmmsg(queue_fd(q), q->messages, QUEUE_BATCH, MSG_DONTWAIT, NULL);
	if (received < 0) {
		if (errno == ENOBUFS)
			counters_add(q->counters, COUNTER_QUEUE_OVERRUNS, 1);
		return 0;
	}
	counters_add(q->counters, COUNTER_PACKET_BATCHES, 1);
	for (int i = 0; i < received; i++) {
		struct nlmsghdr *nlh = q->message_iov[i].iov_base;

		if (parse_message(q, nlh, q->messages[i].msg_len, &q->packets[count]))
			count++;
	}
	return count;
}

struct queue_packet *queue_packet(struct queue *q, size_t n)
{
	return &q->packets[n];
}

static void add_iov(struct queue *q, const void *base, size_t len)
{
	q->pending_iov[q->pending_iovs++] = (struct iovec){ (void *)base, len };
	q->pending_bytes += len;
}

static void add_verdict(struct queue *q, uint16_t number, uint32_t id, int verdict,
			const void *data, size_t len, uint32_t mark)
{
	struct nlmsghdr *nlh;
	struct nlattr *payload;

	if (q->pending == QUEUE_FLUSH || q->pending_bytes + len > PENDING_BYTES)
		queue_flush(q);
	nlh = nfq_nlmsg_put((char *)q->headers[q->pending++], NFQNL_MSG_VERDICT, number);
	nfq_nlmsg_verdict_put(nlh, (int)id, verdict);
	if (mark)
		mnl_attr_put_u32(nlh, NFQA_MARK, htonl(mark));
	if (!data) {
		add_iov(q, nlh, nlh->nlmsg_len);
	} else {
		size_t pad = MNL_ALIGN(len) - len;

		payload = mnl_nlmsg_get_payload_tail(nlh);
		payload->nla_type = NFQA_PAYLOAD;
		payload->nla_len = (uint16_t)(MNL_ATTR_HDRLEN + len);
		add_iov(q, nlh, nlh->nlmsg_len + MNL_ATTR_HDRLEN);
		add_iov(q, data, len);
		if (pad)
			add_iov(q, zeros, pad);
		nlh->nlmsg_len += (uint32_t)(MNL_ATTR_HDRLEN + len + pad);
	}
	counters_add(q->counters, COUNTER_VERDICTS, 1);
}

void queue_drop(struct queue *q, uint16_t number, uint32_t id)
{
	add_verdict(q, number, id, NF_DROP, NULL, 0, 0);
}

void queue_accept(struct queue *q, uint16_t number, uint32_t id)
{
	add_verdict(q, number, id, NF_ACCEPT, NULL, 0, 0);
}

void queue_accept_marked(struct queue *q, uint16_t number, uint32_t id, uint32_t mark)
{
	add_verdict(q, number, id, mark ? NF_REPEAT : NF_ACCEPT, NULL, 0, mark);
}

void queue_accept_changed(struct queue *q, uint16_t number, uint32_t id, const void *data,
			  size_t len, uint32_t mark)
{
	add_verdict(q, number, id, mark ? NF_REPEAT : NF_ACCEPT, data, len, mark);
}

void queue_flush(struct queue *q)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct msghdr msg = {
		.msg_name = &kernel,
		.msg_namelen = sizeof(kernel),
		.msg_iov = q->pending_iov,
		.msg_iovlen = q->pending_iovs,
	};

	if (!q->pending)
		return;
	counters_add(q->counters, COUNTER_VERDICT_BATCHES, 1);
	if (sendmsg(queue_fd(q), &msg, 0) < 0)
		counters_add(q->counters, COUNTER_VERDICTS_LOST, q->pending);
	q->pending = 0;
	q->pending_iovs = 0;
	q->pending_bytes = 0;
}

int queue_kernel_drops(uint64_t *full, uint64_t *undelivered)
{
	FILE *f = fopen("/proc/self/net/netfilter/nfnetlink_queue", "re");
	unsigned long dropped, user_dropped;

	*full = 0;
	*undelivered = 0;
	if (!f)
		return -errno;
	while (fscanf(f, "%*u %*u %*u %*u %*u %lu %lu %*u %*u", &dropped, &user_dropped) == 2) {
		*full += dropped;
		*undelivered += user_dropped;
	}
	fclose(f);
	return 0;
}
