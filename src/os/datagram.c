/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP sockets, bound to addresses that may not be there yet. */
#include "datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

static bool bind_free(int fd, const struct sockaddr *address, socklen_t len)
{
	static const int on = 1;

	return setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)) == 0 &&
	       bind(fd, address, len) == 0;
}

int datagram_open(const struct addr *addr, uint16_t port, const char *setting)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(addr, port, &ss);
	const struct sockaddr *address = (const struct sockaddr *)&ss;
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char text[ADDR_STRLEN];
	int saved;

	if (fd < 0 || bind(fd, address, len) == 0)
		return fd;
	if (errno == EADDRNOTAVAIL && bind_free(fd, address, len)) {
		log_warning("%s, %s, is no address of this host yet", addr_format(addr, text),
			    setting);
		return fd;
	}
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}
