/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking, listening, telling, weighing. */
#include "prober.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "marks.h"
#include "os/datagram.h"
#include "os/log.h"
#include "os/worker.h"
#include "record.h"

#define STEP_MS	      10 /* between two looks at the targets */
#define LOOK_MS	      50 /* a look at the latest, for doubts of the workers, and for slow starts */
#define FIRST_PORT    16384
#define ANSWERS_BATCH 64

struct prober_target {
	struct health health;
	struct view *view;
	uint32_t backend; /* number in the pool */
	bool scale_told, was_drained;
};

struct prober_override {
	uint32_t weight; /* 0: as configured */
	enum { AS_CONFIGURED, DRAINED, ACTIVE } state;
};

static const struct backend_settings *backend_of(const struct prober *p,
						 const struct prober_target *t)
{
	return &p->settings->pools[t->view->pool].backends[t->backend];
}

static const struct service_settings *service_of(const struct prober *p,
						 const struct prober_target *t)
{
	return &p->settings->services[t->view->service];
}

static uint32_t weight_of(const struct prober *p, const struct backend_settings *b)
{
	const struct prober_override *o = &p->overrides[b->number];

	return o->weight ? o->weight : (uint32_t)b->weight;
}

static bool drained(const struct prober *p, const struct backend_settings *b)
{
	const struct prober_override *o = &p->overrides[b->number];

	return o->state == DRAINED || (o->state == AS_CONFIGURED && b->state == BACKEND_DRAIN);
}

/* A backend that was drained comes back like one that was down: its cache may be cold. */
static void weigh(struct prober *p, struct prober_target *t, uint64_t now_ms)
{
	const struct backend_settings *b = backend_of(p, t);
	bool is_drained = drained(p, b);
	uint32_t weight = is_drained ? 0 : weight_of(p, b);

	if (t->was_drained && !is_drained)
		health_start_slowly(&t->health, now_ms);
	t->was_drained = is_drained;

	__atomic_store_n(&t->view->weights[t->backend],
			 health_weight(&t->health, &p->policy, weight, now_ms), __ATOMIC_RELAXED);
	__atomic_store_n(&t->view->spare[t->backend], weight * HEALTH_WEIGHT_UNIT,
			 __ATOMIC_RELAXED);
}

static void tell(const struct prober *p, const struct prober_target *t)
{
	const struct backend_settings *b = backend_of(p, t);
	char address[ADDR_STRLEN], why[HEALTH_TEXT_LEN];
	void (*log)(const char *format, ...) = t->health.state == HEALTH_DOWN ? log_warning
					       : t->health.slow		      ? log_info
									      : log_debug;

	log("service %s: backend %s (%s) is %s: %s", service_of(p, t)->name, b->name,
	    addr_format(&b->address, address), health_state_name(t->health.state),
	    health_text(&t->health.why, why));
}

static void ask(struct prober *p, struct prober_target *t, uint64_t now_ms)
{
	const struct service_settings *service = service_of(p, t);
	const struct balancer_settings *s = p->settings;
	const struct handoff_record probe = {
		.type = HANDOFF_PROBE,
		.index = (uint8_t)service->index,
		.id = (uint64_t)randombytes_random() << 32 | (uint32_t)(t - p->targets),
		.vip = { .addr = service->address, .port = (uint16_t)service->port },
		.answer = { .addr = s->answer_address,
			    .port = (uint16_t)(s->answer_port + STATUS_PORT) },
	};
	struct packet_spec syn = {
		.tuple = { .src = s->answer_address,
			   .sport = (uint16_t)(FIRST_PORT +
					       randombytes_uniform(UINT16_MAX - FIRST_PORT)),
			   .dport = (uint16_t)service->port },
		.seq = randombytes_random(),
		.flags = TCP_SYN,
	};

	counters_add(p->counters, COUNTER_PROBES_SENT, 1);
	health_asked(&t->health, probe.id, now_ms);
	record_send(&p->inject, p->keys, &probe, &syn, &backend_of(p, t)->address);
}

static void look_at(struct prober *p, struct prober_target *t, uint64_t now_ms)
{
	bool silent = t->health.waiting;

	if (__atomic_exchange_n(&t->view->doubts[t->backend], 0, __ATOMIC_RELAXED))
		health_doubted(&t->health, &p->policy, now_ms);
	if (health_expire(&t->health, &p->policy, now_ms))
		tell(p, t);
	counters_add(p->counters, COUNTER_PROBES_SILENT, silent && !t->health.waiting);
	if (health_due(&t->health, now_ms))
		ask(p, t, now_ms);
	weigh(p, t, now_ms);
}

static int on_timer(sd_event_source *source, uint64_t now_us, void *context)
{
	struct prober *p = context;
	uint64_t now_ms = clock_ms(), next_ms = now_ms + LOOK_MS;
	int ret;

	(void)now_us;
	for (size_t i = 0; i < p->count; i++) {
		uint64_t at_ms;

		look_at(p, &p->targets[i], now_ms);
		at_ms = health_next_ms(&p->targets[i].health, &p->policy);
		next_ms = at_ms < next_ms ? at_ms : next_ms;
	}
	if (next_ms < now_ms + STEP_MS)
		next_ms = now_ms + STEP_MS;
	ret = sd_event_source_set_time_relative(source, (next_ms - now_ms) * 1000);
	return ret < 0 ? ret : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void check_scale(struct prober *p, struct prober_target *t, uint8_t scale)
{
	bool differs = scale != HANDOFF_SCALE_UNKNOWN && scale != p->scale;

	if (differs && !t->scale_told)
		log_warning(
			"service %s: the web server of backend %s has window scale %u, and clients "
			"are told %u: no kernel translates such connections, see window_scale",
			service_of(p, t)->name, backend_of(p, t)->name, scale, p->scale);
	t->scale_told = differs;
}

static struct prober_target *target_of(struct prober *p, uint64_t id)
{
	uint32_t number = (uint32_t)id;
	struct prober_target *t = &p->targets[number];

	return number < p->count && t->health.waiting && t->health.id == id ? t : NULL;
}

static void status(struct prober *p, const struct handoff_status *s, uint64_t now_ms)
{
	struct prober_target *t = target_of(p, s->id);

	if (!t) {
		counters_add(p->counters, COUNTER_STATUS_LATE, 1);
		return;
	}
	counters_add(p->counters, COUNTER_STATUS_RECEIVED, 1);
	__atomic_store_n(&p->views->loads[backend_of(p, t)->number].live, s->live,
			 __ATOMIC_RELAXED);
	check_scale(p, t, s->wscale);
	if (health_answered(&t->health, &p->policy, s, (uint8_t)service_of(p, t)->index, now_ms))
		tell(p, t);
	weigh(p, t, now_ms);
}

/* What cannot be verified explains a silence, if it comes from whom was asked. */
static void unverified(struct prober *p, enum handoff_fault fault, const uint8_t *buf, size_t len,
		       const struct addr *from)
{
	bool key = fault == HANDOFF_UNKNOWN_KEY || fault == HANDOFF_FORGED;
	struct prober_target *t;
	uint64_t id;

	counters_add(p->counters, counter_of_handoff_fault(fault), 1);
	if ((!key && fault != HANDOFF_BAD_VERSION) || !handoff_status_peek(buf, len, &id))
		return;
	t = target_of(p, id);
	if (t && addr_equal(from, &backend_of(p, t)->address))
		health_hinted(&t->health, id, key ? HEALTH_KEY : HEALTH_VERSION);
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	uint8_t buf[HANDOFF_STATUS_LEN + 1]; /* one more: a longer datagram is seen to be longer */
	struct prober *p = context;
	uint64_t now_ms = clock_ms();

	(void)source;
	(void)revents;
	for (unsigned int i = 0; i < ANSWERS_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t ss_len = sizeof(ss);
		struct handoff_status s;
		enum handoff_fault fault;
		struct endpoint from;
		ssize_t len = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&ss,
				       &ss_len);

		if (len < 0)
			break;
		fault = handoff_status_decode(&s, p->keys, buf, (size_t)len);
		if (fault == HANDOFF_OK)
			status(p, &s, now_ms);
		else if (addr_from_sockaddr(&from, &ss) == 0)
			unverified(p, fault, buf, (size_t)len, &from.addr);
	}
	return 0;
}

static struct health_policy policy_of(const struct balancer_settings *settings)
{
	return (struct health_policy){
		.interval_ms = (uint32_t)settings->health.interval_ms,
		.fast_ms = (uint32_t)settings->health.fast_ms,
		.timeout_ms = (uint32_t)settings->health.timeout_ms,
		.slow_start_ms = (uint32_t)settings->health.slow_start_s * 1000,
		.rise = (uint32_t)settings->health.rise,
		.fall = (uint32_t)settings->health.fall,
	};
}

static int make_targets(struct prober *p)
{
	const struct balancer_settings *s = p->settings;
	struct prober_target *t;
	size_t count = 0;

	for (size_t i = 0; i < p->views->count; i++)
		count += s->pools[p->views->views[i].pool].backend_count;
	p->targets = t = calloc(count, sizeof(*t));
	p->overrides = calloc(s->backend_count, sizeof(*p->overrides));
	if (!p->targets || !p->overrides)
		return -ENOMEM;
	p->count = count;
	for (size_t i = 0; i < p->views->count; i++) {
		struct view *view = &p->views->views[i];

		for (uint32_t j = 0; j < s->pools[view->pool].backend_count; j++, t++) {
			t->view = view;
			t->backend = j;
			health_init(&t->health, &p->policy, randombytes_random(), clock_ms());
		}
	}
	return 0;
}

static int open_answers(struct prober *p)
{
	const struct balancer_settings *s = p->settings;
	uint16_t port = (uint16_t)(s->answer_port + STATUS_PORT);
	char text[ENDPOINT_STRLEN];
	int ret;

	p->fd = datagram_open(&s->answer_address, port, "answer_address");
	if (p->fd >= 0)
		return 0;
	ret = -errno;
	log_error_errno(
		"cannot receive answers of bridges at %s (answer_address, answer_port + %d)",
		endpoint_format(&s->answer_address, port, text), STATUS_PORT);
	return ret;
}

static int watch(struct prober *p)
{
	int ret = sd_event_add_io(p->event, &p->answers, p->fd, EPOLLIN, on_answer, p);

	if (ret >= 0)
		ret = sd_event_add_time_relative(p->event, &p->timer, CLOCK_MONOTONIC, 0, 1000,
						 on_timer, p);
	if (ret >= 0)
		return 0;
	log_error("cannot set up the probes: %s", strerror(-ret));
	return ret;
}

int prober_init(struct prober *p, const struct balancer_settings *settings,
		const struct handoff_keys *keys, struct views *views)
{
	p->settings = settings;
	p->keys = keys;
	p->views = views;
	p->policy = policy_of(settings);
	if (make_targets(p) == 0)
		return 0;
	log_error("not enough memory for the health of backends");
	return -ENOMEM;
}

/* While there are no probes there is nothing to look at. */
static void run_timer(struct prober *p)
{
	bool on = p->settings->health.probes == PROBES_ON;

	if (p->timer)
		sd_event_source_set_enabled(p->timer, on ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

int prober_start(struct prober *p, sd_event *event)
{
	int ret = inject_open(&p->inject, p->counters, MARK_CLEAR);

	p->event = event;
	if (!ret)
		ret = open_answers(p);
	if (!ret)
		ret = watch(p);
	if (!ret)
		run_timer(p);
	return ret;
}

void prober_clean(struct prober *p)
{
	sd_event_source_disable_unref(p->timer);
	sd_event_source_disable_unref(p->answers);
	inject_close(&p->inject);
	if (p->fd >= 0)
		close(p->fd);
	free(p->targets);
	free(p->overrides);
}

/* The target of @p that @t, one of @other, is. */
static struct prober_target *same_target(struct prober *p, const struct prober *other,
					 const struct prober_target *t)
{
	const struct service_settings *service = service_of(other, t);
	const struct pool_settings *pool = &other->settings->pools[t->view->pool];
	const struct backend_settings *b = backend_of(other, t);

	for (size_t i = 0; i < p->count; i++) {
		struct prober_target *mine = &p->targets[i];
		const struct service_settings *s = service_of(p, mine);
		const struct backend_settings *c = backend_of(p, mine);

		if (s->port == service->port && s->index == service->index &&
		    addr_equal(&s->address, &service->address) &&
		    addr_equal(&c->address, &b->address) && !strcmp(c->name, b->name) &&
		    !strcmp(s->name, service->name) &&
		    !strcmp(p->settings->pools[mine->view->pool].name, pool->name))
			return mine;
	}
	return NULL;
}

/* All backends of a name have the same one. */
static void take_override(struct prober *p, const char *name,
			  const struct prober_override *override)
{
	const struct balancer_settings *s = p->settings;

	for (size_t i = 0; i < s->pool_count; i++)
		for (size_t j = 0; j < s->pools[i].backend_count; j++)
			if (!strcmp(s->pools[i].backends[j].name, name))
				p->overrides[s->pools[i].backends[j].number] = *override;
}

static void take_overrides(struct prober *p, const struct prober *old)
{
	const struct balancer_settings *s = old->settings;

	for (size_t i = 0; i < s->pool_count; i++) {
		for (size_t j = 0; j < s->pools[i].backend_count; j++) {
			const struct backend_settings *b = &s->pools[i].backends[j];
			const struct prober_override *o = &old->overrides[b->number];

			if (o->weight || o->state != AS_CONFIGURED)
				take_override(p, b->name, o);
		}
	}
}

static void take_over(struct prober *p, const struct prober *old)
{
	uint64_t now_ms = clock_ms();

	for (size_t i = 0; i < old->count; i++) {
		const struct prober_target *was = &old->targets[i];
		struct prober_target *t = same_target(p, old, was);
		size_t from = backend_of(old, was)->number, to;

		if (!t)
			continue;
		to = backend_of(p, t)->number;
		if (p->settings->health.probes == PROBES_ON)
			t->health = was->health;
		t->health.waiting = false; /* the question has another number now */
		if (t->health.next_ms > now_ms + p->policy.interval_ms)
			t->health.next_ms = now_ms + p->policy.interval_ms;
		t->was_drained = drained(old, backend_of(old, was));
		t->scale_told = was->scale_told;
		p->views->loads[to].live = pool_load_now(&old->views->loads[from]);
	}
	take_overrides(p, old);
	for (size_t i = 0; i < p->count; i++)
		weigh(p, &p->targets[i], now_ms);
}

int prober_renew(struct prober *p, const struct balancer_settings *settings,
		 const struct handoff_keys *keys, struct views *views)
{
	const struct prober old = *p;
	int ret;

	p->settings = settings;
	p->keys = keys;
	p->views = views;
	p->policy = policy_of(settings);
	ret = make_targets(p);
	if (ret) {
		free(p->targets);
		free(p->overrides);
		*p = old;
		return ret;
	}
	take_over(p, &old);
	run_timer(p);
	free(old.targets);
	free(old.overrides);
	return 0;
}

/* At run time */

static size_t change(struct prober *p, const char *name,
		     void (*how)(struct prober_override *o, uint32_t value), uint32_t value)
{
	const struct balancer_settings *s = p->settings;
	uint64_t now_ms = clock_ms();
	size_t found = 0;

	for (size_t i = 0; i < s->pool_count; i++) {
		for (size_t j = 0; j < s->pools[i].backend_count; j++) {
			const struct backend_settings *b = &s->pools[i].backends[j];

			if (strcmp(b->name, name) != 0)
				continue;
			how(&p->overrides[b->number], value);
			found++;
		}
	}
	for (size_t i = 0; found && i < p->count; i++)
		weigh(p, &p->targets[i], now_ms);
	return found;
}

static void set_state(struct prober_override *o, uint32_t state)
{
	o->state = state;
}

static void set_weight(struct prober_override *o, uint32_t weight)
{
	o->weight = weight;
}

size_t prober_drain(struct prober *p, const char *name)
{
	return change(p, name, set_state, DRAINED);
}

size_t prober_activate(struct prober *p, const char *name)
{
	return change(p, name, set_state, ACTIVE);
}

size_t prober_weight_set(struct prober *p, const char *name, uint32_t weight)
{
	return change(p, name, set_weight, weight);
}

static uint32_t share_of(const struct view *view, size_t count, uint32_t weight)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += view->weights[i];
	return sum ? (uint32_t)((weight * UINT64_C(1000) + sum / 2) / sum) : 0;
}

void prober_each(const struct prober *p,
		 void (*each)(void *context, const struct prober_report *report), void *context)
{
	uint64_t now_ms = clock_ms();

	for (size_t i = 0; i < p->count; i++) {
		const struct prober_target *t = &p->targets[i];
		const struct backend_settings *b = backend_of(p, t);
		const struct pool_settings *pool = &p->settings->pools[t->view->pool];
		uint32_t effective = t->view->weights[t->backend];
		const struct prober_report report = {
			.service = service_of(p, t),
			.pool = pool,
			.backend = b,
			.state = t->health.state,
			.drained = drained(p, b),
			.why = t->health.why,
			.last = t->health.last,
			.weight = weight_of(p, b),
			.effective = effective,
			.share = share_of(t->view, pool->backend_count, effective),
			.connections = pool_load_now(&p->views->loads[b->number]),
			.age_ms = t->health.result_ms ? now_ms - t->health.result_ms : UINT64_MAX,
		};

		each(context, &report);
	}
}
