/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holding, recognising, choosing, offering and releasing. */
#include "handover.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "balancer.h"
#include "choice.h"
#include "lib/hold.h"
#include "lib/recogniser.h"
#include "lib/rewrite.h"
#include "lib/tcp_options.h"
#include "marks.h"
#include "os/log.h"
#include "record.h"
#include "reply.h"

/* Waits before the offer is repeated for the first, second and third time, then before giving up.
 */
#define OFFER_WAITS  4
#define OFFERS_MAX   16 /* for one connection: 4.8 s at most */
#define OFFERS_SCANT 8	/* while places are scant: 2.4 s */
#define PACKET_MAX   65535
#define HELD_TO_WAKE 8 /* segments held: an initial window of 10 (RFC 6928) is nearly used up */
#define WAKE_WAITS   4

static const uint64_t offer_wait_ms[OFFER_WAITS] = { 20, 40, 120, 120 };

/* Between reports to a client; the last one holds for all later ones, and is shorter than a retransmission timeout. */
static const uint64_t wake_wait_ms[WAKE_WAITS] = { 20, 40, 80, 160 };

/* Classes of expiry: waiting for the request, then one for each wait of an offer. */
enum { RECOGNISING, OFFERED, CLASSES = OFFERED + OFFER_WAITS };

_Static_assert(CLASSES <= EXPIRY_CLASSES && WAKE_WAITS <= EXPIRY_CLASSES,
	       "one class for each wait");

struct handover {
	struct hold hold;
	struct handshake handshake;
	struct generation *generation; /* whose are service, pool and backend */
	const struct service_settings *service;
	struct choice choice;
	const struct backend_settings *backend; /* offered to; NULL while recognising */
	uint64_t id;
	uint64_t tried[CHOICE_TRIED_WORDS];
	uint32_t tsval, tsecr; /* of the held request: the client's clock, the SYN-ACK's TSval */
	uint32_t segments;     /* held, as the client's congestion window counts them */
	uint32_t told; /* of them, that the client was told have come, without the first one */
	uint8_t repeats, offers, waits;
	bool silence; /* one of those tried has not answered */
};

int handover_init(struct handover_table *t, uint32_t capacity, uint32_t request_bytes,
		  uint64_t request_ms)
{
	uint64_t lifetime_ms[CLASSES] = { [RECOGNISING] = request_ms };

	memcpy(lifetime_ms + OFFERED, offer_wait_ms, sizeof(offer_wait_ms));
	t->request_bytes = request_bytes;
	t->serial = randombytes_random(); /* ids of an earlier run are not ours */
	t->handovers = calloc(capacity, sizeof(*t->handovers));
	t->streams = calloc(capacity, request_bytes);
	t->scratch = malloc(PACKET_MAX);
	t->url = malloc(URL_ROOM(request_bytes));
	if (!t->handovers || !t->streams || !t->scratch || !t->url ||
	    slots_init(&t->slots, capacity) || index_init(&t->index, capacity) ||
	    withdrawn_init(&t->withdrawn) ||
	    expiry_init(&t->expiry, capacity, lifetime_ms, CLASSES) ||
	    expiry_init(&t->wakes, capacity, wake_wait_ms, WAKE_WAITS))
		return -ENOMEM;
	return 0;
}

void handover_clean(struct handover_table *t)
{
	slots_clean(&t->slots);
	index_clean(&t->index);
	expiry_clean(&t->expiry);
	expiry_clean(&t->wakes);
	withdrawn_clean(&t->withdrawn);
	free(t->handovers);
	free(t->streams);
	free(t->scratch);
	free(t->url);
}

void handover_lifetime(struct handover_table *t, uint64_t request_ms)
{
	expiry_lifetime(&t->expiry, RECOGNISING, request_ms);
}

uint32_t handover_find(const struct handover_table *t, const struct tuple *tuple)
{
	return index_find(&t->index, tuple);
}

static const struct tuple *tuple_of(const struct balancer_worker *w, uint32_t slot)
{
	return &w->handovers.index.keys[slot];
}

/* The main thread may free the generation as soon as it sees that nobody is left. */
static void count(struct balancer_worker *w, struct generation *g, int change)
{
	uint32_t *handovers = &g->part[w->worker.number].handovers;

	__atomic_store_n(handovers, *handovers + (uint32_t)change, __ATOMIC_RELEASE);
}

static void release(struct balancer_worker *w, uint32_t slot)
{
	struct handover_table *t = &w->handovers;

	count(w, t->handovers[slot].generation, -1);
	expiry_remove(&t->expiry, slot);
	expiry_remove(&t->wakes, slot);
	index_remove(&t->index, slot);
	slots_put(&t->slots, slot);
}

static void drop_held(struct balancer_worker *w, struct handover *h)
{
	for (unsigned int i = 0; i < h->hold.packets; i++)
		queue_drop(w->worker.queue, h->hold.packet[i].queue, h->hold.packet[i].id);
	counters_add(&w->counters, COUNTER_DROP_HELD_ABANDONED, h->hold.packets);
}

static struct handoff_record record_of(const struct balancer_worker *w, uint32_t slot,
				       enum handoff_type type)
{
	const struct handover *h = &w->handovers.handovers[slot];
	const struct handshake *hs = &h->handshake;
	const struct tuple *tuple = tuple_of(w, slot);

	return (struct handoff_record){
		.type = (uint8_t)type,
		.options = hs->options | (h->service->speaks == SPEAKS_SERVER ? HANDOFF_SILENT : 0),
		.wscale = hs->wscale_balancer,
		.index = (uint8_t)h->service->index,
		.mss = hs->mss_balancer,
		.isn_b = hs->isn_b,
		.ts_b = h->tsecr,
		.rtt_us = hs->rtt_us,
		.id = h->id,
		.vip = { .addr = tuple->dst, .port = tuple->dport },
		.answer = w->answer,
	};
}

/* The SYN that carries it is the client's, with the options that were agreed on. */
static void send_open(struct balancer_worker *w, uint32_t slot)
{
	const struct handover *h = &w->handovers.handovers[slot];
	const struct handshake *hs = &h->handshake;
	const struct handoff_record record = record_of(w, slot, HANDOFF_OPEN);
	const struct tcp_options offer = {
		.mss = hs->mss_client,
		.wscale = hs->options & HANDOFF_WSCALE ? (int8_t)hs->wscale_client : -1,
		.sack_permitted = hs->options & HANDOFF_SACK,
		.timestamps = hs->options & HANDOFF_TIMESTAMPS,
		.tsval = h->tsval,
	};
	uint8_t options[TCP_OPTIONS_MAX];
	struct packet_spec syn = {
		.tuple = *tuple_of(w, slot),
		.seq = hs->isn_c,
		.window = hs->window,
		.flags = TCP_SYN,
		.options = options,
		.options_len = tcp_options_write_syn(&offer, options),
	};

	record_send(&w->inject, &w->generation->keys, &record, &syn, &h->backend->address);
}

static void take_back(struct balancer_worker *w, uint32_t slot)
{
	const struct handover *h = &w->handovers.handovers[slot];
	const struct withdrawn_offer offer = {
		.record = record_of(w, slot, HANDOFF_ABORT),
		.tuple = *tuple_of(w, slot),
		.bridge = h->backend->address,
		.isn_c = h->handshake.isn_c,
		.window = h->handshake.window,
	};

	counters_add(&w->counters, COUNTER_ABORT_SENT, 1);
	withdrawn_send(&w->handovers.withdrawn, &w->inject, &w->generation->keys, &offer);
}

static void end_with_reset(struct balancer_worker *w, uint32_t slot)
{
	struct handover *h = &w->handovers.handovers[slot];
	const struct tuple tuple = *tuple_of(w, slot);

	reply_reset(&w->inject, &tuple, h->handshake.isn_b + 1, h->handshake.isn_c + 1);
	drop_held(w, h);
	listener_close_silent(&w->listener, &tuple);
	snoop_forget(&w->snoop, &tuple);
	release(w, slot);
}

/* The best backend that was not tried yet in this round, or NULL. */
static const struct backend_settings *best_backend(struct balancer_worker *w, struct handover *h)
{
	enum choice_how how;
	const struct backend_settings *backend =
		choice_backend(h->generation, h->service, &h->choice, h->tried, &how);

	if (how == CHOICE_OVERFLOWED)
		counters_add(&w->counters, COUNTER_OVERFLOWED, 1);
	else if (how == CHOICE_LAST_RESORT)
		counters_add(&w->counters, COUNTER_LAST_RESORT, 1);
	return backend;
}

/*
 * Once all were tried, all are asked again if one of them has not answered: its daemon may be starting, and
 * there is nobody else. Whoever waits for that holds a place that other services may need.
 */
static const struct backend_settings *backend_to_ask(struct balancer_worker *w, struct handover *h)
{
	const struct slots *places = &w->handovers.slots;
	bool scant = places->used > places->capacity / 2;
	const struct backend_settings *backend;

	if (h->offers >= (scant ? OFFERS_SCANT : OFFERS_MAX))
		return NULL;
	h->offers++;
	backend = best_backend(w, h);
	if (!backend && h->silence && !scant) {
		h->silence = false;
		memset(h->tried, 0, sizeof(h->tried));
		backend = best_backend(w, h);
	}
	return backend;
}

static struct pool_load *load_of(const struct handover *h)
{
	return &h->generation->views.loads[h->backend->number];
}

/* Each offer that was made ends here once. */
static void end_offer(const struct handover *h, bool taken)
{
	load_answered(load_of(h), taken);
}

/* Offer the connection to the next backend, or reset it. */
static void offer(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	static struct log_limit limit;
	struct handover *h = &w->handovers.handovers[slot];

	h->backend = backend_to_ask(w, h);
	if (!h->backend) {
		counters_add(&w->counters, COUNTER_NO_BACKEND, 1);
		log_warning_limited(&limit, now_ms,
				    "service %s: no backend of pool %s took a "
				    "connection, it was reset",
				    h->service->name,
				    h->generation->settings->pools[h->choice.pool].name);
		end_with_reset(w, slot);
		return;
	}
	load_offered(load_of(h));
	h->id = (uint64_t)++w->handovers.serial << 32 | slot;
	h->repeats = 0;
	expiry_set(&w->handovers.expiry, slot, OFFERED, now_ms);
	counters_add(&w->counters, COUNTER_OPEN_SENT, 1);
	send_open(w, slot);
}

static void next_backend(struct balancer_worker *w, uint32_t slot, const char *why, uint64_t now_ms)
{
	const struct handover *h = &w->handovers.handovers[slot];
	char text[ADDR_STRLEN];

	end_offer(h, false);
	choice_doubt(h->generation, h->service, &h->choice, h->backend);
	log_warning_limited(&h->generation->backend_limits[h->backend->number], now_ms,
			    "service %s: backend %s (%s) does not take connections: %s",
			    h->service->name, h->backend->name,
			    addr_format(&h->backend->address, text), why);
	offer(w, slot, now_ms);
}

/* In the pool of h->choice: that of the service, or of the route of a request without its key. */
static void fall_back(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];

	if (choice_fall_back(h->service, &tuple_of(w, slot)->src, &h->choice) != CHOICE_MADE) {
		counters_add(&w->counters, COUNTER_FALLBACK_RESET, 1);
		end_with_reset(w, slot);
		return;
	}
	counters_add(&w->counters, COUNTER_FALLBACK_SOURCE, 1);
	offer(w, slot, now_ms);
}

/* Of the client; one that says that it takes less than every host must does not count (RFC 9293, 3.7.1). */
static uint32_t segment_most(const struct handover *h)
{
	const struct handshake *hs = &h->handshake;
	uint16_t mss = hs->mss_client < hs->mss_balancer ? hs->mss_client : hs->mss_balancer;

	return mss > MSS_DEFAULT ? mss : MSS_DEFAULT;
}

/* What comes in segments that are not full is written bit by bit. */
static bool segments_are_small(const struct handover *h)
{
	return hold_ready(&h->hold) / h->segments < segment_most(h) / 2;
}

/* A client that waits for an acknowledgement before it goes on: see the theory of operation. */
static void wake_client(struct balancer_worker *w, uint32_t slot)
{
	struct handover *h = &w->handovers.handovers[slot];
	const struct reply_ack ack = {
		.tuple = *tuple_of(w, slot),
		.seq = h->handshake.isn_b + 1,
		.ack = h->handshake.isn_c + 1,
		.window = (uint16_t)(UINT16_MAX >> h->handshake.wscale_balancer),
		.timestamps = h->handshake.options & HANDOFF_TIMESTAMPS,
		.tsval = h->tsecr,
		.tsecr = h->tsval,
		.sack = h->handshake.options & HANDOFF_SACK,
		.sack_end = h->handshake.isn_c + 1 + (uint32_t)hold_ready(&h->hold),
	};

	/* Without SACK they are counted. The first segment is the one that is missing. */
	do {
		reply_duplicate_ack(&w->inject, &ack);
		counters_add(&w->counters, COUNTER_WINDOW_OPENED, 1);
	} while (!ack.sack && ++h->told < h->segments - 1);
	h->told = h->segments - 1;
}

static void wait_to_wake(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];

	expiry_set(&w->handovers.wakes, slot, h->waits, now_ms);
	if (h->waits < WAKE_WAITS - 1)
		h->waits++;
}

/* Something new is held, and it is not enough. */
static void let_go_on(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	const struct handover *h = &w->handovers.handovers[slot];

	if (h->segments < HELD_TO_WAKE || expiry_class(&w->handovers.wakes, slot) != EXPIRY_NONE)
		return;
	if (!segments_are_small(h))
		wake_client(w, slot);
	wait_to_wake(w, slot, now_ms);
}

static void choose(struct balancer_worker *w, uint32_t slot, const struct request *request,
		   uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];
	struct slice key;

	switch (choice_make(h->service, request, &tuple_of(w, slot)->src, w->handovers.url,
			    &h->choice, &key)) {
	case CHOICE_MADE:
		counters_add(&w->counters, COUNTER_REQUESTS, 1);
		offer(w, slot, now_ms);
		break;
	case CHOICE_NAMELESS:
		counters_add(&w->counters, COUNTER_REQUESTS_NAMELESS, 1);
		fall_back(w, slot, now_ms);
		break;
	default:
		counters_add(&w->counters, COUNTER_NO_ROUTE, 1);
		end_with_reset(w, slot);
		break;
	}
}

/* New bytes were held: is the request known now? */
static void recognise(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];
	size_t ready = hold_ready(&h->hold);
	struct request request;

	switch (choice_recognise(h->service, h->hold.stream, ready, &request)) {
	case RECOGNISED_REQUEST:
		choose(w, slot, &request, now_ms);
		break;
	case RECOGNISED_NOT:
		counters_add(&w->counters, COUNTER_REQUESTS_NOT_RECOGNISED, 1);
		fall_back(w, slot, now_ms);
		break;
	case RECOGNISED_MORE:
		if (ready == h->hold.capacity || hold_complete(&h->hold)) {
			counters_add(&w->counters,
				     ready == h->hold.capacity ? COUNTER_REQUESTS_TOO_LONG
							       : COUNTER_REQUESTS_NOT_RECOGNISED,
				     1);
			fall_back(w, slot, now_ms);
		} else {
			let_go_on(w, slot, now_ms);
		}
		break;
	}
}

/* A packet may be many segments that were merged (GRO). */
static uint32_t segments_of(const struct handover *h, const struct packet *p)
{
	uint32_t len = (uint32_t)packet_payload_len(p), mss = segment_most(h);

	return len ? (len + mss - 1) / mss : 1;
}

/* Hold a packet, or say why not and drop it. */
static bool hold(struct balancer_worker *w, struct handover *h, const struct packet *p,
		 const struct queue_packet *qp)
{
	static const enum counter counter[] = {
		[HOLD_NEW] = COUNTER_HELD,
		[HOLD_MERGED] = COUNTER_HELD_MERGED,
		[HOLD_DUPLICATE] = COUNTER_DROP_HELD_DUPLICATE,
		[HOLD_OUTSIDE] = COUNTER_DROP_HELD_OUTSIDE,
		[HOLD_FULL] = COUNTER_DROP_HELD_FULL,
	};
	enum hold_result result = hold_add(&h->hold, p, qp->id, qp->queue);

	counters_add(&w->counters, counter[result], 1);
	if (result != HOLD_NEW)
		queue_drop(w->worker.queue, qp->queue, qp->id);
	if (result != HOLD_NEW && result != HOLD_MERGED)
		return false;
	h->segments += segments_of(h, p);
	return true;
}

static bool ask_socket(struct balancer_worker *w, const struct packet *p,
		       const struct queue_packet *qp, struct handshake *hs, uint64_t now_ms)
{
	if (listener_handshake(&w->listener, &p->tuple, hs))
		return true;
	/* The ACK that completes the handshake may wait here for its verdict. */
	queue_flush(w->worker.queue);
	datapath_accept(w, now_ms);
	if (listener_handshake(&w->listener, &p->tuple, hs))
		return true;
	if (qp->mark != MARK_PENDING)
		return false;
	/* It was lost, or it is on its way on another processor: the data implies it. */
	counters_add(&w->counters, COUNTER_ACK_COMPLETED, 1);
	reply_complete(&w->inject, p);
	datapath_accept(w, now_ms);
	return listener_handshake(&w->listener, &p->tuple, hs);
}

/* The two sources of the handshake behind one question; see snoop.h and listener.h. */
static bool find_handshake(struct balancer_worker *w, const struct service_settings *service,
			   const struct packet *p, const struct queue_packet *qp,
			   struct handshake *hs, bool *acked, uint64_t now_ms)
{
	if ((service->speaks == SPEAKS_SERVER ||
	     w->generation->settings->handshake == HANDSHAKE_SNOOP) &&
	    snoop_find(&w->snoop, p, hs, acked)) {
		if (!packet_payload_len(p)) /* this may be that ACK */
			*acked = false;
		counters_add(&w->counters, COUNTER_HANDSHAKE_BY_SNOOP, 1);
		return true;
	}
	*acked = true;
	if (ask_socket(w, p, qp, hs, now_ms)) {
		counters_add(&w->counters, COUNTER_HANDSHAKE_BY_SOCKET, 1);
		return true;
	}
	/* A contested connection's handshake was seen in any case. */
	if (!mark_contested(qp) || !snoop_find(&w->snoop, p, hs, acked))
		return false;
	counters_add(&w->counters, COUNTER_HANDSHAKE_BY_SNOOP, 1);
	return true;
}

/*
 * Does the packet belong to the connection that @hs began? The acknowledgement is what a blind
 * attacker cannot know: without it anybody could open connections to the web servers.
 */
static bool belongs(const struct balancer_worker *w, const struct handshake *hs,
		    const struct packet *p, const struct tcp_options *o)
{
	return p->flags & TCP_ACK && p->ack == hs->isn_b + 1 &&
	       p->seq - (hs->isn_c + 1) < w->handovers.request_bytes &&
	       (!(hs->options & HANDOFF_TIMESTAMPS) || o->timestamps);
}

/*
 * Data of a connection that we know nothing of. The kernel gets its acknowledgement without the
 * data: if there is a handshake to complete (the bare ACK was lost, SYN cookies are on and we saw
 * nothing) it is completed, and the client's retransmission finds an accepted socket; if there is
 * none the kernel answers with a reset.
 */
static void pass_without_data(struct balancer_worker *w, struct packet *p,
			      const struct queue_packet *qp)
{
	counters_add(&w->counters, COUNTER_HANDSHAKE_UNKNOWN, 1);
	rewrite_strip_data(p);
	queue_accept_changed(w->worker.queue, qp->queue, qp->id, p->data, p->len,
			     mark_for_kernel(qp));
}

/*
 * The same for a service that speaks first, whose client may have nothing more to say. If the ACK has
 * made a connection (nothing was seen of its SYN: too many are on their way, or SYN cookies are on), an
 * old number makes the client repeat it (RFC 9293, 3.10.7.4), and that finds the accepted socket.
 */
static void ask_client(struct balancer_worker *w, const struct packet *p, uint64_t now_ms)
{
	struct handshake hs;
	struct reply_ack ack = { .tuple = p->tuple };

	if (listener_handshake(&w->listener, &p->tuple, &hs))
		return; /* was asked before */
	queue_flush(w->worker.queue);
	datapath_accept(w, now_ms);
	if (!listener_handshake(&w->listener, &p->tuple, &hs))
		return;
	snoop_forget(&w->snoop, &p->tuple); /* it knows another SYN-ACK */
	ack.seq = hs.isn_b;
	ack.ack = hs.isn_c + 1;
	ack.window = (uint16_t)(UINT16_MAX >> hs.wscale_balancer);
	reply_duplicate_ack(&w->inject, &ack);
	counters_add(&w->counters, COUNTER_ACK_ASKED_FOR, 1);
}

static void refuse(struct balancer_worker *w, const struct packet *p, const struct queue_packet *qp,
		   enum counter why)
{
	counters_add(&w->counters, why, 1);
	reply_reset(&w->inject, &p->tuple, p->ack, p->seq);
	listener_close_silent(&w->listener, &p->tuple);
	snoop_forget(&w->snoop, &p->tuple);
	queue_drop(w->worker.queue, qp->queue, qp->id);
}

/* The MSS does not count options (RFC 6691), which every merged packet has. */
static uint16_t merged_most(const struct handshake *hs)
{
	return hs->mss_balancer > 2 * TCP_OPTIONS_MAX
		       ? (uint16_t)(hs->mss_balancer - TCP_OPTIONS_MAX)
		       : TCP_OPTIONS_MAX;
}

static void start(struct balancer_worker *w, uint32_t slot, const struct service_settings *service,
		  const struct packet *p, const struct handshake *hs, const struct tcp_options *o,
		  uint64_t now_ms)
{
	struct handover_table *t = &w->handovers;
	struct handover *h = &t->handovers[slot];

	index_insert(&t->index, slot, &p->tuple);
	expiry_set(&t->expiry, slot, RECOGNISING, now_ms);
	h->handshake = *hs;
	h->generation = w->generation;
	count(w, h->generation, 1);
	h->service = service;
	h->choice = (struct choice){ .pool = service->pool_number };
	h->backend = NULL;
	h->offers = 0;
	h->waits = 0;
	h->segments = 0;
	h->told = 0;
	h->silence = false;
	h->tsval = o->tsval;
	h->tsecr = o->tsecr;
	memset(h->tried, 0, sizeof(h->tried));
	hold_init(&h->hold, t->streams + (size_t)slot * t->request_bytes, t->request_bytes,
		  hs->isn_c + 1, merged_most(hs));
}

void handover_begin(struct balancer_worker *w, const struct service_settings *service,
		    struct packet *p, const struct queue_packet *qp, uint64_t now_ms)
{
	static struct log_limit requests_limit, flows_limit;
	struct tcp_options o;
	struct handshake hs;
	size_t len;
	const uint8_t *options = packet_options(p, &len);
	bool acked;
	uint32_t slot;

	(void)tcp_options_parse(&o, options, len);
	if (!find_handshake(w, service, p, qp, &hs, &acked, now_ms) || !belongs(w, &hs, p, &o)) {
		pass_without_data(w, p, qp);
		if (service->speaks == SPEAKS_SERVER)
			ask_client(w, p, now_ms);
		return;
	}
	if (steer_full(&w->steer)) {
		log_warning_limited(&flows_limit, now_ms,
				    "limits.flows are steered: new connections "
				    "are reset");
		refuse(w, p, qp, COUNTER_FLOWS_REFUSED);
		return;
	}
	slot = slots_take(&w->handovers.slots);
	if (slot == SLOT_NONE) {
		log_warning_limited(&requests_limit, now_ms,
				    "limits.requests are held: new "
				    "connections are reset");
		refuse(w, p, qp, COUNTER_REQUESTS_REFUSED);
		return;
	}
	start(w, slot, service, p, &hs, &o, now_ms);
	if (!acked) {
		/* Its socket would wait for this ACK and repeat its SYN-ACK for a minute. */
		counters_add(&w->counters, COUNTER_ACK_COMPLETED, 1);
		reply_complete(&w->inject, p);
	}
	if (hold(w, &w->handovers.handovers[slot], p, qp))
		recognise(w, slot, now_ms);
}

void handover_packet(struct balancer_worker *w, uint32_t slot, struct packet *p,
		     const struct queue_packet *qp, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];

	if (p->flags & TCP_RST) {
		/* Whether it is the client's own is the kernel's to say; ours is not to be fooled.
		 */
		if (p->seq - h->hold.first <= hold_end(&h->hold) - h->hold.first)
			handover_abandon(w, slot);
		mark_accept(w->worker.queue, qp);
		return;
	}
	if (!packet_payload_len(p) && !(p->flags & TCP_FIN)) {
		mark_accept(w->worker.queue, qp);
		return;
	}
	/* As with the first data, see belongs(): nobody else adds bytes to a request. */
	if (!(p->flags & TCP_ACK) || p->ack != h->handshake.isn_b + 1) {
		counters_add(&w->counters, COUNTER_DROP_HELD_FOREIGN, 1);
		queue_drop(w->worker.queue, qp->queue, qp->id);
		return;
	}
	if (hold(w, h, p, qp) && !h->backend)
		recognise(w, slot, now_ms);
}

void handover_abandon(struct balancer_worker *w, uint32_t slot)
{
	struct handover *h = &w->handovers.handovers[slot];

	if (h->backend) {
		end_offer(h, false);
		take_back(w, slot);
	}
	drop_held(w, h);
	release(w, slot);
}

/*
 * Numbers of the held packets, in the order in which they came: a queue counts its packets. The one
 * with the FIN, which hold.h keeps as the last one, stays that: it moves the flow to closing.
 */
static void order_by_arrival(const struct hold *hold, uint8_t order[HOLD_PACKETS])
{
	for (uint8_t i = 0; i < hold->packets; i++) {
		unsigned int at = i;

		if (hold->fin && i + 1 == hold->packets) {
			order[i] = i;
			break;
		}
		while (at > 0 &&
		       (int32_t)(hold->packet[order[at - 1]].id - hold->packet[i].id) > 0) {
			order[at] = order[at - 1];
			at--;
		}
		order[at] = i;
	}
}

/*
 * The held packets go to the bridge, in the order in which they came. In that of their data the web
 * server would drop one that was overtaken by an earlier one's repetition: its timestamp is older, and
 * nothing says any more that it came first (RFC 7323, 5.3). For the same reason the kernel learns the
 * connection with the last one: what the client says to the first, its own repetitions of the others among it, comes
 * here until then, and goes on behind them.
 *
 * The first one completes the web server's handshake, and without timestamps if the client is far:
 * see HANDOFF_FAR_US.
 */
static void release_held(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];
	uint32_t flow = steer_find(&w->steer, tuple_of(w, slot));
	bool far = h->handshake.rtt_us >= HANDOFF_FAR_US;
	uint8_t order[HOLD_PACKETS];

	order_by_arrival(&h->hold, order);
	for (unsigned int i = 0; i < h->hold.packets; i++) {
		const struct hold_packet *held = &h->hold.packet[order[i]];
		size_t len = hold_build(&h->hold, order[i], w->handovers.scratch, PACKET_MAX);
		struct packet p;
		uint32_t mark;

		if (!len || packet_parse(&p, w->handovers.scratch, len) != PACKET_OK) {
			queue_drop(w->worker.queue, held->queue, held->id);
			continue;
		}
		if (far)
			rewrite_hide_timestamps(&p);
		mark = steer_packet(&w->steer, flow, &p, now_ms);
		if (mark && i + 1 < h->hold.packets)
			mark = MARK_HELD | (mark & MARK_NUMBER);
		if (mark && held->intact && !far) {
			queue_accept_marked(w->worker.queue, held->queue, held->id, mark);
			continue;
		}
		queue_accept_changed(w->worker.queue, held->queue, held->id, p.data, p.len,
				     mark ? mark : MARK_CLEAR);
		queue_flush(w->worker.queue); /* before scratch is used again */
		far = false;
	}
}

static void hand_over(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];
	const struct tuple tuple = *tuple_of(w, slot);

	if (steer_full(&w->steer)) { /* since the offer was made */
		counters_add(&w->counters, COUNTER_FLOWS_REFUSED, 1);
		take_back(w, slot);
		end_offer(h, false);
		end_with_reset(w, slot);
		return;
	}
	counters_add(&w->counters, COUNTER_ACCEPTED, 1);
	end_offer(h, true);
	steer_add(&w->steer, &tuple, &h->backend->address,
		  h->generation->numbers[h->backend->number], (uint8_t)h->service->index,
		  h->hold.first, now_ms);
	release_held(w, slot, now_ms);
	listener_hand_over(&w->listener, &tuple, now_ms);
	snoop_forget(&w->snoop, &tuple);
	release(w, slot);
}

/* Whoever has taken what he was not to take any more has not heard of that. */
static void answer_late(struct balancer_worker *w, const struct handoff_answer *answer)
{
	counters_add(&w->counters, COUNTER_ANSWERS_LATE, 1);
	if (answer->type == HANDOFF_ACCEPTED &&
	    withdrawn_repeat(&w->handovers.withdrawn, &w->inject, &w->generation->keys, answer->id))
		counters_add(&w->counters, COUNTER_ABORT_REPEATED, 1);
}

void handover_answer(struct balancer_worker *w, const struct handoff_answer *answer,
		     uint64_t now_ms)
{
	struct handover_table *t = &w->handovers;
	uint32_t slot = (uint32_t)answer->id;

	/* A slot beyond @fresh was never taken; one that is free is in no class. */
	if (slot >= t->slots.fresh || expiry_class(&t->expiry, slot) == EXPIRY_NONE ||
	    !t->handovers[slot].backend || t->handovers[slot].id != answer->id) {
		answer_late(w, answer);
		return;
	}
	if (answer->type == HANDOFF_ACCEPTED) {
		hand_over(w, slot, now_ms);
		return;
	}
	counters_add(&w->counters, COUNTER_OPEN_REFUSED, 1);
	next_backend(w, slot, handoff_reason_text(answer->reason), now_ms);
}

static void offer_unanswered(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	struct handover *h = &w->handovers.handovers[slot];

	if (++h->repeats < OFFER_WAITS) {
		expiry_set(&w->handovers.expiry, slot, OFFERED + h->repeats, now_ms);
		counters_add(&w->counters, COUNTER_OPEN_RETRANSMITTED, 1);
		send_open(w, slot);
		return;
	}
	counters_add(&w->counters, COUNTER_OPEN_SILENT, 1);
	h->silence = true;
	take_back(w, slot);
	next_backend(w, slot, "no answer", now_ms);
}

/* What has come since is not enough either, and the client may have stopped. */
static void wake_again(struct balancer_worker *w, uint32_t slot, uint64_t now_ms)
{
	const struct handover *h = &w->handovers.handovers[slot];

	if (h->backend || h->segments - 1 <= h->told)
		return;
	wake_client(w, slot);
	wait_to_wake(w, slot, now_ms);
}

void handover_expire(struct balancer_worker *w, uint64_t now_ms)
{
	struct expiry *expiry = &w->handovers.expiry, *wakes = &w->handovers.wakes;
	uint32_t slot;

	for (unsigned int class = 0; class < WAKE_WAITS; class ++)
		while ((slot = expiry_next(wakes, class, now_ms)) != SLOT_NONE)
			wake_again(w, slot, now_ms);
	while ((slot = expiry_next(expiry, RECOGNISING, now_ms)) != SLOT_NONE) {
		counters_add(&w->counters, COUNTER_REQUESTS_TIMED_OUT, 1);
		fall_back(w, slot, now_ms);
	}
	for (unsigned int class = OFFERED; class < CLASSES; class ++)
		while ((slot = expiry_next(expiry, class, now_ms)) != SLOT_NONE)
			offer_unanswered(w, slot, now_ms);
}

void handover_stop(struct balancer_worker *w)
{
	struct expiry *expiry = &w->handovers.expiry;
	uint32_t slot;

	for (unsigned int class = 0; class < CLASSES; class ++)
		while ((slot = expiry_oldest(expiry, class)) != SLOT_NONE)
			handover_abandon(w, slot);
}

uint32_t handover_count(const struct handover_table *t)
{
	return __atomic_load_n(&t->slots.used, __ATOMIC_RELAXED);
}
