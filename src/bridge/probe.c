/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Believing PROBEs, having web servers checked, sending STATUS. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bridge.h"
#include "os/log.h"

#define FRESH_MS	  50
#define PATIENCE_MS	  100
#define WAITING_MAX	  64
#define REQUESTS_AT_ONCE  32
#define EXPLAINED_PER_SEC 8

/**
 * struct probe_service - one service of ours
 * @last:	result of the last check, at @last_ms; 0: there was none yet
 * @waiting:	to be answered at the end of the check that is running, or when the patience is over
 */
struct probe_service {
	struct probes *probes;
	struct check check;
	struct check_result last;
	uint64_t last_ms, begun_ms;
	struct probe_request waiting[WAITING_MAX];
	size_t waiting_count;
	sd_event_source *patience;
};

/* What is known of the web server while a check may be running. */
static uint8_t state_now(const struct probe_service *s)
{
	bool hopeful = !s->last_ms || s->last.state == HANDOFF_STATE_UP;

	return check_running(&s->check) && hopeful ? HANDOFF_STATE_PENDING : s->last.state;
}

/* @s: the service, or NULL if the request says all of it */
static void answer(struct probes *p, const struct probe_service *s, const struct probe_request *r)
{
	bool checked = s && s->last_ms;
	const struct handoff_status status = {
		.state = s ? state_now(s) : r->state,
		.dscp = r->dscp,
		.wscale = checked ? s->last.wscale : HANDOFF_SCALE_UNKNOWN,
		.http = checked ? s->last.http : 0,
		.live = p->live(p->live_context),
		.id = r->id,
	};
	uint8_t buf[HANDOFF_STATUS_LEN];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&r->to.addr, r->to.port, &ss);

	handoff_status_encode(&status, p->keys, buf);
	if (sendto(p->answer_fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&ss, len) < 0)
		counters_add(p->counters, COUNTER_ANSWERS_FAILED, 1);
}

static void answer_all(struct probe_service *s)
{
	for (size_t i = 0; i < s->waiting_count; i++)
		answer(s->probes, s, &s->waiting[i]);
	s->waiting_count = 0;
	s->patience = sd_event_source_disable_unref(s->patience);
}

static int on_patience(sd_event_source *source, uint64_t now_us, void *context)
{
	(void)source;
	(void)now_us;
	answer_all(context);
	return 0;
}

static void tell_change(const struct probe_service *s, const struct check_result *result)
{
	const struct service_settings *settings = s->check.service;
	bool up = result->state == HANDOFF_STATE_UP;
	char text[ENDPOINT_STRLEN], http[16] = "";

	if (s->last_ms ? s->last.state == result->state && s->last.http == result->http : up)
		return;
	endpoint_format(&settings->server, (uint16_t)settings->server_port, text);
	if (result->state == HANDOFF_STATE_HTTP)
		snprintf(http, sizeof(http), ", %u", result->http);
	if (up)
		log_info("service %s: %s (%s)", settings->name, handoff_state_text(result->state),
			 text);
	else
		log_warning("service %s: %s%s (%s)", settings->name,
			    handoff_state_text(result->state), http, text);
}

static void checked(void *context, const struct check_result *result)
{
	struct probe_service *s = context;

	if (result->state != HANDOFF_STATE_UP)
		counters_add(s->probes->counters, COUNTER_CHECKS_FAILED, 1);
	tell_change(s, result);
	s->last = *result;
	s->last_ms = clock_ms();
	answer_all(s);
}

static void ask(struct probe_service *s, const struct probe_request *r)
{
	uint64_t now_ms = clock_ms();
	bool fresh = s->last_ms && now_ms - s->last_ms < FRESH_MS;
	bool late = check_running(&s->check) && now_ms - s->begun_ms >= PATIENCE_MS;

	if (fresh || late || s->waiting_count == WAITING_MAX) {
		answer(s->probes, s, r);
		return;
	}
	s->waiting[s->waiting_count++] = *r;
	if (check_running(&s->check))
		return;
	s->begun_ms = now_ms;
	counters_add(s->probes->counters, COUNTER_CHECKS, 1);
	if (sd_event_add_time_relative(s->probes->event, &s->patience, CLOCK_MONOTONIC,
				       PATIENCE_MS * 1000, 1000, on_patience, s) < 0)
		answer_all(s);
	check_begin(&s->check);
}

static struct probe_service *find_service(struct probes *p, const struct endpoint *vip,
					  uint8_t index)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct service_settings *s = p->services[i].check.service;

		if (s->index == index && s->port == vip->port && addr_equal(&s->vip, &vip->addr))
			return &p->services[i];
	}
	return NULL;
}

static void take(struct probes *p, struct probe_request *r)
{
	struct probe_service *s = NULL;

	if (r->state == HANDOFF_STATE_PENDING) {
		s = find_service(p, &r->vip, r->index);
		r->state = HANDOFF_STATE_SERVICE;
	}
	if (s)
		ask(s, r);
	else
		answer(p, NULL, r);
}

static int on_requests(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct probe_request requests[REQUESTS_AT_ONCE];
	ssize_t len = read(fd, requests, sizeof(requests));

	(void)source;
	(void)revents;
	/* Each was written at once, so none is here in part. */
	for (size_t i = 0; len > 0 && i < (size_t)len / sizeof(requests[0]); i++)
		take(context, &requests[i]);
	return 0;
}

static int make_services(struct probes *p, const struct bridge_settings *settings)
{
	struct probe_service *services = calloc(settings->service_count, sizeof(*services));

	if (!services)
		return -ENOMEM;
	for (size_t i = 0; i < settings->service_count; i++) {
		struct probe_service *s = &services[i];

		s->probes = p;
		s->check = (struct check){ .service = &settings->services[i],
					   .from = &settings->address,
					   .event = p->event,
					   .done = checked,
					   .context = s,
					   .fd = -1 };
	}
	p->services = services;
	p->count = settings->service_count;
	p->settings = settings;
	return 0;
}

int probes_init(struct probes *p, sd_event *event, struct counters *counters)
{
	int fds[2], ret;

	p->event = event;
	p->counters = counters;
	ret = make_services(p, p->settings);
	if (!ret && pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		ret = -errno;
	if (!ret) {
		p->pipe_fd = fds[0];
		p->request_fd = fds[1];
		ret = sd_event_add_io(event, &p->source, p->pipe_fd, EPOLLIN, on_requests, p);
	}
	if (ret >= 0)
		return 0;
	log_error("cannot set up the checks of web servers: %s", strerror(-ret));
	return ret;
}

static void free_services(struct probe_service *services, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		check_stop(&services[i].check);
		sd_event_source_disable_unref(services[i].patience);
	}
	free(services);
}

/* Does the same check tell the same of both? */
static bool same_check(const struct service_settings *a, const struct service_settings *b)
{
	return a->server_port == b->server_port && addr_equal(&a->server, &b->server) &&
	       a->check == b->check && a->check_status == b->check_status &&
	       !strcmp(a->check_path, b->check_path) && !strcmp(a->check_host, b->check_host);
}

int probes_renew(struct probes *p, const struct bridge_settings *settings,
		 const struct handoff_keys *keys)
{
	struct probe_service *old = p->services;
	size_t count = p->count;

	if (make_services(p, settings))
		return -ENOMEM;
	/* Who waits is told what is known. */
	for (size_t i = 0; i < count; i++)
		answer_all(&old[i]);
	p->keys = keys;
	for (size_t i = 0; i < count; i++) {
		const struct service_settings *was = old[i].check.service;
		const struct endpoint vip = { .addr = was->vip, .port = (uint16_t)was->port };
		struct probe_service *s = find_service(p, &vip, (uint8_t)was->index);

		if (s && same_check(s->check.service, was)) {
			s->last = old[i].last;
			s->last_ms = old[i].last_ms;
		}
	}
	free_services(old, count);
	return 0;
}

void probes_clean(struct probes *p)
{
	free_services(p->services, p->count);
	sd_event_source_disable_unref(p->source);
	if (p->request_fd) {
		close(p->pipe_fd);
		close(p->request_fd);
	}
	if (p->answer_fd >= 0)
		close(p->answer_fd);
}

/* From here on: of the workers. */

static void give(struct bridge_worker *w, const struct probe_request *r)
{
	if (write(w->probes->request_fd, r, sizeof(*r)) != sizeof(*r))
		counters_add(&w->counters, COUNTER_PROBES_LOST, 1);
}

static void believed(struct bridge_worker *w, const struct handoff_record *r,
		     const struct packet *p)
{
	const struct probe_request request = {
		.id = r->id,
		.to = r->answer,
		.vip = r->vip,
		.index = r->index,
		.dscp = p->dscp,
		.state = HANDOFF_STATE_PENDING,
	};

	counters_add(&w->counters, COUNTER_PROBES, 1);
	give(w, &request);
}

/* Not to be believed, but its sender may be told why; nobody else is. */
static void explain(struct bridge_worker *w, const struct packet *p, enum handoff_state state,
		    uint64_t now_ms)
{
	struct probe_request request = { .to.addr = p->tuple.src,
					 .dscp = p->dscp,
					 .state = (uint8_t)state };
	struct probe_limit *limit = &w->probe_limit;

	if (limit->second != now_ms / 1000)
		*limit = (struct probe_limit){ .second = now_ms / 1000 };
	if (limit->count == EXPLAINED_PER_SEC ||
	    !handoff_probe_peek(p->data + p->payload, packet_payload_len(p), &request.id,
				&request.to.port))
		return;
	limit->count++;
	counters_add(&w->counters, COUNTER_PROBES_EXPLAINED, 1);
	give(w, &request);
}

bool probe_packet(struct bridge_worker *w, struct packet *p, const struct queue_packet *qp,
		  uint64_t now_ms)
{
	const struct handoff_carrier carrier = {
		.client = { .addr = p->tuple.src, .port = p->tuple.sport },
		.bridge = w->generation->settings->address,
		.dport = p->tuple.dport,
		.seq = p->seq,
	};
	struct handoff_record r;
	enum handoff_fault fault;
	uint64_t id;
	uint16_t port;

	if (!handoff_probe_peek(p->data + p->payload, packet_payload_len(p), &id, &port))
		return false;
	/* A damaged one is not one of another key. */
	if (p->checksum == CHECKSUM_UNVERIFIED && !packet_tcp_checksum_ok(p)) {
		counters_add(&w->counters, COUNTER_DROP_CHECKSUM, 1);
		queue_drop(w->worker.queue, qp->queue, qp->id);
		return true;
	}
	fault = handoff_record_decode(&r, &carrier, &w->generation->keys, p->data + p->payload,
				      packet_payload_len(p));
	if (fault == HANDOFF_OK)
		believed(w, &r, p);
	else if (fault == HANDOFF_UNKNOWN_KEY || fault == HANDOFF_FORGED)
		explain(w, p, HANDOFF_STATE_KEY, now_ms);
	else if (fault == HANDOFF_BAD_VERSION)
		explain(w, p, HANDOFF_STATE_VERSION, now_ms);
	if (fault != HANDOFF_OK)
		counters_add(&w->counters, counter_of_handoff_fault(fault), 1);
	queue_drop(w->worker.queue, qp->queue, qp->id);
	return true;
}
