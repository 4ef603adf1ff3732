/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connecting, asking and judging the answer. */
#include "check.h"

#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "os/log.h"

#define REQUEST_MAX 768

bool check_running(const struct check *c)
{
	return c->fd >= 0;
}

void check_stop(struct check *c)
{
	c->io = sd_event_source_disable_unref(c->io);
	c->timer = sd_event_source_disable_unref(c->timer);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void finish(struct check *c, enum handoff_state state, int http)
{
	const struct check_result result = {
		.state = (uint8_t)state,
		.wscale = c->wscale,
		.http = http > 0 ? (uint16_t)http : 0,
	};

	check_stop(c);
	c->done(c->context, &result);
}

static enum handoff_state state_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return HANDOFF_STATE_REFUSED;
	case ETIMEDOUT:
		return HANDOFF_STATE_SILENT;
	default:
		return HANDOFF_STATE_UNREACHABLE;
	}
}

/* The scale that the web server has told us: with clients it is the same. */
static void read_scale(struct check *c)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
		c->wscale = info.tcpi_options & TCPI_OPT_WSCALE ? info.tcpi_snd_wscale : 0;
}

static bool send_request(struct check *c)
{
	const struct service_settings *s = c->service;
	char request[REQUEST_MAX], host[ENDPOINT_STRLEN];
	int len = snprintf(request, sizeof(request),
			   "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: l3dsr-bridge\r\n"
			   "Accept: */*\r\nConnection: close\r\n\r\n",
			   s->check_path,
			   s->check_host[0] ? s->check_host : addr_format(&s->vip, host));

	/* A new connection has room for so little. */
	return len > 0 && (size_t)len < sizeof(request) &&
	       send(c->fd, request, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len;
}

static void connected(struct check *c)
{
	read_scale(c);
	if (c->service->check == CHECK_CONNECT)
		finish(c, HANDOFF_STATE_UP, 0);
	else if (!send_request(c) || sd_event_source_set_io_events(c->io, EPOLLIN) < 0)
		finish(c, HANDOFF_STATE_NO_HTTP, 0);
}

static void readable(struct check *c)
{
	ssize_t len = recv(c->fd, c->answer + c->answer_len, sizeof(c->answer) - c->answer_len,
			   MSG_DONTWAIT);
	int status;

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0) {
		finish(c, HANDOFF_STATE_NO_HTTP, 0);
		return;
	}
	c->answer_len += (size_t)len;
	status = http_status(c->answer, c->answer_len);
	if (status == HTTP_STATUS_NONE)
		finish(c, HANDOFF_STATE_NO_HTTP, 0);
	else if (status != HTTP_STATUS_MORE)
		finish(c,
		       status == c->service->check_status ? HANDOFF_STATE_UP : HANDOFF_STATE_HTTP,
		       status);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct check *c = context;
	socklen_t len = sizeof(int);
	int error = 0;

	(void)source;
	if (!(revents & EPOLLIN) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
	    error)
		finish(c, state_of(error), 0);
	else if (revents & EPOLLOUT)
		connected(c);
	else
		readable(c);
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t now_us, void *context)
{
	(void)source;
	(void)now_us;
	finish(context, HANDOFF_STATE_SILENT, 0);
	return 0;
}

/* 0, or -errno: a reason of this host, or the web server's refusal. */
static int begin(struct check *c)
{
	const struct service_settings *s = c->service;
	struct sockaddr_storage to, from;
	socklen_t to_len = addr_to_sockaddr(&s->server, (uint16_t)s->server_port, &to);
	socklen_t from_len = addr_to_sockaddr(c->from, 0, &from);
	int on = 1, ret;

	c->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) ||
	    bind(c->fd, (struct sockaddr *)&from, from_len) ||
	    (connect(c->fd, (struct sockaddr *)&to, to_len) && errno != EINPROGRESS))
		return -errno;
	ret = sd_event_add_io(c->event, &c->io, c->fd, EPOLLOUT, on_io, c);
	if (ret >= 0)
		ret = sd_event_add_time_relative(c->event, &c->timer, CLOCK_MONOTONIC,
						 (uint64_t)s->check_timeout_ms * 1000, 1000,
						 on_timeout, c);
	return ret < 0 ? ret : 0;
}

void check_begin(struct check *c)
{
	int ret;

	c->wscale = HANDOFF_SCALE_UNKNOWN;
	c->answer_len = 0;
	ret = begin(c);
	if (ret)
		finish(c, state_of(-ret), 0);
}
