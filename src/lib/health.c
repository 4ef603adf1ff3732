/* SPDX-License-Identifier: GPL-2.0-or-later */
/* States of a target, and when it is asked next. */
#include "health.h"

#include <stdio.h>

static const char *const state_name[] = {
	[HEALTH_NEW] = "new",
	[HEALTH_UP] = "up",
	[HEALTH_DOWN] = "down",
};

static const char *const cause_text[] = {
	[HEALTH_NOTHING] = "nothing is known yet",
	[HEALTH_ANSWERS] = "the web server answers",
	[HEALTH_REFUSED] = "the web server refuses connections",
	[HEALTH_NO_ANSWER] = "the web server does not answer in time",
	[HEALTH_UNREACHABLE] = "the web server's address is not reached from its bridge",
	[HEALTH_HTTP] = "the web server answers with status",
	[HEALTH_NO_HTTP] = "the web server answers with something else than HTTP",
	[HEALTH_SILENT] = "the bridge does not answer",
	[HEALTH_KEY] = "the bridge has another key: compare the key files",
	[HEALTH_VERSION] = "the bridge speaks another version of the handoff messages",
	[HEALTH_SERVICE] = "the bridge has no service of this index, address and port",
	[HEALTH_DSCP_REMARKED] = "the network remarks the DSCP field, to",
	[HEALTH_DSCP_CLEARED] = "the network clears the DSCP field",
};

_Static_assert(sizeof(cause_text) / sizeof(cause_text[0]) == HEALTH_CAUSES,
	       "every cause has a text");

const char *health_state_name(enum health_state state)
{
	return state_name[state];
}

const char *health_text(const struct health_result *result, char buf[HEALTH_TEXT_LEN])
{
	const char *text = cause_text[result->cause];

	if (result->cause == HEALTH_HTTP || result->cause == HEALTH_DSCP_REMARKED)
		snprintf(buf, HEALTH_TEXT_LEN, "%s %u", text, result->detail);
	else
		snprintf(buf, HEALTH_TEXT_LEN, "%s", text);
	return buf;
}

bool health_result_of(const struct handoff_status *status, uint8_t index,
		      struct health_result *result)
{
	static const enum health_cause causes[HANDOFF_STATES] = {
		[HANDOFF_STATE_UP] = HEALTH_ANSWERS,
		[HANDOFF_STATE_REFUSED] = HEALTH_REFUSED,
		[HANDOFF_STATE_SILENT] = HEALTH_NO_ANSWER,
		[HANDOFF_STATE_UNREACHABLE] = HEALTH_UNREACHABLE,
		[HANDOFF_STATE_HTTP] = HEALTH_HTTP,
		[HANDOFF_STATE_NO_HTTP] = HEALTH_NO_HTTP,
		[HANDOFF_STATE_SERVICE] = HEALTH_SERVICE,
		[HANDOFF_STATE_KEY] = HEALTH_KEY,
		[HANDOFF_STATE_VERSION] = HEALTH_VERSION,
	};
	enum health_cause cause = causes[status->state];

	*result = (struct health_result){ .cause = cause };
	if (cause == HEALTH_HTTP)
		result->detail = status->http;
	if (cause == HEALTH_SERVICE || cause == HEALTH_KEY || cause == HEALTH_VERSION)
		return true;
	/* However well the web server is: no packet of a connection would reach it. */
	if (status->dscp == 0) {
		result->cause = HEALTH_DSCP_CLEARED;
	} else if (status->dscp != index) {
		result->cause = HEALTH_DSCP_REMARKED;
		result->detail = status->dscp;
	}
	return result->cause != HEALTH_NOTHING;
}

/* xorshift32 (Marsaglia); never 0. */
static uint32_t draw(struct health *h)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 17;
	h->random ^= h->random << 5;
	return h->random;
}

static uint32_t jittered(struct health *h, uint32_t ms)
{
	return ms - ms / 10 + draw(h) % (ms / 5 + 1);
}

void health_init(struct health *h, const struct health_policy *p, uint32_t seed, uint64_t now_ms)
{
	*h = (struct health){ .random = seed * 2654435761u | 1 };
	h->next_ms = now_ms + draw(h) % p->fast_ms;
}

uint64_t health_next_ms(const struct health *h, const struct health_policy *p)
{
	return h->waiting ? h->sent_ms + p->timeout_ms : h->next_ms;
}

bool health_due(const struct health *h, uint64_t now_ms)
{
	return !h->waiting && now_ms >= h->next_ms;
}

void health_asked(struct health *h, uint64_t id, uint64_t now_ms)
{
	h->waiting = true;
	h->id = id;
	h->sent_ms = now_ms;
	h->hint = HEALTH_NOTHING;
}

static bool enter(struct health *h, enum health_state state, const struct health_result *result,
		  uint64_t now_ms)
{
	h->slow = state == HEALTH_UP && h->state == HEALTH_DOWN;
	h->up_ms = now_ms;
	h->state = state;
	h->why = *result;
	h->streak = h->other = 0;
	return true;
}

static bool bad_again(struct health *h, const struct health_policy *p,
		      const struct health_result *result, uint64_t now_ms)
{
	bool same = result->cause == h->why.cause && result->detail == h->why.detail;
	bool repeated = result->cause == h->last.cause && result->detail == h->last.detail;

	h->streak = 0;
	h->other = same ? 0 : repeated ? h->other + 1 : 1;
	return h->other >= p->fall && enter(h, HEALTH_DOWN, result, now_ms);
}

static bool judge(struct health *h, const struct health_policy *p,
		  const struct health_result *result, uint64_t now_ms)
{
	if (result->cause == HEALTH_ANSWERS) {
		if (h->state == HEALTH_UP) {
			h->streak = 0;
			return false;
		}
		h->streak = h->state == HEALTH_DOWN ? h->streak + 1 : p->rise;
		return h->streak >= p->rise && enter(h, HEALTH_UP, result, now_ms);
	}
	if (h->state == HEALTH_DOWN)
		return bad_again(h, p, result, now_ms);
	return ++h->streak >= p->fall && enter(h, HEALTH_DOWN, result, now_ms);
}

/* The next question: a time after the last one, not after its result. */
static void plan(struct health *h, const struct health_policy *p, bool doubt, uint64_t now_ms)
{
	h->waiting = false;
	h->next_ms = h->sent_ms + jittered(h, doubt ? p->fast_ms : p->interval_ms);
	if (h->next_ms < now_ms)
		h->next_ms = now_ms;
}

static bool conclude(struct health *h, const struct health_policy *p,
		     const struct health_result *result, uint64_t now_ms)
{
	bool news = judge(h, p, result, now_ms);

	h->last = *result;
	h->result_ms = now_ms;
	h->doubted = false;
	plan(h, p, h->state == HEALTH_NEW || h->streak || h->other, now_ms);
	return news;
}

bool health_answered(struct health *h, const struct health_policy *p,
		     const struct handoff_status *status, uint8_t index, uint64_t now_ms)
{
	struct health_result result;

	if (!h->waiting || status->id != h->id)
		return false;
	if (health_result_of(status, index, &result))
		return conclude(h, p, &result, now_ms);
	plan(h, p, true, now_ms);
	return false;
}

bool health_expire(struct health *h, const struct health_policy *p, uint64_t now_ms)
{
	struct health_result result = { .cause = h->hint ? h->hint : HEALTH_SILENT };

	if (!h->waiting || now_ms < h->sent_ms + p->timeout_ms)
		return false;
	return conclude(h, p, &result, now_ms);
}

void health_hinted(struct health *h, uint64_t id, enum health_cause cause)
{
	if (h->waiting && h->id == id)
		h->hint = cause;
}

void health_doubted(struct health *h, const struct health_policy *p, uint64_t now_ms)
{
	if (h->state == HEALTH_DOWN || h->doubted)
		return;
	h->doubted = true;
	if (h->streak + 1 < p->fall)
		h->streak++;
	if (h->waiting)
		return;
	if (h->next_ms > h->sent_ms + p->fast_ms)
		h->next_ms = h->sent_ms + p->fast_ms;
	if (h->next_ms < now_ms)
		h->next_ms = now_ms;
}

void health_start_slowly(struct health *h, uint64_t now_ms)
{
	if (h->state != HEALTH_UP)
		return;
	h->slow = true;
	h->up_ms = now_ms;
}

uint32_t health_weight(const struct health *h, const struct health_policy *p, uint32_t weight,
		       uint64_t now_ms)
{
	uint64_t whole = (uint64_t)weight * HEALTH_WEIGHT_UNIT, since = now_ms - h->up_ms;

	if (h->state == HEALTH_DOWN)
		return 0;
	if (!h->slow || since >= p->slow_start_ms)
		return (uint32_t)whole;
	whole = whole * since / p->slow_start_ms;
	return whole ? (uint32_t)whole : weight != 0;
}
