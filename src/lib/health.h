/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is a service up at a backend? What answers to probes, and their absence, say about it. */
#ifndef L3DSR_HEALTH_H
#define L3DSR_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "handoff.h"

/*
 * DOC: Theory of operation
 *
 * A target is one service at one backend. It is asked by PROBE every interval_ms, and every fast_ms
 * while there is a doubt. Each question has one result: the STATUS that came, or nothing within
 * timeout_ms.
 *
 *   NEW	nothing is known yet: counts as up, so that a start makes nobody wait. The first good
 *		result makes it UP, `fall` bad ones DOWN
 *   UP		`fall` bad results in a row make it DOWN
 *   DOWN	`rise` good results in a row make it UP, with a weight that grows for slow_start_ms
 *
 * What connections meet counts too: an offer that was refused or not answered is worth one bad result,
 * but one only until the next result, and never the last of those that are needed: it is the probe that
 * decides, and a doubt has it sent at once.
 *
 * A result is good or has a cause, and the cause is told: what is DOWN for another reason than before
 * is news once that has been said `fall` times in a row. That a web server has not answered *yet* is
 * a doubt and no result.
 *
 * A STATUS that cannot be verified (another key, another version) says why there will be no answer. It
 * changes nothing by itself: it is the cause that the silence gets.
 *
 * Intervals are jittered by a tenth, so that balancers do not ask in step.
 */

enum health_state { HEALTH_NEW, HEALTH_UP, HEALTH_DOWN };

/** health_state_name() - "new", "up", "down" */
const char *health_state_name(enum health_state state);

/** enum health_cause - what a result says */
enum health_cause {
	HEALTH_NOTHING,	      /* no result yet */
	HEALTH_ANSWERS,	      /* the only good one */
	HEALTH_REFUSED,	      /* the web server: refuses connections, ... */
	HEALTH_NO_ANSWER,     /* ... does not answer in time, ... */
	HEALTH_UNREACHABLE,   /* ... is not reached, ... */
	HEALTH_HTTP,	      /* ... answers with the wrong status, @detail; 0: not said, ... */
	HEALTH_NO_HTTP,	      /* ... or with something else */
	HEALTH_SILENT,	      /* no STATUS */
	HEALTH_KEY,	      /* bridge and balancer have no key in common */
	HEALTH_VERSION,	      /* or do not speak the same version */
	HEALTH_SERVICE,	      /* the bridge has no such service */
	HEALTH_DSCP_REMARKED, /* the network makes @detail of the index */
	HEALTH_DSCP_CLEARED,  /* or takes it away */
	HEALTH_CAUSES,
};

struct health_result {
	enum health_cause cause;
	unsigned int detail;
};

/** health_result_of() - what @status says about a service with @index; false if that is no result */
bool health_result_of(const struct handoff_status *status, uint8_t index,
		      struct health_result *result);

#define HEALTH_TEXT_LEN 128

/** health_text() - a result in words: "the web server refuses connections"; returns @buf */
const char *health_text(const struct health_result *result, char buf[HEALTH_TEXT_LEN]);

struct health_policy {
	uint32_t interval_ms, fast_ms, timeout_ms, slow_start_ms;
	uint32_t rise, fall;
};

/**
 * struct health - one target
 * @why:	the result that made it what it is
 * @last:	the last result, and @result_ms when that was; 0: none yet
 * @streak:	results in a row that contradict the state; of DOWN, @other those with another cause
 * @id:		of the question that is open, if @waiting
 * @hint:	what an unverified answer to it has said, or HEALTH_NOTHING
 */
struct health {
	enum health_state state;
	struct health_result why, last;
	uint64_t result_ms, next_ms, sent_ms, id, up_ms;
	uint32_t streak, other, random;
	enum health_cause hint;
	bool waiting, doubted, slow;
};

/** health_init() - NEW; to be asked soon, and not with all others at once: @seed differs */
void health_init(struct health *h, const struct health_policy *p, uint32_t seed, uint64_t now_ms);

/** health_next_ms() - when there is something to do: ask if health_due(), else health_expire() */
uint64_t health_next_ms(const struct health *h, const struct health_policy *p);
bool health_due(const struct health *h, uint64_t now_ms);
/** health_asked() - the PROBE with @id was sent */
void health_asked(struct health *h, uint64_t id, uint64_t now_ms);

/* These tell whether there is news: another state, or another cause for being DOWN. */

/** health_answered() - a STATUS came, verified; to another question than the open one it is nothing */
bool health_answered(struct health *h, const struct health_policy *p,
		     const struct handoff_status *status, uint8_t index, uint64_t now_ms);
/** health_expire() - the open question, if its time is over */
bool health_expire(struct health *h, const struct health_policy *p, uint64_t now_ms);

/** health_hinted() - an answer to question @id came that cannot be verified, because of @cause */
void health_hinted(struct health *h, uint64_t id, enum health_cause cause);
/** health_doubted() - an offer was refused or not answered */
void health_doubted(struct health *h, const struct health_policy *p, uint64_t now_ms);

/** health_start_slowly() - if it is UP, its weight grows from now on */
void health_start_slowly(struct health *h, uint64_t now_ms);

#define HEALTH_WEIGHT_UNIT 64

/** health_weight() - what @weight is worth now, in 1/HEALTH_WEIGHT_UNIT; 0: DOWN */
uint32_t health_weight(const struct health *h, const struct health_policy *p, uint32_t weight,
		       uint64_t now_ms);

#endif
