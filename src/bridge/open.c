/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offers, the web server's answers to them, and our answers to the balancer. */
#include "open.h"

#include <errno.h>
#include <sys/socket.h>

#include "bridge.h"
#include "lib/tcp_options.h"
#include "os/log.h"

static void drop(struct bridge_worker *w, const struct queue_packet *qp, enum counter why)
{
	counters_add(&w->counters, why, 1);
	queue_drop(w->worker.queue, qp->queue, qp->id);
}

static void send_answer(struct bridge_worker *w, const struct handoff_answer *answer,
			const struct endpoint *to)
{
	uint8_t buf[HANDOFF_ANSWER_LEN];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&to->addr, to->port, &ss);

	handoff_answer_encode(answer, &w->generation->keys, buf);
	/* Lost on the way or here is the same: the balancer offers again. */
	if (sendto(w->answer_fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&ss, len) < 0)
		counters_add(&w->counters, COUNTER_ANSWERS_FAILED, 1);
}

static void answer_accepted(struct bridge_worker *w, const struct splice_flow *f)
{
	const struct handoff_answer answer = {
		.type = HANDOFF_ACCEPTED,
		.wscale = f->numbers.server_shift,
		.id = f->id,
	};

	send_answer(w, &answer, &f->answer);
}

static void answer_refused(struct bridge_worker *w, uint64_t id, const struct endpoint *to,
			   enum handoff_reason reason)
{
	const struct handoff_answer answer = {
		.type = HANDOFF_REFUSED,
		.reason = (uint8_t)reason,
		.id = id,
	};

	counters_add(&w->counters, COUNTER_OPENS_REFUSED, 1);
	send_answer(w, &answer, to);
}

/* A reset as from the client, with the number the web server expects (RFC 5961, 3.2). */
static void reset_server(struct bridge_worker *w, const struct splice_flow *f, uint32_t seq)
{
	const struct packet_spec spec = {
		.tuple = { .src = f->client.addr,
			   .sport = f->server_side_port,
			   .dst = f->server.addr,
			   .dport = f->server.port },
		.seq = seq,
		.flags = TCP_RST,
	};

	inject_build(&w->inject, &spec);
}

/* The client's SYN without its record, on its way to the web server. */
static void pass_syn(struct bridge_worker *w, const struct splice_flow *f, struct packet *p,
		     const struct queue_packet *qp)
{
	packet_set_src(p, &f->client.addr, f->server_side_port);
	packet_set_dst(p, &f->server.addr, f->server.port);
	packet_set_dscp(p, 0);
	packet_truncate(p, 0);
	packet_checksum_fill(p);
	queue_accept_changed(w->worker.queue, qp->queue, qp->id, p->data, p->len, MARK_TRANSLATED);
}

static void remember(struct splice_flow *f, const struct handoff_record *r,
		     const struct packet *syn)
{
	struct tcp_options o;
	size_t len;
	const uint8_t *options = packet_options(syn, &len);

	(void)tcp_options_parse(&o, options, len);
	f->id = r->id;
	f->index = r->index;
	f->answer = r->answer;
	f->isn_c = syn->seq;
	f->window = syn->window;
	f->rtt_us = r->rtt_us;
	f->isn_b = r->isn_b;
	f->ts_b = r->ts_b;
	f->options = r->options;
	f->wscale_balancer = r->options & HANDOFF_WSCALE ? r->wscale : 0;
	f->wscale_client = r->options & HANDOFF_WSCALE && o.wscale > 0 ? (uint8_t)o.wscale : 0;
}

static void open_repeated(struct bridge_worker *w, uint32_t slot, struct packet *p,
			  const struct queue_packet *qp)
{
	const struct splice_flow *f = &w->splices.flows[slot];

	counters_add(&w->counters, COUNTER_OPENS_REPEATED, 1);
	switch (splice_state(&w->splices, slot)) {
	case SPLICE_OPENING:
		pass_syn(w, f, p, qp);
		break;
	case SPLICE_SPLICED:
	case SPLICE_CLOSING:
	case SPLICE_KERNEL:
		answer_accepted(w, f);
		drop(w, qp, COUNTER_DROP_REPEATED);
		break;
	default:
		drop(w, qp, COUNTER_DROP_REPEATED);
	}
}

static void open_new(struct bridge_worker *w, const struct handoff_record *r, struct packet *p,
		     const struct queue_packet *qp, const struct service_settings *service,
		     uint64_t now_ms)
{
	static struct log_limit limit;
	const struct endpoint client = { .addr = p->tuple.src, .port = p->tuple.sport };
	const struct endpoint server = { .addr = service->server,
					 .port = (uint16_t)service->server_port };
	uint32_t slot =
		splice_open(&w->splices, &client, &r->vip, &server, service->server_shared, now_ms);

	counters_add(&w->counters, COUNTER_OPENS, 1);
	if (slot == SLOT_NONE) {
		log_warning_limited(&limit, now_ms, "limits.flows are spliced: offers are refused");
		answer_refused(w, r->id, &r->answer, HANDOFF_REASON_FULL);
		drop(w, qp, COUNTER_DROP_FULL);
		return;
	}
	remember(&w->splices.flows[slot], r, p);
	pass_syn(w, &w->splices.flows[slot], p, qp);
}

/*
 * Is @r of the offer that made @f? The kernel does not know the id of what it has: there the numbers of
 * both sides say whether the connection is the same, and the id is noted again.
 */
static bool is_of(const struct handoff_record *r, uint32_t isn_c, struct splice_flow *f)
{
	if (!f->id && f->isn_c == isn_c && f->isn_b == r->isn_b) {
		f->id = r->id;
		f->answer = r->answer;
	}
	return f->id == r->id;
}

static void abort_offer(struct bridge_worker *w, const struct handoff_record *r, uint32_t slot,
			const struct packet *p, const struct queue_packet *qp, uint64_t now_ms)
{
	counters_add(&w->counters, COUNTER_ABORTS, 1);
	if (slot != SLOT_NONE && is_of(r, p->seq, &w->splices.flows[slot])) {
		/*
		 * The client's request was never released: the web server still expects its first. Where it
		 * has not answered yet it is reset when it does: the SYN may still be on its way, and the
		 * next offer may be here before the SYN-ACK, which is then the answer to that one.
		 */
		if (splice_state(&w->splices, slot) != SPLICE_OPENING)
			reset_server(w, &w->splices.flows[slot], w->splices.flows[slot].isn_c + 1);
		splice_set_state(&w->splices, slot, SPLICE_DEAD, now_ms);
	}
	queue_drop(w->worker.queue, qp->queue, qp->id);
}

void open_record(struct bridge_worker *w, struct packet *p, const struct queue_packet *qp,
		 const struct service_settings *service, uint64_t now_ms)
{
	const struct handoff_carrier carrier = {
		.client = { .addr = p->tuple.src, .port = p->tuple.sport },
		.bridge = w->generation->settings->address,
		.dport = p->tuple.dport,
		.seq = p->seq,
	};
	struct handoff_record r;
	enum handoff_fault fault;
	uint32_t slot;

	/* It goes on with a new checksum, and the MAC does not cover its options. */
	if (p->checksum == CHECKSUM_UNVERIFIED && !packet_tcp_checksum_ok(p)) {
		drop(w, qp, COUNTER_DROP_CHECKSUM);
		return;
	}
	fault = handoff_record_decode(&r, &carrier, &w->generation->keys, p->data + p->payload,
				      packet_payload_len(p));
	if (fault != HANDOFF_OK) {
		drop(w, qp, counter_of_handoff_fault(fault));
		return;
	}
	if (!service) {
		answer_refused(w, r.id, &r.answer, HANDOFF_REASON_SERVICE);
		drop(w, qp, COUNTER_DROP_UNKNOWN_INDEX);
		return;
	}
	if (r.index != p->dscp || r.vip.port != p->tuple.dport ||
	    !addr_equal(&r.vip.addr, &p->tuple.dst)) {
		drop(w, qp, COUNTER_DROP_HANDOFF_FIELD);
		return;
	}

	/* An older one of the same client would take what the web server answers: it has to be known. */
	slot = splice_find_client(&w->splices, &p->tuple, now_ms);
	if (r.type == HANDOFF_ABORT) {
		abort_offer(w, &r, slot, p, qp, now_ms);
		return;
	}
	if (slot != SLOT_NONE && is_of(&r, p->seq, &w->splices.flows[slot])) {
		open_repeated(w, slot, p, qp);
		return;
	}
	if (slot != SLOT_NONE) {
		counters_add(&w->counters, COUNTER_OPENS_REPLACED, 1);
		splice_remove(&w->splices, slot);
	}
	open_new(w, &r, p, qp, service, now_ms);
}

/*
 * Once more the SYN: it makes the web server's kernel repeat its SYN-ACK, and then no longer believe the
 * time until the ACK (tcp_synack_rtt_meas()). It would take that from the ACK's timestamps instead, which
 * has none for that reason: HANDOFF_FAR_US.
 */
static void spoil_measurement(struct bridge_worker *w, struct splice_flow *f,
			      const struct packet *syn_ack)
{
	const struct packet_spec spec = {
		.tuple = tuple_reverse(&syn_ack->tuple),
		.seq = f->isn_c,
		.window = f->window,
		.flags = TCP_SYN,
	};

	inject_build(&w->inject, &spec);
	f->asked_again = true;
	counters_add(&w->counters, COUNTER_UNMEASURED, 1);
}

/* The end of an offer that the web server does not serve; its half is reset where it has one. */
static void refuse(struct bridge_worker *w, uint32_t slot, enum handoff_reason reason)
{
	const struct splice_flow *f = &w->splices.flows[slot];

	answer_refused(w, f->id, &f->answer, reason);
	splice_remove(&w->splices, slot);
}

/* The web server has answered: the connection is spliced, or refused. */
static void established(struct bridge_worker *w, uint32_t slot, const struct packet *p,
			uint64_t now_ms)
{
	struct splice_flow *f = &w->splices.flows[slot];
	enum handoff_reason reason = splice_established(&w->splices, slot, p, now_ms);

	if (reason != HANDOFF_REASON_NONE) {
		reset_server(w, f, p->ack);
		refuse(w, slot, reason);
		return;
	}
	if (f->rtt_us >= w->far_us)
		spoil_measurement(w, f, p);
	answer_accepted(w, f);
}

void open_server_packet(struct bridge_worker *w, uint32_t slot, const struct packet *p,
			const struct queue_packet *qp, uint64_t now_ms)
{
	struct splice_flow *f = &w->splices.flows[slot];
	bool ours = p->flags & TCP_ACK && p->ack == f->isn_c + 1;

	if (p->flags & TCP_RST) {
		if (ours && splice_state(&w->splices, slot) == SPLICE_OPENING)
			refuse(w, slot, HANDOFF_REASON_RESET);
	} else if (!(p->flags & TCP_SYN) || !ours) {
		counters_add(&w->counters, COUNTER_SERVER_RESET_OLD, 1);
		reset_server(w, f, p->ack);
	} else if (splice_state(&w->splices, slot) == SPLICE_DEAD) {
		reset_server(w, f, p->ack);
	} else {
		established(w, slot, p, now_ms);
	}
	drop(w, qp, COUNTER_DROP_SWALLOWED);
}

void open_expire(struct bridge_worker *w, uint64_t now_ms)
{
	uint32_t slot;

	while ((slot = splice_expired(&w->splices, now_ms)) != SLOT_NONE) {
		const struct splice_flow *f = &w->splices.flows[slot];

		answer_refused(w, f->id, &f->answer, HANDOFF_REASON_SILENT);
		splice_set_state(&w->splices, slot, SPLICE_DEAD, now_ms);
	}
}
