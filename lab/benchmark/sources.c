/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loaded into wrk, which knows one address only: each connection comes from the next one of many. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

/* Of the client host in the lab: 192.168.33.101 to .120. */
#define FIRST 0xc0a82165u
#define COUNT 20

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	static _Atomic unsigned int number;
	static int (*real)(int, const struct sockaddr *, socklen_t);
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(FIRST + number++ % COUNT),
	};
	int yes = 1;

	if (!real)
		real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT,
									       "connect");
	/* The port is chosen by connect(), so that one may be in use with each destination. */
	if (to->sa_family == AF_INET &&
	    (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes)) ||
	     bind(fd, (struct sockaddr *)&from, sizeof(from))))
		return -1;
	return real(fd, to, len);
}
