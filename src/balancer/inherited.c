/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking over sockets from the daemon before, and leaving them to the one behind. */
#include "inherited.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/log.h"

#define WAITING "waiting" /* the parcel */

static bool get_int(int fd, int option, int *value)
{
	socklen_t len = sizeof(*value);

	return getsockopt(fd, SOL_SOCKET, option, value, &len) == 0;
}

static bool is_listening(int fd)
{
	int protocol, listening;

	return get_int(fd, SO_PROTOCOL, &protocol) && protocol == IPPROTO_TCP &&
	       get_int(fd, SO_ACCEPTCONN, &listening) && listening;
}

static void add_waiting(struct inherited *in, int fd)
{
	if (in->count == in->capacity) {
		size_t capacity = in->capacity ? 2 * in->capacity : FD_PARCEL_BATCH;
		int *waiting = reallocarray(in->waiting, capacity, sizeof(*waiting));

		if (!waiting) {
			close(fd);
			return;
		}
		in->waiting = waiting;
		in->capacity = capacity;
	}
	in->waiting[in->count++] = fd;
}

/* The manager hangs on to it until it hangs up. */
static void shut(int fd)
{
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

int inherited_open(struct inherited *in)
{
	int fd, fds[FD_PARCEL_BATCH], ret = fd_store_open(&in->store);
	size_t count;

	while (!ret && (fd = fd_store_take(&in->store, WAITING)) >= 0) {
		while ((count = fd_parcel_get(fd, fds)))
			for (size_t i = 0; i < count; i++)
				add_waiting(in, fds[i]);
		shut(fd);
	}
	return ret;
}

void inherited_close(struct inherited *in)
{
	for (size_t i = 0; i < in->count; i++)
		close(in->waiting[i]);
	free(in->waiting);
	fd_store_close(&in->store);
	*in = (struct inherited){ 0 };
}

static const char *make_name(const struct listening *l, int window_scale, unsigned int worker,
			     unsigned int workers, char name[FD_NAME_MAX])
{
	char address[ADDR_STRLEN];

	snprintf(name, FD_NAME_MAX, "%s/%u/scale %d/%u of %u", addr_format(&l->vip.addr, address),
		 l->vip.port, window_scale, worker, workers);
	return name;
}

bool inherited_fits(const struct inherited *in, const struct listening *l, int window_scale,
		    unsigned int worker, unsigned int workers)
{
	char name[FD_NAME_MAX];

	return fd_store_has(&in->store, make_name(l, window_scale, worker, workers, name));
}

bool inherited_listening(struct inherited *in, struct listening *l, int window_scale,
			 unsigned int worker, unsigned int workers)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct endpoint bound;
	char name[FD_NAME_MAX];
	int fd = fd_store_take(&in->store, make_name(l, window_scale, worker, workers, name));

	if (fd < 0)
		return false;
	if (!is_listening(fd) || getsockname(fd, (struct sockaddr *)&ss, &len) ||
	    addr_from_sockaddr(&bound, &ss) || bound.port != l->vip.port ||
	    !addr_equal(&bound.addr, &l->vip.addr)) {
		log_warning("the service manager has kept another socket as %s: it is not used",
			    name);
		shut(fd);
		return false;
	}
	l->fd = fd;
	l->kept = true;
	(void)listener_drops(l); /* what the last process has told of */
	return true;
}

void inherited_shut(struct inherited *in)
{
	int fd, waiting;

	while ((fd = fd_store_take_any(&in->store)) >= 0) {
		while (is_listening(fd) &&
		       (waiting = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
			add_waiting(in, waiting);
		shut(fd);
	}
}

static bool get_tuple(int fd, struct tuple *tuple)
{
	struct sockaddr_storage local, remote;
	socklen_t local_len = sizeof(local), remote_len = sizeof(remote);
	struct endpoint vip, client;

	if (getsockname(fd, (struct sockaddr *)&local, &local_len) ||
	    getpeername(fd, (struct sockaddr *)&remote, &remote_len) ||
	    addr_from_sockaddr(&vip, &local) || addr_from_sockaddr(&client, &remote))
		return false;
	*tuple = (struct tuple){
		.src = client.addr, .dst = vip.addr, .sport = client.port, .dport = vip.port
	};
	return true;
}

int inherited_waiting(struct inherited *in, struct tuple *tuple)
{
	while (in->count) {
		int fd = in->waiting[--in->count];

		if (get_tuple(fd, tuple))
			return fd;
		close(fd); /* the client has left */
	}
	return -1;
}

void inherited_keep(const struct service *service, struct listening *l, int window_scale,
		    unsigned int worker, unsigned int workers)
{
	char name[FD_NAME_MAX];

	if (!l->kept)
		l->kept = service_keep(service, &l->fd, 1,
				       make_name(l, window_scale, worker, workers, name));
}

void inherited_leave(const struct service *service, const int *fds, size_t count)
{
	int pair[2];

	if (!count || fd_parcel_new(pair))
		return;
	if (fd_parcel_put(pair, fds, count) < count || !service_keep(service, pair, 2, WAITING))
		log_warning("not all of %zu connections without a request outlive this process",
			    count);
	close(pair[0]);
	close(pair[1]);
}
