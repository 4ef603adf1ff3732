/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors by name, and parcels of them. */
#include "fd_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "log.h"

int fd_store_open(struct fd_store *s)
{
	int count = sd_listen_fds_with_names(1, &s->name);

	s->count = 0;
	s->fd = NULL;
	if (count > 0)
		s->fd = calloc((size_t)count, sizeof(*s->fd));
	if (count < 0 || (count && !s->fd)) {
		log_error("cannot take what the service manager has kept: %s",
			  strerror(count < 0 ? -count : ENOMEM));
		return count < 0 ? count : -ENOMEM;
	}
	for (int i = 0; i < count; i++)
		s->fd[s->count++] = SD_LISTEN_FDS_START + i;
	return 0;
}

void fd_store_close(struct fd_store *s)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->fd[i] >= 0)
			close(s->fd[i]);
		free(s->name[i]);
	}
	free(s->name);
	free(s->fd);
	*s = (struct fd_store){ 0 };
}

/* Its place, or count. */
static size_t find(const struct fd_store *s, const char *name)
{
	size_t i = 0;

	while (i < s->count && (s->fd[i] < 0 || (name && strcmp(s->name[i], name))))
		i++;
	return i;
}

static int take(struct fd_store *s, size_t i)
{
	int fd = i < s->count ? s->fd[i] : -1;

	if (fd >= 0)
		s->fd[i] = -1;
	return fd;
}

bool fd_store_has(const struct fd_store *s, const char *name)
{
	return find(s, name) < s->count;
}

int fd_store_take(struct fd_store *s, const char *name)
{
	return take(s, find(s, name));
}

int fd_store_take_any(struct fd_store *s)
{
	return take(s, find(s, NULL));
}

/* Parcels */

int fd_parcel_new(int pair[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) ? -errno
											   : 0;
}

union control {
	char buf[CMSG_SPACE(FD_PARCEL_BATCH * sizeof(int))];
	struct cmsghdr align;
};

static bool put_batch(int fd, const int *fds, size_t count)
{
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == 1;
}

size_t fd_parcel_put(const int pair[2], const int *fds, size_t count)
{
	size_t done = 0;

	while (done < count) {
		size_t batch = count - done < FD_PARCEL_BATCH ? count - done : FD_PARCEL_BATCH;

		if (!put_batch(pair[1], fds + done, batch))
			break;
		done += batch;
	}
	return done;
}

size_t fd_parcel_get(int fd, int fds[FD_PARCEL_BATCH])
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union control control;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *cmsg;
	size_t count;

	if (recvmsg(fd, &msg, MSG_CMSG_CLOEXEC) != 1)
		return 0;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
		return 0;
	count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(cmsg), count * sizeof(int));
	return count;
}
