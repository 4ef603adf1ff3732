/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of connections, and the translation of their packets in this process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/handoff.h"
#include "lib/queue_hash.h"
#include "lib/tcp_options.h"
#include "splice.h"
#include "splice_kernel.h"

#define PORT_FIRST 1024
#define PORT_TRIES 64

enum { FIN_CLIENT = 1, FIN_SERVER = 2, FIN_BOTH = 3 };

void splice_timeouts(struct splice_table *t, const struct bridge_timeouts *timeouts)
{
	const uint64_t lifetime_ms[SPLICE_STATES] = {
		[SPLICE_OPENING] = (uint64_t)timeouts->open_ms,
		[SPLICE_SPLICED] = (uint64_t)timeouts->idle_s * 1000,
		[SPLICE_CLOSING] = (uint64_t)timeouts->closing_s * 1000,
		[SPLICE_DEAD] = (uint64_t)timeouts->open_ms,
		[SPLICE_KERNEL] = (uint64_t)timeouts->open_ms,
	};

	for (unsigned int state = 0; state < SPLICE_STATES; state++)
		expiry_lifetime(&t->expiry, state, lifetime_ms[state]);
}

int splice_init(struct splice_table *t, uint32_t capacity, const struct bridge_timeouts *timeouts,
		unsigned int worker, unsigned int workers, struct counters *counters)
{
	static const uint64_t none[SPLICE_STATES];

	t->counters = counters;
	t->worker = worker;
	t->workers = workers;
	t->flows = calloc(capacity, sizeof(*t->flows));
	if (!t->flows || slots_init(&t->slots, capacity) || index_init(&t->from_client, capacity) ||
	    index_init(&t->from_server, capacity) ||
	    expiry_init(&t->expiry, capacity, none, SPLICE_STATES))
		return -ENOMEM;
	splice_timeouts(t, timeouts);
	return 0;
}

void splice_clean(struct splice_table *t)
{
	slots_clean(&t->slots);
	index_clean(&t->from_client);
	index_clean(&t->from_server);
	expiry_clean(&t->expiry);
	free(t->flows);
}

/* The place alone: what the kernel knows stays. */
static void forget(struct splice_table *t, uint32_t slot)
{
	expiry_remove(&t->expiry, slot);
	index_remove(&t->from_client, slot);
	index_remove(&t->from_server, slot);
	slots_put(&t->slots, slot);
}

/* First the copies, then the oldest of those that are over anyway. */
static void make_room(struct splice_table *t)
{
	uint32_t slot = expiry_oldest(&t->expiry, SPLICE_KERNEL);

	if (slot == SLOT_NONE) {
		slot = expiry_oldest(&t->expiry, SPLICE_CLOSING);
		if (slot == SLOT_NONE)
			return;
		counters_add(t->counters, COUNTER_SPLICES_ENDED, 1);
	}
	forget(t, slot);
}

static uint32_t take(struct splice_table *t, const struct tuple *from_client,
		     const struct tuple *from_server, enum splice_state state, uint64_t now_ms)
{
	uint32_t slot;

	if (t->slots.used == t->slots.capacity)
		make_room(t);
	slot = slots_take(&t->slots);
	if (slot == SLOT_NONE)
		return SLOT_NONE;
	index_insert(&t->from_client, slot, from_client);
	index_insert(&t->from_server, slot, from_server);
	expiry_set(&t->expiry, slot, state, now_ms);
	return slot;
}

/* A copy of what the kernel knows about the connection of this packet, if it does. */
static uint32_t recall(struct splice_table *t, const struct tuple *tuple, uint64_t now_ms)
{
	struct tuple from_client, from_server;
	struct splice_flow f;
	uint32_t slot;

	if (!t->kernel || !splice_kernel_find(t->kernel, tuple, &f))
		return SLOT_NONE;
	from_client = (struct tuple){
		.src = f.client.addr, .sport = f.client.port, .dst = f.vip.addr, .dport = f.vip.port
	};
	from_server = (struct tuple){ .src = f.server.addr,
				      .sport = f.server.port,
				      .dst = f.client.addr,
				      .dport = f.server_side_port };
	/* An offer that is about to replace it, or one of another way into the web server. */
	if (index_find(&t->from_client, &from_client) != SLOT_NONE ||
	    index_find(&t->from_server, &from_server) != SLOT_NONE)
		return SLOT_NONE;
	slot = take(t, &from_client, &from_server, SPLICE_KERNEL, now_ms);
	if (slot != SLOT_NONE)
		t->flows[slot] = f;
	return slot;
}

uint32_t splice_find_client(struct splice_table *t, const struct tuple *tuple, uint64_t now_ms)
{
	uint32_t slot = index_find(&t->from_client, tuple);

	return slot != SLOT_NONE ? slot : recall(t, tuple, now_ms);
}

uint32_t splice_find_server(struct splice_table *t, const struct tuple *tuple, uint64_t now_ms)
{
	uint32_t slot = index_find(&t->from_server, tuple);

	return slot != SLOT_NONE ? slot : recall(t, tuple, now_ms);
}

/*
 * The client's own port, or another one whose packets come back to this worker. False if there is none
 * among so many tries that it must be an attack.
 */
static bool choose_port(struct splice_table *t, struct tuple *from_server, bool shared,
			uint64_t now_ms)
{
	const uint16_t own = from_server->dport;

	for (unsigned int i = 0; i < PORT_TRIES; i++) {
		if (from_server->dport >= PORT_FIRST || from_server->dport == own) {
			bool ours =
				queue_hash(&from_server->dst, from_server->dport) % t->workers ==
				t->worker;

			if ((ours || from_server->dport == own) &&
			    index_find(&t->from_server, from_server) == SLOT_NONE &&
			    (!shared || recall(t, from_server, now_ms) == SLOT_NONE))
				return true;
		}
		/* An odd step, so that all ports would come in turn. */
		from_server->dport = (uint16_t)(from_server->dport + 7919);
	}
	return false;
}

uint32_t splice_open(struct splice_table *t, const struct endpoint *client,
		     const struct endpoint *vip, const struct endpoint *server, bool shared,
		     uint64_t now_ms)
{
	const struct tuple from_client = {
		.src = client->addr, .sport = client->port, .dst = vip->addr, .dport = vip->port
	};
	struct tuple from_server = { .src = server->addr,
				     .sport = server->port,
				     .dst = client->addr,
				     .dport = client->port };
	uint32_t slot;

	if (!choose_port(t, &from_server, shared, now_ms))
		return SLOT_NONE;
	slot = take(t, &from_client, &from_server, SPLICE_OPENING, now_ms);
	if (slot == SLOT_NONE)
		return SLOT_NONE;
	if (from_server.dport != client->port)
		counters_add(t->counters, COUNTER_PORT_CHANGED, 1);
	t->flows[slot] = (struct splice_flow){
		.client = *client,
		.vip = *vip,
		.server = *server,
		.server_side_port = from_server.dport,
	};
	return slot;
}

void splice_remove(struct splice_table *t, uint32_t slot)
{
	if (splice_state(t, slot) == SPLICE_KERNEL)
		splice_kernel_remove(t->kernel, &t->flows[slot]);
	forget(t, slot);
}

enum splice_state splice_state(const struct splice_table *t, uint32_t slot)
{
	return expiry_class(&t->expiry, slot);
}

void splice_set_state(struct splice_table *t, uint32_t slot, enum splice_state state,
		      uint64_t now_ms)
{
	if (splice_state(t, slot) == SPLICE_KERNEL)
		splice_kernel_remove(t->kernel, &t->flows[slot]);
	expiry_set(&t->expiry, slot, state, now_ms);
}

/*
 * Who translates it from now on: KERNEL, or SPLICED and why is counted. DEAD: nobody can. When connection
 * tracking is full it drops all packets that have no entry, and those of this connection would have none.
 */
static enum splice_state give_to_kernel(struct splice_table *t, const struct splice_flow *f,
					uint64_t now_ms)
{
	static struct log_limit scale_limit, failed_limit;
	int ret;

	if (!t->kernel)
		return SPLICE_SPLICED;
	if (!splice_kernel_translates(f)) {
		counters_add(t->counters, COUNTER_KERNEL_SCALE, 1);
		log_warning_limited(
			&scale_limit, now_ms,
			"the window scale of the web server is %u and clients were told "
			"%u: the daemon translates what the kernel cannot",
			f->numbers.server_shift, f->numbers.server_shift_client);
		return SPLICE_SPLICED;
	}
	ret = splice_kernel_add(t->kernel, f);
	if (ret) {
		counters_add(t->counters, COUNTER_KERNEL_FAILED, 1);
		log_warning_limited(
			&failed_limit, now_ms,
			"connection tracking did not take a connection: %s%s", strerror(-ret),
			ret == -ENOMEM ? " (is nf_conntrack_max reached?); offers are refused"
				       : "; the daemon translates it");
		return ret == -ENOMEM ? SPLICE_DEAD : SPLICE_SPLICED;
	}
	counters_add(t->counters, COUNTER_KERNEL_SPLICED, 1);
	return SPLICE_KERNEL;
}

enum handoff_reason splice_established(struct splice_table *t, uint32_t slot,
				       const struct packet *syn_ack, uint64_t now_ms)
{
	struct splice_flow *f = &t->flows[slot];
	struct splice *n = &f->numbers;
	struct tcp_options o;
	size_t len;
	const uint8_t *options = packet_options(syn_ack, &len);
	enum splice_state state;
	bool scaled;

	(void)tcp_options_parse(&o, options, len);
	n->timestamps = f->options & HANDOFF_TIMESTAMPS;
	/* The client drops segments without the timestamps it was promised (RFC 7323, 3.2). */
	if (n->timestamps && !o.timestamps)
		return HANDOFF_REASON_OPTIONS;

	f->next = f->isn_c + 1;
	n->seq_delta = f->isn_b - syn_ack->seq;
	n->ts_delta = n->timestamps ? o.tsval - f->ts_b : 0;
	scaled = f->options & HANDOFF_WSCALE && o.wscale >= 0;
	n->client_shift = f->wscale_client;
	n->client_shift_server = scaled ? f->wscale_client : 0;
	n->server_shift = scaled ? (uint8_t)o.wscale : 0;
	n->server_shift_client = f->wscale_balancer;
	state = give_to_kernel(t, f, now_ms);
	if (state == SPLICE_DEAD)
		return HANDOFF_REASON_FULL;
	if (n->server_shift != n->server_shift_client)
		counters_add(t->counters, COUNTER_SCALES_DIFFER, 1);
	counters_add(t->counters, COUNTER_SPLICED, 1);
	splice_set_state(t, slot, state, now_ms);
	return HANDOFF_REASON_NONE;
}

bool splice_repeats(const struct splice_table *t, uint32_t slot, const struct packet *syn_ack)
{
	const struct splice_flow *f = &t->flows[slot];

	return syn_ack->seq + f->numbers.seq_delta == f->isn_b && syn_ack->ack == f->isn_c + 1;
}

static void note_end(struct splice_table *t, uint32_t slot, const struct packet *p, uint8_t side,
		     uint64_t now_ms)
{
	struct splice_flow *f = &t->flows[slot];
	bool own, data;

	if (splice_state(t, slot) == SPLICE_KERNEL) {
		/* The kernel sees all of a connection but this. */
		if (side == FIN_SERVER && p->flags & TCP_RST)
			splice_kernel_end(t->kernel, f);
		return;
	}
	own = side == FIN_SERVER || seq_advance(&f->next, p);
	data = own && !(p->flags & (TCP_FIN | TCP_RST)) && packet_payload_len(p);
	if (own && p->flags & TCP_FIN)
		f->fin |= side;
	if (data) /* behind its FIN nobody sends data: it was forged, or this is late */
		f->fin &= (uint8_t)~side;
	if (splice_state(t, slot) == SPLICE_SPLICED &&
	    ((own && p->flags & TCP_RST) || f->fin == FIN_BOTH))
		splice_set_state(t, slot, SPLICE_CLOSING, now_ms);
	else if (splice_state(t, slot) == SPLICE_CLOSING && data && side == FIN_CLIENT)
		splice_set_state(t, slot, SPLICE_SPLICED, now_ms);
	else
		expiry_touch(&t->expiry, slot, now_ms);
}

void splice_to_server(struct splice_table *t, uint32_t slot, struct packet *p, uint64_t now_ms)
{
	const struct splice_flow *f = &t->flows[slot];

	note_end(t, slot, p, FIN_CLIENT, now_ms);
	rewrite_to_server(p, &f->numbers, f->server_side_port, &f->server);
	counters_add(t->counters, COUNTER_TO_SERVER, 1);
}

void splice_to_client(struct splice_table *t, uint32_t slot, struct packet *p, uint64_t now_ms)
{
	const struct splice_flow *f = &t->flows[slot];

	note_end(t, slot, p, FIN_SERVER, now_ms);
	rewrite_to_client(p, &f->numbers, &f->vip, f->client.port);
	counters_add(t->counters, COUNTER_TO_CLIENT, 1);
}

bool splice_translates(const struct splice_table *t, uint32_t slot)
{
	enum splice_state state = splice_state(t, slot);

	return state == SPLICE_SPLICED || state == SPLICE_CLOSING || state == SPLICE_KERNEL;
}

void splice_quote_to_server(struct splice_table *t, uint32_t slot, struct icmp_quote *q)
{
	const struct splice_flow *f = &t->flows[slot];

	icmp_quote_to_server(q, &f->numbers, f->server_side_port, &f->server);
	counters_add(t->counters, COUNTER_QUOTES_TRANSLATED, 1);
}

uint32_t splice_expired(struct splice_table *t, uint64_t now_ms)
{
	uint32_t slot;

	while ((slot = expiry_next(&t->expiry, SPLICE_SPLICED, now_ms)) != SLOT_NONE) {
		counters_add(t->counters, COUNTER_SPLICES_IDLE, 1);
		forget(t, slot);
	}
	while ((slot = expiry_next(&t->expiry, SPLICE_CLOSING, now_ms)) != SLOT_NONE) {
		counters_add(t->counters, COUNTER_SPLICES_ENDED, 1);
		forget(t, slot);
	}
	while ((slot = expiry_next(&t->expiry, SPLICE_DEAD, now_ms)) != SLOT_NONE)
		forget(t, slot);
	while ((slot = expiry_next(&t->expiry, SPLICE_KERNEL, now_ms)) != SLOT_NONE)
		forget(t, slot);
	return expiry_next(&t->expiry, SPLICE_OPENING, now_ms);
}

size_t splice_list(const struct splice_table *t, uint32_t *cursor, struct splice_row *rows,
		   size_t max)
{
	static const char *const states[] = {
		[SPLICE_OPENING] = "opening",
		[SPLICE_SPLICED] = "active",
		[SPLICE_CLOSING] = "closing",
	};
	size_t count = 0;

	/* As many slots as rows, so that it takes no longer when few are in use. */
	for (size_t i = 0; i < max && *cursor < t->slots.fresh; i++, (*cursor)++) {
		const struct splice_flow *f = &t->flows[*cursor];
		unsigned int state = expiry_class(&t->expiry, *cursor);

		if (state <= SPLICE_CLOSING)
			rows[count++] = (struct splice_row){ .client = f->client,
							     .vip = f->vip,
							     .server = f->server,
							     .state = states[state] };
	}
	if (*cursor >= t->slots.fresh)
		*cursor = SLOT_NONE;
	return count;
}

uint32_t splice_count(const struct splice_table *t)
{
	return __atomic_load_n(&t->slots.used, __ATOMIC_RELAXED);
}

uint32_t splice_live(const struct splice_table *t)
{
	return __atomic_load_n(&t->expiry.class[SPLICE_SPLICED].count, __ATOMIC_RELAXED);
}
