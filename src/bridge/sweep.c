/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading all entries of ours from the kernel, and ending those whose time is over. */
#include "sweep.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "os/log.h"
#include "os/worker.h"
#include "splice_kernel.h"

#define PORTION_MS  200	  /* of each second, at most */
#define WANTED_MS   10000 /* after somebody has asked for the number of connections */
#define COST	    100	  /* then, as many times as long as the last sweep took: the pause */
#define INTERVAL_MS 30000 /* between the begins of two sweeps, unless the timeouts are short */

#define COUNTER_OF_ENDED "ended" /* in nft/bridge.nft */

static const struct {
	const char *name;
	size_t offset;
} values[] = {
#define VALUE(name, member)                                                                        \
	{                                                                                          \
		"tcp_timeout_" name, offsetof(struct sweep_timeouts, member)                       \
	}
	VALUE("established", state[CONNTRACK_ESTABLISHED]),
	VALUE("fin_wait", state[CONNTRACK_FIN_WAIT]),
	VALUE("close_wait", state[CONNTRACK_CLOSE_WAIT]),
	VALUE("last_ack", state[CONNTRACK_LAST_ACK]),
	VALUE("time_wait", state[CONNTRACK_TIME_WAIT]),
	VALUE("close", state[CONNTRACK_CLOSE]),
	VALUE("max_retrans", retrans),
	VALUE("unacknowledged", unacknowledged),
#undef VALUE
};

const char *sweep_read_timeouts(struct sweep_timeouts *t)
{
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		uint32_t value;

		if (conntrack_sysctl(values[i].name, &value))
			return values[i].name;
		memcpy((uint8_t *)t + values[i].offset, &value, sizeof(value));
	}
	return NULL;
}

static uint32_t least(uint32_t idle, uint32_t timeout, uint32_t left)
{
	return timeout >= left && timeout - left < idle ? timeout - left : idle;
}

uint32_t sweep_idle_s(const struct sweep_timeouts *t, uint8_t state, uint32_t left_s)
{
	uint32_t whole, idle;

	if (state > CONNTRACK_CLOSE)
		return 0;
	whole = t->state[state];
	if (left_s > whole) /* made with another timeout, or that was changed */
		return 0;
	idle = whole - left_s;
	if (t->retrans < whole)
		idle = least(idle, t->retrans, left_s);
	if (t->unacknowledged < whole)
		idle = least(idle, t->unacknowledged, left_s);
	if (t->state[CONNTRACK_CLOSE] < whole)
		idle = least(idle, t->state[CONNTRACK_CLOSE], left_s);
	/* What is left was rounded down (nf_ct_expires() / HZ). */
	return idle ? idle - 1 : 0;
}

bool sweep_closing(const struct conntrack_entry *e)
{
	const uint32_t both = SPLICE_KERNEL_ENDED | SPLICE_KERNEL_CLIENT_ENDED;

	if (e->state == CONNTRACK_CLOSE)
		return e->mark & SPLICE_KERNEL_ENDED || !e->fin_first;
	return e->state >= CONNTRACK_LAST_ACK && (e->mark & both) == both;
}

static void remove_over(struct sweep *s)
{
	bool gone[CONNTRACK_BATCH];

	if (!s->over_count)
		return;
	if (conntrack_delete_many(&s->remove, s->over, s->over_count, gone) == 0) {
		for (size_t i = 0; i < s->over_count; i++) {
			bool closing = sweep_closing(&s->over[i]);

			counters_add(s->counters,
				     closing ? COUNTER_SPLICES_ENDED : COUNTER_SPLICES_IDLE,
				     gone[i]);
		}
	}
	s->over_count = 0;
}

static void look(void *context, const struct conntrack_entry *e)
{
	struct sweep *s = context;
	bool closing = sweep_closing(e);
	uint32_t idle_s = sweep_idle_s(&s->timeouts, e->state, e->timeout_s);

	if (s->spare || idle_s < (closing ? s->closing_s : s->idle_s)) {
		s->seen += !closing && !(e->mark & SPLICE_KERNEL_ENDED);
		return;
	}
	s->over[s->over_count++] = *e;
	if (s->over_count == CONNTRACK_BATCH)
		remove_over(s);
}

/*
 * The counter begins again when the table was deleted and loaded, or somebody has reset it. While there is
 * none, only the next sweep sees what has ended.
 */
static uint64_t ended(struct sweep *s)
{
	uint64_t packets;

	if (!nft_counter_get(&s->nft, COUNTER_OF_ENDED, &packets)) {
		s->ended += packets < s->ended_last ? packets : packets - s->ended_last;
		s->ended_last = packets;
	}
	return s->ended;
}

/* They may be changed at any time. What the entries have left is of the old ones for a while. */
static void read_again(struct sweep *s, uint64_t now_ms)
{
	const struct sweep_timeouts before = s->timeouts;

	if (!sweep_read_timeouts(&s->timeouts) && memcmp(&before, &s->timeouts, sizeof(before)))
		s->spare_until_ms = now_ms + (uint64_t)s->idle_s * 1000;
}

static uint64_t least_ms(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What the web server has ended is left out, unless it is time to look whether it can go. */
static void begin(struct sweep *s, uint64_t given, uint64_t now_ms)
{
	uint64_t closing_ms = (uint64_t)s->closing_s * 1000;
	uint32_t mask = SPLICE_KERNEL_MASK | SPLICE_KERNEL_ENDED;

	s->next_ms =
		now_ms + least_ms(INTERVAL_MS, least_ms(closing_ms, (uint64_t)s->idle_s * 500));
	if (now_ms >= s->next_ended_ms) {
		s->next_ended_ms = now_ms + closing_ms;
		mask = SPLICE_KERNEL_MASK;
	}
	s->seen = 0;
	s->given_now = given;
	s->ended_now = ended(s);
	s->took_ms = 0;
	read_again(s, now_ms);
	s->spare = now_ms < s->spare_until_ms;
	s->running = conntrack_dump(&s->dump, SPLICE_KERNEL_MARK, mask) == 0;
}

/* One more portion; 0 or -errno. */
static int go_on(struct sweep *s, uint64_t until_ms)
{
	uint64_t begun_ms = clock_ms();
	int ret;

	do
		ret = conntrack_dump_next(&s->dump, look, s);
	while (ret > 0 && clock_ms() < until_ms);
	remove_over(s);
	s->took_ms += clock_ms() - begun_ms;
	if (ret > 0)
		return 0;
	s->running = false;
	s->soon_ms = clock_ms() + COST * s->took_ms;
	if (!ret) {
		__atomic_store_n(&s->flows, s->seen, __ATOMIC_RELAXED);
		s->given = s->given_now;
		s->ended_then = s->ended_now;
	}
	return ret;
}

void sweep_settings(struct sweep *s, const struct bridge_settings *settings)
{
	s->idle_s = (uint32_t)settings->timeouts.idle_s;
	s->closing_s = (uint32_t)settings->timeouts.closing_s;
}

int sweep_init(struct sweep *s, const char *table, const struct bridge_settings *settings,
	       struct counters *counters)
{
	int ret;

	s->counters = counters;
	sweep_settings(s, settings);
	ret = conntrack_open(&s->dump);
	if (!ret)
		ret = conntrack_open(&s->remove);
	if (!ret)
		ret = nft_reader_open(&s->nft, table);
	if (ret)
		return ret;
	if (sweep_read_timeouts(&s->timeouts))
		return -EIO;
	begin(s, 0, clock_ms());
	ret = s->running ? go_on(s, UINT64_MAX) : -EIO;
	if (ret)
		log_error("cannot read the entries of connection tracking: %s", strerror(-ret));
	else if (s->flows)
		log_info("%u connections are in the kernel already and go on", s->flows);
	return ret;
}

void sweep_clean(struct sweep *s)
{
	conntrack_close(&s->dump);
	conntrack_close(&s->remove);
	nft_reader_close(&s->nft);
}

uint32_t sweep_live(struct sweep *s, uint64_t given, uint64_t now_ms)
{
	uint64_t had = s->flows + (given - s->given), over = ended(s) - s->ended_then;

	s->wanted_until_ms = now_ms + WANTED_MS;
	return had > over ? (uint32_t)(had - over) : 0;
}

void sweep_tick(struct sweep *s, uint64_t given, uint64_t now_ms)
{
	static struct log_limit limit;
	int ret;

	bool wanted = now_ms < s->wanted_until_ms && now_ms >= s->soon_ms;

	if (!s->running && now_ms < s->next_ms && !wanted)
		return;
	if (!s->running)
		begin(s, given, now_ms);
	ret = s->running ? go_on(s, now_ms + PORTION_MS) : -EIO;
	if (ret)
		log_warning_limited(&limit, now_ms,
				    "cannot read the entries of connection tracking: %s",
				    strerror(-ret));
}
