/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets of one worker and the sockets accepted from them. */
#include "listener.h"

#include <errno.h>
#include <stdio.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/handoff.h"
#include "lib/tcp_options.h"
#include "os/log.h"
#include "reuseport.h"

#define BACKLOG	      65535
#define OVER_MS	      10 /* for packets that are on their way to the socket already */
#define CLOSE_SOON_MS 50 /* for the kernel to receive the FIN that we have just let pass */
#define FRESH_MS      10 /* for the request, which mostly is why a socket is accepted */
#define TIMESTAMP_LEN 12 /* of the option with its padding, which Linux takes off the MSS */
#define EVICT_TRIES   8	 /* sockets that are looked at to find one that can go */

enum { WAITING, LEAVING, FRESH, OVER, CLASSES };

struct accepted {
	int fd;
};

int listener_init(struct listener *l, uint32_t capacity, uint64_t wait_ms,
		  struct counters *counters)
{
	const uint64_t lifetime_ms[CLASSES] = {
		[WAITING] = wait_ms,
		[LEAVING] = CLOSE_SOON_MS,
		[FRESH] = FRESH_MS,
		[OVER] = OVER_MS,
	};

	l->counters = counters;
	l->accepted = calloc(capacity, sizeof(*l->accepted));
	if (!l->accepted || slots_init(&l->slots, capacity) || index_init(&l->index, capacity) ||
	    expiry_init(&l->expiry, capacity, lifetime_ms, CLASSES))
		return -ENOMEM;
	return 0;
}

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

/* The order matters: TCP_REPAIR is refused on a listening socket, and children inherit both. */
static int prepare(int fd, const struct endpoint *vip, int window_scale, unsigned int workers)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&vip->addr, vip->port, &ss);

	if (set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) || set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) ||
	    set_int(fd, IPPROTO_IP, IP_FREEBIND, 1) || bind(fd, (struct sockaddr *)&ss, len) ||
	    (workers > 1 && reuseport_attach(fd, workers)) ||
	    set_int(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1) || set_int(fd, IPPROTO_TCP, TCP_REPAIR, 1) ||
	    set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE))
		return -errno;
	/* tcp_select_initial_window() takes the scale from the smaller of this and the memory. */
	if (window_scale >= 0 &&
	    set_int(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, UINT16_MAX << window_scale))
		return -errno;
	return listen(fd, BACKLOG) ? -errno : 0;
}

/* What tcp_select_initial_window() sees of a listening socket that asks for nothing. */
static long receive_memory(void)
{
	long rmem_max = 0, tcp_rmem = 0;
	FILE *f = fopen("/proc/sys/net/core/rmem_max", "re");

	if (f) {
		(void)!fscanf(f, "%ld", &rmem_max);
		fclose(f);
	}
	f = fopen("/proc/sys/net/ipv4/tcp_rmem", "re");
	if (f) {
		(void)!fscanf(f, "%*d %*d %ld", &tcp_rmem);
		fclose(f);
	}
	return rmem_max > tcp_rmem ? rmem_max : tcp_rmem;
}

void listener_check_scale(int window_scale)
{
	if (window_scale > 0 && receive_memory() < (long)UINT16_MAX << window_scale)
		log_warning("window_scale %d is not what clients are told: net.core.rmem_max or "
			    "the third number of net.ipv4.tcp_rmem must be at least %ld",
			    window_scale, (long)UINT16_MAX << window_scale);
}

uint8_t listener_scale(int window_scale)
{
	long memory = receive_memory();
	uint8_t scale = 0;

	if (window_scale >= 0 && memory > (long)UINT16_MAX << window_scale)
		return (uint8_t)window_scale;
	while (scale < TCP_WSCALE_MAX && memory >> (scale + 16))
		scale++;
	return scale;
}

int listener_open(struct listening *l, int window_scale, unsigned int worker, unsigned int workers)
{
	const struct endpoint *vip = &l->vip;
	char text[ENDPOINT_STRLEN];
	int fd, ret;

	fd = socket(vip->addr.family == 4 ? AF_INET : AF_INET6,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	ret = fd < 0 ? -errno : prepare(fd, vip, window_scale, workers);
	if (ret) {
		log_error("cannot listen on %s for worker %u: %s",
			  endpoint_format(&vip->addr, vip->port, text), worker, strerror(-ret));
		if (fd >= 0)
			close(fd);
		return ret;
	}
	l->fd = fd;
	return 0;
}

/* Without TCP_REPAIR a close is an ordinary one. */
void listener_close_spoken(int fd)
{
	(void)set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	close(fd);
}

static int release(struct listener *l, uint32_t slot)
{
	int fd = l->accepted[slot].fd;

	expiry_remove(&l->expiry, slot);
	index_remove(&l->index, slot);
	slots_put(&l->slots, slot);
	return fd;
}

static void close_over(struct listener *l, uint32_t slot)
{
	l->over--;
	close(release(l, slot));
}

static void close_now(struct listener *l, uint32_t slot)
{
	if (expiry_class(&l->expiry, slot) == OVER)
		close_over(l, slot);
	else
		close(release(l, slot));
}

static bool still_there(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_state == TCP_ESTABLISHED;
}

/* Close the oldest that nobody needs; false if the oldest ones are all needed. */
static bool evict(struct listener *l, const struct listener_judge *judge, uint64_t now_ms)
{
	for (unsigned int i = 0; i < EVICT_TRIES; i++) {
		uint32_t slot = expiry_oldest(&l->expiry, OVER);

		if (slot != SLOT_NONE) {
			close_over(l, slot);
			return true;
		}
		slot = expiry_oldest(&l->expiry, LEAVING);
		if (slot == SLOT_NONE)
			slot = expiry_oldest(&l->expiry, WAITING);
		if (slot == SLOT_NONE)
			slot = expiry_oldest(&l->expiry, FRESH);
		if (slot == SLOT_NONE)
			return false;
		if (judge->use(judge->context, &l->index.keys[slot]) == LISTENER_BUSY) {
			expiry_set(&l->expiry, slot, WAITING, now_ms);
			continue;
		}
		listener_close_spoken(release(l, slot));
		counters_add(l->counters, COUNTER_SOCKETS_EVICTED, 1);
		return true;
	}
	return false;
}

static void keep(struct listener *l, const struct listener_judge *judge, const struct tuple *tuple,
		 int fd, uint64_t now_ms)
{
	static struct log_limit limit;
	uint32_t slot = index_find(&l->index, tuple);

	/* The kernel never has two sockets of one tuple: ours is dead, the client began anew. */
	if (slot != SLOT_NONE)
		close_now(l, slot);
	if (l->slots.used == l->slots.capacity) {
		log_warning_limited(&limit, now_ms,
				    "limits.requests connections have sent no request: the oldest "
				    "are closed");
		if (!evict(l, judge, now_ms)) {
			listener_close_spoken(fd);
			counters_add(l->counters, COUNTER_SOCKETS_EVICTED, 1);
			return;
		}
	}
	slot = slots_take(&l->slots);
	l->accepted[slot].fd = fd;
	index_insert(&l->index, slot, tuple);
	/* It may have left before we came to accept it: seen when no request has come soon. */
	expiry_set(&l->expiry, slot, FRESH, now_ms);
}

/* No descriptor is left for what waits to be accepted; false if none could be freed. */
static bool free_descriptor(struct listener *l, const struct listener_judge *judge, uint64_t now_ms)
{
	static struct log_limit limit;

	counters_add(l->counters, COUNTER_ACCEPT_FAILED, 1);
	log_warning_limited(&limit, now_ms,
			    "no file descriptor left for a connection: the oldest that sent "
			    "no request is closed");
	return evict(l, judge, now_ms);
}

/* The next connection of a listening socket; -1 when there is none, or no descriptor for it. */
static int accept_next(struct listener *l, int listening, struct endpoint *client,
		       const struct listener_judge *judge, uint64_t now_ms)
{
	for (;;) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		int fd = accept4(listening, (struct sockaddr *)&ss, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			counters_add(l->counters, COUNTER_SOCKETS_ACCEPTED, 1);
			if (!addr_from_sockaddr(client, &ss))
				return fd;
			close(fd);
		} else if ((errno != EMFILE && errno != ENFILE) ||
			   !free_descriptor(l, judge, now_ms)) {
			return -1;
		}
	}
}

/*
 * Their requests may be in a queue that was not read for a while. What else wants to be accepted waits in the
 * kernel's backlog, until these have had their time.
 */
static bool full_of_fresh(const struct listener *l)
{
	return l->slots.used == l->slots.capacity && expiry_oldest(&l->expiry, OVER) == SLOT_NONE &&
	       expiry_oldest(&l->expiry, LEAVING) == SLOT_NONE &&
	       expiry_oldest(&l->expiry, WAITING) == SLOT_NONE;
}

static void accept_from(struct listener *l, const struct listening *from,
			const struct listener_judge *judge, uint64_t now_ms)
{
	struct endpoint client;
	struct tuple tuple;
	int fd;

	while (!full_of_fresh(l) && (fd = accept_next(l, from->fd, &client, judge, now_ms)) >= 0) {
		tuple = (struct tuple){ .src = client.addr,
					.dst = from->vip.addr,
					.sport = client.port,
					.dport = from->vip.port };
		if (judge->use(judge->context, &tuple) == LISTENER_HANDED_OVER)
			close(fd);
		else
			keep(l, judge, &tuple, fd, now_ms);
	}
}

void listener_accept(struct listener *l, const struct listener_judge *judge, uint64_t now_ms)
{
	for (size_t i = 0; i < l->listening_count; i++)
		accept_from(l, &l->listening[i], judge, now_ms);
}

static bool has(const struct listening *listening, size_t count, const struct endpoint *vip)
{
	for (size_t i = 0; i < count; i++)
		if (listening[i].vip.port == vip->port &&
		    addr_equal(&listening[i].vip.addr, &vip->addr))
			return true;
	return false;
}

static void close_idle(struct listener *l, const struct endpoint *vip,
		       const struct listener_judge *judge)
{
	for (uint32_t slot = 0; slot < l->slots.fresh; slot++) {
		unsigned int class = expiry_class(&l->expiry, slot);
		const struct tuple *tuple = &l->index.keys[slot];

		if ((class != WAITING && class != LEAVING) || tuple->dport != vip->port ||
		    !addr_equal(&tuple->dst, &vip->addr) ||
		    judge->use(judge->context, tuple) == LISTENER_BUSY)
			continue;
		listener_close_spoken(release(l, slot));
		counters_add(l->counters, COUNTER_SOCKETS_CLOSED, 1);
	}
}

void listener_use(struct listener *l, const struct listening *listening, size_t count,
		  uint64_t wait_ms, const struct listener_judge *judge, uint64_t now_ms)
{
	for (size_t i = 0; i < l->listening_count; i++) {
		const struct listening *old = &l->listening[i];

		if (has(listening, count, &old->vip))
			continue;
		accept_from(l, old, judge, now_ms);
		/* The service manager may have it, too. */
		shutdown(old->fd, SHUT_RD);
		close(old->fd);
		close_idle(l, &old->vip, judge);
	}
	l->listening = listening;
	l->listening_count = count;
	expiry_lifetime(&l->expiry, WAITING, wait_ms);
}

/* Of the queue that TCP_REPAIR_QUEUE has chosen; see prepare(). */
static bool queue_seq(int fd, uint32_t *seq)
{
	socklen_t len = sizeof(*seq);

	return getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len) == 0;
}

/* What the client has sent so far; the socket is to be asked about the other queue again. */
static bool received_seq(int fd, uint32_t *seq)
{
	return set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE) == 0 &&
	       queue_seq(fd, seq) &&
	       set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) == 0;
}

/* The client's ISN, MSS and window, exact; false under SYN cookies, which leave no SYN. */
static bool read_saved_syn(int fd, struct handshake *h)
{
	uint8_t syn[512];
	socklen_t len = sizeof(syn);
	struct tcp_options o;
	struct packet p;
	uint8_t *options;
	size_t options_len;

	if (getsockopt(fd, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len) || !len ||
	    packet_parse(&p, syn, len) != PACKET_OK)
		return false;
	options = packet_options(&p, &options_len);
	(void)tcp_options_parse(&o, options, options_len);
	h->isn_c = p.seq;
	h->window = p.window;
	h->mss_client = o.mss ? o.mss : MSS_DEFAULT;
	return true;
}

bool listener_has(const struct listener *l, const struct tuple *tuple)
{
	return index_find(&l->index, tuple) != SLOT_NONE;
}

bool listener_handshake(const struct listener *l, const struct tuple *tuple, struct handshake *h)
{
	uint32_t slot = index_find(&l->index, tuple), sent, received;
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int fd;

	if (slot == SLOT_NONE || expiry_class(&l->expiry, slot) == OVER)
		return false;
	fd = l->accepted[slot].fd;
	if (!queue_seq(fd, &sent) || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return false;

	*h = (struct handshake){
		.isn_b = sent - 1,
		.window = UINT16_MAX,
		.mss_client = (uint16_t)info.tcpi_snd_mss,
		.mss_balancer = (uint16_t)info.tcpi_advmss,
		.rtt_us = info.tcpi_rtt,
	};
	if (info.tcpi_options & TCPI_OPT_TIMESTAMPS) {
		h->options |= HANDOFF_TIMESTAMPS;
		h->mss_client += TIMESTAMP_LEN;
		h->mss_balancer += TIMESTAMP_LEN;
	}
	if (info.tcpi_options & TCPI_OPT_SACK)
		h->options |= HANDOFF_SACK;
	if (info.tcpi_options & TCPI_OPT_WSCALE) {
		h->options |= HANDOFF_WSCALE;
		h->wscale_client = info.tcpi_snd_wscale;
		h->wscale_balancer = info.tcpi_rcv_wscale;
	}
	if (read_saved_syn(fd, h))
		return true;
	if (!received_seq(fd, &received))
		return false;
	h->isn_c = received - 1;
	return true;
}

void listener_close_silent(struct listener *l, const struct tuple *tuple)
{
	uint32_t slot = index_find(&l->index, tuple);

	if (slot != SLOT_NONE)
		close_now(l, slot);
}

void listener_hand_over(struct listener *l, const struct tuple *tuple, uint64_t now_ms)
{
	uint32_t slot = index_find(&l->index, tuple);

	if (slot == SLOT_NONE)
		return;
	if (expiry_class(&l->expiry, slot) != OVER)
		l->over++;
	expiry_set(&l->expiry, slot, OVER, now_ms);
}

bool listener_close_soon(struct listener *l, const struct tuple *tuple, uint64_t now_ms)
{
	uint32_t slot = index_find(&l->index, tuple);

	if (slot != SLOT_NONE && expiry_class(&l->expiry, slot) != OVER)
		expiry_set(&l->expiry, slot, LEAVING, now_ms);
	return slot != SLOT_NONE;
}

void listener_expire(struct listener *l, const struct listener_judge *judge, uint64_t now_ms)
{
	uint32_t slot;

	while ((slot = expiry_next(&l->expiry, OVER, now_ms)) != SLOT_NONE)
		close_over(l, slot);
	for (unsigned int class = WAITING; class <= FRESH; class ++) {
		while ((slot = expiry_next(&l->expiry, class, now_ms)) != SLOT_NONE) {
			if (judge->use(judge->context, &l->index.keys[slot]) == LISTENER_BUSY ||
			    (class != WAITING && still_there(l->accepted[slot].fd))) {
				expiry_set(&l->expiry, slot, WAITING, now_ms);
				continue;
			}
			listener_close_spoken(release(l, slot));
			counters_add(l->counters, COUNTER_SOCKETS_CLOSED, 1);
		}
	}
}

/* As children of our listening sockets are born. */
static bool silence(int fd)
{
	return set_int(fd, IPPROTO_TCP, TCP_REPAIR, 1) == 0 &&
	       set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) == 0;
}

void listener_resume(struct listener *l, const struct tuple *tuple, int fd, uint64_t now_ms)
{
	uint32_t slot;

	if (l->slots.used == l->slots.capacity || listener_has(l, tuple) || !still_there(fd) ||
	    !silence(fd)) {
		listener_close_spoken(fd);
		return;
	}
	slot = slots_take(&l->slots);
	l->accepted[slot].fd = fd;
	index_insert(&l->index, slot, tuple);
	expiry_set(&l->expiry, slot, WAITING, now_ms);
}

int listener_leave(struct listener *l)
{
	for (unsigned int class = 0; class < OVER; class ++) {
		uint32_t slot = expiry_oldest(&l->expiry, class);

		if (slot != SLOT_NONE) {
			int fd = release(l, slot);

			(void)set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
			return fd;
		}
	}
	return -1;
}

uint32_t listener_drops(struct listening *l)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 }, more;
	socklen_t len = sizeof(info);

	if (getsockopt(l->fd, SOL_SOCKET, SO_MEMINFO, info, &len))
		return 0;
	more = info[SK_MEMINFO_DROPS] - l->drops;
	l->drops = info[SK_MEMINFO_DROPS];
	return more;
}

uint32_t listener_count(const struct listener *l)
{
	uint32_t used = __atomic_load_n(&l->slots.used, __ATOMIC_RELAXED);
	uint32_t over = __atomic_load_n(&l->over, __ATOMIC_RELAXED);

	return used > over ? used - over : 0;
}

void listener_clean(struct listener *l)
{
	uint32_t slot;

	for (unsigned int class = 0; l->accepted && class < CLASSES; class ++) {
		while ((slot = expiry_oldest(&l->expiry, class)) != SLOT_NONE) {
			if (class == OVER)
				close_over(l, slot);
			else
				listener_close_spoken(release(l, slot));
		}
	}
	slots_clean(&l->slots);
	index_clean(&l->index);
	expiry_clean(&l->expiry);
	free(l->accepted);
}
