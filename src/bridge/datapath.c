/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of a packet through the bridge: a list of steps, each of which may give the verdict. */
#include "datapath.h"

#include "bridge.h"
#include "lib/icmp_quote.h"

/* All of a step's view on one packet. */
struct step {
	struct bridge_worker *w;
	struct queue_packet *qp;
	struct packet p;
	const struct service_settings *service;
	uint64_t now_ms;
};

static void drop(struct step *s, enum counter why)
{
	counters_add(&s->w->counters, why, 1);
	queue_drop(s->w->worker.queue, s->qp->queue, s->qp->id);
}

static void accept_translated(struct step *s)
{
	queue_accept_changed(s->w->worker.queue, s->qp->queue, s->qp->id, s->p.data, s->p.len,
			     MARK_TRANSLATED);
}

/* An ICMP error that a balancer steered here, about an answer of the web server. */
static bool step_quote(struct step *s)
{
	struct splice_table *splices = &s->w->splices;
	enum packet_fault fault;
	struct icmp_quote q;
	struct tuple tuple;
	uint32_t slot;

	fault = icmp_quote_parse(&q, s->qp->data, s->qp->len);
	if (fault != PACKET_OK) {
		drop(s, counter_of_packet_fault(fault));
		return true;
	}
	q.checksum = s->qp->checksum;
	if (q.checksum != CHECKSUM_PARTIAL && !icmp_quote_checksum_ok(&q)) {
		drop(s, COUNTER_DROP_CHECKSUM);
		return true;
	}
	if (addr_equal(&q.tuple.src, &s->w->generation->settings->address)) {
		/* About a connection of the bridge's own address, of which we know nothing. */
		counters_add(&s->w->counters, COUNTER_PASSED, 1);
		queue_accept(s->w->worker.queue, s->qp->queue, s->qp->id);
		return true;
	}
	if (!addr_equal(&q.dst, &q.tuple.src)) { /* the ruleset puts the VIP of the index in */
		drop(s, COUNTER_DROP_UNKNOWN_INDEX);
		return true;
	}
	tuple = tuple_reverse(&q.tuple);
	slot = splice_find_client(splices, &tuple, s->now_ms);
	if (slot == SLOT_NONE || !splice_translates(splices, slot)) {
		drop(s, COUNTER_DROP_QUOTE_UNKNOWN);
		return true;
	}
	splice_quote_to_server(splices, slot, &q);
	queue_accept_changed(s->w->worker.queue, s->qp->queue, s->qp->id, q.data, q.len, 0);
	return true;
}

static bool step_parse(struct step *s)
{
	enum packet_fault fault = packet_parse(&s->p, s->qp->data, s->qp->len);

	if (fault == PACKET_NOT_TCP)
		return step_quote(s);
	if (fault != PACKET_OK) {
		drop(s, counter_of_packet_fault(fault));
		return true;
	}
	s->p.checksum = s->qp->checksum;
	return false;
}

/* A connection that came to the web server by itself; the ruleset learns it from the mark. */
static void pass_direct(struct step *s)
{
	counters_add(&s->w->counters, COUNTER_PASSED, 1);
	queue_accept_marked(s->w->worker.queue, s->qp->queue, s->qp->id, MARK_DIRECT);
}

/*
 * The web server repeats its SYN-ACK: what should have completed its handshake was lost behind the
 * balancer. A client with something to say repeats that by itself; one that waits for the server's words
 * does not, so it gets the SYN-ACK, for which it repeats its ACK (RFC 9293, 3.10.7.4).
 */
static void syn_ack_repeated(struct step *s, uint32_t slot)
{
	struct splice_table *splices = &s->w->splices;
	struct splice_flow *f = &splices->flows[slot];

	if (f->asked_again || !(f->options & HANDOFF_SILENT)) {
		f->asked_again = false;
		drop(s, COUNTER_DROP_SWALLOWED);
		return;
	}
	counters_add(&s->w->counters, COUNTER_SYN_ACKS_PASSED, 1);
	splice_to_client(splices, slot, &s->p, s->now_ms);
	accept_translated(s);
}

/* From the web server: what belongs to no connection of a balancer is none of our business. */
static bool step_server(struct step *s)
{
	struct splice_table *splices = &s->w->splices;
	uint32_t slot;

	if (!s->qp->output)
		return false;
	slot = splice_find_server(splices, &s->p.tuple, s->now_ms);
	if (slot == SLOT_NONE) {
		pass_direct(s);
	} else if (!splice_translates(splices, slot)) {
		open_server_packet(s->w, slot, &s->p, s->qp, s->now_ms);
	} else if (!(s->p.flags & TCP_SYN)) {
		splice_to_client(splices, slot, &s->p, s->now_ms);
		accept_translated(s);
	} else if (splice_repeats(splices, slot, &s->p)) {
		syn_ack_repeated(s, slot);
	} else {
		/* The web server has forgotten the old one and takes a new one, not from us. */
		counters_add(&s->w->counters, COUNTER_SPLICES_ENDED, 1);
		splice_remove(splices, slot);
		pass_direct(s);
	}
	return true;
}

/* From here on: from a balancer. The ruleset has put the VIP of the index in as destination. */
static bool step_service(struct step *s)
{
	s->service =
		generation_service(s->w->generation, &s->p.tuple.dst, s->p.tuple.dport, s->p.dscp);
	return false;
}

static bool step_record(struct step *s)
{
	if (!packet_is_syn(&s->p) || !packet_payload_len(&s->p))
		return false;
	if (probe_packet(s->w, &s->p, s->qp, s->now_ms))
		return true;
	open_record(s->w, &s->p, s->qp, s->service, s->now_ms);
	return true;
}

static bool step_unknown_service(struct step *s)
{
	if (s->service)
		return false;
	drop(s, COUNTER_DROP_UNKNOWN_INDEX);
	return true;
}

static bool step_client(struct step *s)
{
	struct splice_table *splices = &s->w->splices;
	uint32_t slot = splice_find_client(splices, &s->p.tuple, s->now_ms);

	if (slot == SLOT_NONE)
		return false;
	switch (splice_state(splices, slot)) {
	case SPLICE_OPENING:
		drop(s, COUNTER_DROP_EARLY);
		return true;
	case SPLICE_DEAD:
		return false;
	default:
		splice_to_server(splices, slot, &s->p, s->now_ms);
		accept_translated(s);
		return true;
	}
}

/* A connection that nobody knows: the client shall fail at once and not hang. */
static bool step_unknown(struct step *s)
{
	struct packet_spec spec = {
		.tuple = tuple_reverse(&s->p.tuple),
		.seq = s->p.ack,
		.ack = s->p.seq + packet_seq_len(&s->p),
		.flags = s->p.flags & TCP_ACK ? TCP_RST : TCP_RST | TCP_ACK,
	};

	if (s->p.checksum == CHECKSUM_UNVERIFIED && !packet_tcp_checksum_ok(&s->p)) {
		drop(s, COUNTER_DROP_CHECKSUM);
	} else if (s->p.flags & TCP_RST) {
		drop(s, COUNTER_DROP_UNKNOWN);
	} else if (s->p.flags & TCP_SYN) {
		drop(s, COUNTER_DROP_NO_RECORD);
	} else {
		/* RFC 9293, 3.10.7.1: with an ACK, <SEQ=SEG.ACK><CTL=RST> */
		if (s->p.flags & TCP_ACK)
			spec.ack = 0;
		else
			spec.seq = 0;
		inject_build(&s->w->inject, &spec);
		drop(s, COUNTER_UNKNOWN_RESET);
	}
	return true;
}

static void packet(void *context, struct queue_packet *qp, uint64_t now_ms)
{
	static bool (*const steps[])(struct step *) = {
		step_parse,  step_server,	   step_service, step_record,
		step_client, step_unknown_service, step_unknown,
	};
	struct step s = { .w = context, .qp = qp, .now_ms = now_ms };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (steps[i](&s))
			return;
}

static int tick(void *context, uint64_t now_ms)
{
	open_expire(context, now_ms);
	return WORKER_TICK_MS;
}

static void adopt(void *context, void *configuration, uint64_t now_ms)
{
	struct bridge_worker *w = context;
	const struct generation *g = configuration;

	(void)now_ms;
	w->generation = g;
	splice_timeouts(&w->splices, &g->settings->timeouts);
}

/* Nothing is held here: every packet got its verdict when it came. */
const struct worker_role bridge_role = {
	.packet = packet,
	.tick = tick,
	.adopt = adopt,
};
