/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw sockets: the kernel routes by the destination in our header and takes our source as it is. */
#include "inject.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

#define INJECT_MAX 512 /* headers with all options and a record */

int inject_open(struct inject *inject, struct counters *counters, uint32_t mark)
{
	int ret;

	inject->counters = counters;
	/* IPPROTO_RAW implies IP_HDRINCL, and never receives anything. */
	inject->fd4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (inject->fd4 >= 0 &&
	    setsockopt(inject->fd4, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0)
		return 0;
	ret = -errno;
	log_error_errno("cannot open a raw socket (CAP_NET_RAW and CAP_NET_ADMIN are needed)");
	return ret;
}

void inject_close(struct inject *inject)
{
	if (inject->fd4 >= 0)
		close(inject->fd4);
	inject->fd4 = -1;
}

void inject_send(struct inject *inject, const uint8_t *packet, size_t len)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	memcpy(&to.sin_addr, packet + 16, 4);
	if (sendto(inject->fd4, packet, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0)
		counters_add(inject->counters, COUNTER_INJECT_FAILED, 1);
	else
		counters_add(inject->counters, COUNTER_INJECTED, 1);
}

void inject_build(struct inject *inject, const struct packet_spec *spec)
{
	uint8_t buf[INJECT_MAX];
	size_t len = packet_build(spec, buf, sizeof(buf));

	if (len)
		inject_send(inject, buf, len);
	else
		counters_add(inject->counters, COUNTER_INJECT_FAILED, 1);
}
