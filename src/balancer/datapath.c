/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of a packet through the balancer: a list of steps, each of which may give the verdict. */
#include "datapath.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "balancer.h"
#include "lib/icmp_quote.h"
#include "marks.h"

/* All of a step's view on one packet. */
struct step {
	struct balancer_worker *w;
	struct queue_packet *qp;
	struct packet p;
	const struct service_settings *service;
	uint64_t now_ms;
	bool begins_anew; /* on a connection that the kernel's maps still have */
};

static void drop(struct step *s, enum counter why)
{
	counters_add(&s->w->counters, why, 1);
	queue_drop(s->w->worker.queue, s->qp->queue, s->qp->id);
}

static void accept_unchanged(struct step *s)
{
	if (s->begins_anew)
		queue_accept_marked(s->w->worker.queue, s->qp->queue, s->qp->id, MARK_FORGET);
	else
		mark_accept(s->w->worker.queue, s->qp);
}

/* Ask the kernel's maps. */
static const struct addr *bridge_in_kernel(struct balancer_worker *w, const struct tuple *tuple)
{
	uint8_t key[16] = { 0 };
	uint32_t number;

	memcpy(key, tuple->src.bytes, 4);
	put_be16(key + 4, tuple->sport);
	memcpy(key + 8, tuple->dst.bytes, 4);
	put_be16(key + 12, tuple->dport);
	if (nft_map_get(&w->nft, "flows4", key, sizeof(key), &number, sizeof(number)) &&
	    nft_map_get(&w->nft, "closing4", key, sizeof(key), &number, sizeof(number)))
		return NULL;
	return bridges_address(w->bridges, number);
}

/*
 * Ask the kernel: the configuration may have lost the VIP of a connection that goes on. 0 if there is
 * none.
 */
static uint8_t index_in_kernel(struct balancer_worker *w, const struct addr *vip)
{
	char chain[NFT_CHAIN_LEN];
	unsigned int index;

	if (nft_map_get(&w->nft, "indexes4", vip->bytes, 4, chain, sizeof(chain)) ||
	    sscanf(chain, INDEX_CHAIN, &index) != 1 || index > INDEX_MAX)
		return 0;
	return (uint8_t)index;
}

/* Where the connection of @tuple (client to VIP) was handed over to, and its index; or NULL. */
static const struct addr *bridge_of(struct balancer_worker *w, const struct tuple *tuple,
				    uint8_t *index)
{
	uint32_t flow = steer_find(&w->steer, tuple);
	const struct addr *bridge;

	if (flow != SLOT_NONE)
		return steer_bridge(&w->steer, flow, index);
	bridge = bridge_in_kernel(w, tuple);
	if (!bridge)
		return NULL;
	*index = index_in_kernel(w, &tuple->dst);
	return *index ? bridge : NULL;
}

/* An ICMP error to a VIP. What quotes no steered flow is about a handshake of our kernel. */
static bool step_quote(struct step *s)
{
	struct balancer_worker *w = s->w;
	const struct addr *bridge;
	enum packet_fault fault;
	struct icmp_quote q;
	struct tuple tuple;
	uint8_t index;

	fault = icmp_quote_parse(&q, s->qp->data, s->qp->len);
	if (fault != PACKET_OK) {
		drop(s, counter_of_packet_fault(fault));
		return true;
	}
	tuple = tuple_reverse(&q.tuple);
	bridge = bridge_of(w, &tuple, &index);
	if (!bridge) {
		counters_add(&w->counters, COUNTER_PASSED, 1);
		accept_unchanged(s);
		return true;
	}
	icmp_quote_to_bridge(&q, bridge, index);
	counters_add(&w->counters, COUNTER_QUOTES_STEERED, 1);
	queue_accept_changed(w->worker.queue, s->qp->queue, s->qp->id, q.data, q.len, 0);
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

/* What the kernel says to a client. */
static bool step_output(struct step *s)
{
	struct balancer_worker *w = s->w;
	bool syn_ack = (s->p.flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
	struct tuple tuple;
	uint32_t flow;

	if (!s->qp->output)
		return false;
	tuple = tuple_reverse(&s->p.tuple);
	flow = steer_find(&w->steer, &tuple);
	if (flow != SLOT_NONE &&
	    !(steer_contested(&w->steer, flow) && (syn_ack || snoop_challenge(&w->snoop, &s->p)))) {
		drop(s, COUNTER_DROP_SILENCED);
		return true;
	}
	if (syn_ack)
		snoop_syn_ack(&w->snoop, &s->p, s->now_ms);
	accept_unchanged(s);
	return true;
}

/* The sets of the ruleset may name a service that is gone: its connections go on to their end. */
static bool step_service(struct step *s)
{
	s->service = generation_service(s->w->generation, &s->p.tuple.dst, s->p.tuple.dport);
	if (s->service || !packet_is_syn(&s->p))
		return false;
	counters_add(&s->w->counters, COUNTER_PASSED, 1);
	accept_unchanged(s);
	return true;
}

/* A connection that the kernel's maps have, with a SYN on it. @flow: what is known of it here. */
static bool step_contested(struct step *s, uint32_t flow, uint32_t number)
{
	struct balancer_worker *w = s->w;
	bool first;

	if (snoop_refused(&w->snoop, &s->p))
		return false;
	if (snoop_begins(&w->snoop, &s->p, &first)) {
		if (flow != SLOT_NONE)
			steer_replace(&w->steer, flow);
		else if (first) /* else the kernel has not forgotten it yet */
			counters_add(&w->counters, COUNTER_FLOWS_REUSED, 1);
		s->begins_anew = true;
		return false;
	}
	counters_add(&w->counters, COUNTER_STEERED, 1);
	queue_accept_marked(w->worker.queue, s->qp->queue, s->qp->id, MARK_STEER | number);
	return true;
}

/* Has the client begun anew with our kernel, past us? That, too, takes an ACK of the kernel's ISN. */
static bool begins_at_socket(struct step *s, uint32_t flow)
{
	struct handshake hs;

	if (s->qp->mark != MARK_PENDING || !(s->p.flags & TCP_ACK) ||
	    steer_just_added(&s->w->steer, flow))
		return false;
	if (!listener_handshake(&s->w->listener, &s->p.tuple, &hs))
		datapath_accept(s->w, s->now_ms);
	return listener_handshake(&s->w->listener, &s->p.tuple, &hs) && s->p.ack == hs.isn_b + 1 &&
	       s->p.seq - (hs.isn_c + 1) <= UINT16_MAX;
}

/*
 * A SYN goes to our kernel, as that of a new connection. Until somebody has acknowledged what our
 * kernel answers, the packets are those of the old one, but for the reset that refuses the answer.
 */
static bool step_steered(struct step *s)
{
	struct balancer_worker *w = s->w;
	uint32_t flow = steer_find(&w->steer, &s->p.tuple);
	uint32_t number = mark_contested(s->qp), mark;
	bool first;

	/* If there was no SYN on a flow here, it is the new one, younger than the mark of the packet. */
	if (number && !packet_is_syn(&s->p) &&
	    (flow == SLOT_NONE || steer_contested(&w->steer, flow)))
		return step_contested(s, flow, number);
	if (flow == SLOT_NONE)
		return false;
	if (packet_is_syn(&s->p)) {
		/* Our kernel may still have a socket of the old one, which would answer. */
		datapath_accept(w, s->now_ms);
		listener_close_silent(&w->listener, &s->p.tuple);
		steer_contest(&w->steer, flow);
		return false;
	}
	if (steer_contested(&w->steer, flow) && snoop_refused(&w->snoop, &s->p))
		return false;
	if ((steer_contested(&w->steer, flow) && snoop_begins(&w->snoop, &s->p, &first)) ||
	    begins_at_socket(s, flow)) {
		steer_replace(&w->steer, flow);
		return false;
	}
	if (steer_doubtful(&w->steer, flow, s->now_ms) && !bridge_in_kernel(w, &s->p.tuple))
		steer_not_learned(&w->steer, flow, s->now_ms);
	mark = steer_packet(&w->steer, flow, &s->p, s->now_ms);
	if (mark)
		queue_accept_marked(w->worker.queue, s->qp->queue, s->qp->id, mark);
	else
		queue_accept_changed(w->worker.queue, s->qp->queue, s->qp->id, s->p.data, s->p.len,
				     mark_for_kernel(s->qp));
	return true;
}

/* What the steps above have not found is the kernel's, but for what is held. */
static bool step_gone(struct step *s)
{
	if (s->service || handover_find(&s->w->handovers, &s->p.tuple) != SLOT_NONE)
		return false;
	counters_add(&s->w->counters, COUNTER_PASSED, 1);
	accept_unchanged(s);
	return true;
}

static bool step_syn(struct step *s)
{
	struct balancer_worker *w = s->w;

	if (!packet_is_syn(&s->p))
		return false;
	snoop_syn(&w->snoop, &s->p, s->now_ms);
	accept_unchanged(s);
	return true;
}

/* Held bytes get a new checksum when they are released: the old one must have been right. */
static bool step_checksum(struct step *s)
{
	if (s->p.checksum != CHECKSUM_UNVERIFIED || packet_tcp_checksum_ok(&s->p))
		return false;
	drop(s, COUNTER_DROP_CHECKSUM);
	return true;
}

static bool step_handover(struct step *s)
{
	uint32_t handover = handover_find(&s->w->handovers, &s->p.tuple);

	if (handover == SLOT_NONE)
		return false;
	handover_packet(s->w, handover, &s->p, s->qp, s->now_ms);
	return true;
}

/* Where the server speaks first, nothing is to be waited for, and the kernel has seen nothing yet. */
static bool step_greeted(struct step *s)
{
	if (s->service->speaks != SPEAKS_SERVER || s->p.flags & TCP_RST)
		return false;
	snoop_ack(&s->w->snoop, &s->p, s->now_ms);
	handover_begin(s->w, s->service, &s->p, s->qp, s->now_ms);
	return true;
}

/* Has anybody seen its handshake? */
static bool known(const struct step *s)
{
	return s->qp->mark == MARK_PENDING || snoop_has(&s->w->snoop, &s->p.tuple) ||
	       listener_has(&s->w->listener, &s->p.tuple);
}

/* A connection that has not sent data yet belongs to the kernel. */
static bool step_silent(struct step *s)
{
	struct balancer_worker *w = s->w;

	if (packet_payload_len(&s->p) && !(s->p.flags & TCP_RST))
		return false;
	if (s->p.flags & (TCP_FIN | TCP_RST))
		datapath_accept(w, s->now_ms);
	if (!known(s))
		counters_add(&w->counters, COUNTER_EMPTY_UNKNOWN, 1);
	if (s->p.flags & (TCP_FIN | TCP_RST)) {
		/* If it was not the client's own, its request finds the socket. */
		if (listener_close_soon(&w->listener, &s->p.tuple, s->now_ms))
			snoop_forget(&w->snoop, &s->p.tuple);
		else if (s->p.flags & TCP_RST)
			snoop_reset(&w->snoop, &s->p);
	} else {
		snoop_ack(&w->snoop, &s->p, s->now_ms);
	}
	accept_unchanged(s);
	return true;
}

static bool step_begin(struct step *s)
{
	handover_begin(s->w, s->service, &s->p, s->qp, s->now_ms);
	/* Now, since it has asked whether there was an ACK before. */
	snoop_ack(&s->w->snoop, &s->p, s->now_ms);
	return true;
}

static void packet(void *context, struct queue_packet *qp, uint64_t now_ms)
{
	static bool (*const steps[])(struct step *) = {
		step_parse,    step_output,   step_service, step_steered, step_gone,  step_syn,
		step_checksum, step_handover, step_greeted, step_silent,  step_begin,
	};
	struct step s = { .w = context, .qp = qp, .now_ms = now_ms };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (steps[i](&s))
			return;
}

/* Answers of bridges. */
static void readable(void *context, uint64_t now_ms)
{
	struct balancer_worker *w = context;
	uint8_t buf[HANDOFF_ANSWER_LEN + 1]; /* one more: a longer datagram is seen to be longer */
	struct handoff_answer answer;
	enum handoff_fault fault;
	ssize_t len;

	for (unsigned int i = 0; i < QUEUE_BATCH; i++) {
		len = recv(w->answer_fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (len < 0)
			return;
		fault = handoff_answer_decode(&answer, &w->generation->keys, buf, (size_t)len);
		if (fault != HANDOFF_OK)
			counters_add(&w->counters, counter_of_handoff_fault(fault), 1);
		else
			handover_answer(w, &answer, now_ms);
	}
}

static enum listener_use use(void *context, const struct tuple *tuple)
{
	const struct balancer_worker *w = context;

	uint32_t flow = steer_find(&w->steer, tuple);

	if (flow != SLOT_NONE && steer_just_added(&w->steer, flow))
		return LISTENER_HANDED_OVER;
	return handover_find(&w->handovers, tuple) != SLOT_NONE ? LISTENER_BUSY : LISTENER_IDLE;
}

void datapath_accept(struct balancer_worker *w, uint64_t now_ms)
{
	const struct listener_judge judge = { .use = use, .context = w };

	listener_accept(&w->listener, &judge, now_ms);
}

static int tick(void *context, uint64_t now_ms)
{
	struct balancer_worker *w = context;
	const struct listener_judge judge = { .use = use, .context = w };

	listener_accept(&w->listener, &judge, now_ms);
	handover_expire(w, now_ms);
	listener_expire(&w->listener, &judge, now_ms);
	snoop_expire(&w->snoop, now_ms);
	steer_expire(&w->steer, now_ms);
	return handover_count(&w->handovers) || w->listener.over ? WORKER_BUSY_MS : WORKER_TICK_MS;
}

static void adopt(void *context, void *configuration, uint64_t now_ms)
{
	struct balancer_worker *w = context;
	struct generation *g = configuration;
	const struct balancer_settings *s = g->settings;
	const struct listener_judge judge = { .use = use, .context = w };

	w->generation = g;
	listener_use(&w->listener, g->part[w->worker.number].listening, s->service_count,
		     (uint64_t)s->timeouts.request_ms, &judge, now_ms);
	handover_lifetime(&w->handovers, (uint64_t)s->timeouts.request_ms);
	steer_lifetimes(&w->steer, (uint64_t)s->timeouts.idle_s * 1000,
			(uint64_t)s->timeouts.closing_s * 1000);
}

static void stop(void *context)
{
	handover_stop(context);
}

const struct worker_role balancer_role = {
	.packet = packet,
	.readable = readable,
	.tick = tick,
	.stop = stop,
	.adopt = adopt,
};
