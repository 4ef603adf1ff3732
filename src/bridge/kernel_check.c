/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel's data plane needs of the kernel, looked at before it is used. */
#include "kernel_check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/addr.h"
#include "lib/handoff.h"
#include "os/conntrack.h"
#include "os/log.h"
#include "os/sysctl.h"
#include "splice_kernel.h"
#include "sweep.h"

#define CONGESTION_CONTROL "/proc/sys/net/ipv4/tcp_congestion_control"
#define SYSCTL_FILE	   "50-l3dsr-bridge.conf"
#define FAR_US		   150000 /* tcp_rto_min is 200 ms */

/* Otherwise any packet would make an entry, in the way of ours, and of those that have none. */
static bool check_loose(void)
{
	static const struct sysctl_want loose = { "net.netfilter.nf_conntrack_tcp_loose", 0,
						  SYSCTL_FILE };

	return sysctl_check(&loose, log_error);
}

static void check_room(uint32_t flows)
{
	uint32_t max;

	if (conntrack_sysctl("max", &max) == 0 && max < flows)
		log_warning("%smax is %u, less than limits.flows = %u: offers are refused when "
			    "there are so many connections",
			    CONNTRACK_SYSCTL, max, flows);
}

static void check_long_enough(const char *name, uint32_t value, uint32_t idle_s)
{
	if (value < idle_s)
		log_warning("%stcp_timeout_%s is %u, shorter than timeouts.idle_s = %u: such "
			    "connections end before their time (see " SYSCTLDIR "/%s)",
			    CONNTRACK_SYSCTL, name, value, idle_s, SYSCTL_FILE);
}

static bool check_timeouts(uint32_t idle_s)
{
	struct sweep_timeouts t;
	const char *missing = sweep_read_timeouts(&t);

	if (missing) {
		log_error("%s%s cannot be read", CONNTRACK_SYSCTL, missing);
		return false;
	}
	check_long_enough("established", t.state[CONNTRACK_ESTABLISHED], idle_s);
	check_long_enough("fin_wait", t.state[CONNTRACK_FIN_WAIT], idle_s);
	check_long_enough("close_wait", t.state[CONNTRACK_CLOSE_WAIT], idle_s);
	/* Anybody may have said FIN, twice, and then ACK. */
	check_long_enough("last_ack", t.state[CONNTRACK_LAST_ACK], idle_s);
	check_long_enough("time_wait", t.state[CONNTRACK_TIME_WAIT], idle_s);
	/* Anybody's reset, even if it is not believed, leaves a connection no more than this. */
	check_long_enough("close", t.state[CONNTRACK_CLOSE], idle_s);
	check_long_enough("max_retrans", t.retrans, idle_s);
	check_long_enough("unacknowledged", t.unacknowledged, idle_s);
	return true;
}

static bool same(const struct conntrack_entry *a, const struct conntrack_entry *b)
{
	return !memcmp(&a->original, &b->original, sizeof(a->original)) &&
	       !memcmp(&a->reply, &b->reply, sizeof(a->reply)) && a->isn_n == b->isn_n &&
	       a->seq_delta == b->seq_delta && a->ts_delta == b->ts_delta;
}

/* An entry for a client that cannot be (RFC 5737), which is read back and removed. */
static bool try_out(const struct service_settings *service)
{
	static const uint8_t nobody[4] = { 192, 0, 2, 1 };
	const struct addr client = addr_from_bytes(4, nobody);
	const struct conntrack_entry entry = {
		.original = { .src = client,
			      .sport = 1,
			      .dst = service->vip,
			      .dport = (uint16_t)service->port },
		.reply = { .src = service->server,
			   .sport = (uint16_t)service->server_port,
			   .dst = client,
			   .dport = 1 },
		.mark = SPLICE_KERNEL_MARK,
		.isn_c = 1,
		.isn_n = 2,
		.seq_delta = 3,
		.ts_delta = 4,
		.state = CONNTRACK_CLOSE,
		.timeout_s = 1,
	};
	struct conntrack_entry found;
	struct conntrack conntrack;
	int ret = conntrack_open(&conntrack);

	if (ret)
		return false;
	ret = conntrack_create(&conntrack, &entry);
	if (!ret)
		ret = conntrack_get(&conntrack, &entry.reply, &found);
	if (!ret && !same(&found, &entry))
		ret = -EOPNOTSUPP;
	if (!ret)
		ret = conntrack_delete(&conntrack, &found);
	conntrack_close(&conntrack);
	if (ret)
		log_error(
			"connection tracking does not take an entry with translation: %s (it wants "
			"CONFIG_NF_CT_NETLINK, CONFIG_NF_NAT and CONFIG_NETFILTER_SYNPROXY)",
			strerror(-ret));
	return !ret;
}

uint32_t kernel_far_us(void)
{
	FILE *file = fopen(CONGESTION_CONTROL, "re");
	char name[32] = "";

	if (file) {
		if (!fgets(name, sizeof(name), file))
			name[0] = '\0';
		fclose(file);
	}
	return strncmp(name, "bbr", strlen("bbr")) ? FAR_US : HANDOFF_FAR_US;
}

bool kernel_check(const struct bridge_settings *settings)
{
	bool loose = check_loose(), timeouts = check_timeouts((uint32_t)settings->timeouts.idle_s);

	check_room((uint32_t)settings->limits.flows);
	return loose && timeouts && try_out(&settings->services[0]);
}
