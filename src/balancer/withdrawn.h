/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offers that were taken back, for bridges that take them even so. */
#ifndef L3DSR_WITHDRAWN_H
#define L3DSR_WITHDRAWN_H

#include <stdint.h>

#include "lib/addr.h"
#include "lib/handoff.h"
#include "os/inject.h"

/*
 * DOC: Theory of operation
 *
 * An ABORT can be lost, and a web server late: then the bridge says ACCEPTED to an offer that is over,
 * and would keep for idle_s what nobody uses. So what an ABORT consists of is kept, and sent again.
 *
 * Each offer has its place by its serial number, and only those that were taken back use it. It is
 * theirs until another one is taken back that many offers later: nobody has to remove it, and a storm of
 * them loses the oldest.
 */

#define WITHDRAWN_PLACES 1024

struct withdrawn_offer {
	struct handoff_record record; /* the ABORT */
	struct tuple tuple;	      /* client to VIP */
	struct addr bridge;
	uint32_t isn_c;
	uint16_t window;
};

struct withdrawn {
	struct withdrawn_offer *offers;
};

/** withdrawn_init() - 0 or -ENOMEM */
int withdrawn_init(struct withdrawn *w);
void withdrawn_clean(struct withdrawn *w);

/** withdrawn_send() - send the ABORT that @offer describes, and keep it */
void withdrawn_send(struct withdrawn *w, struct inject *inject, const struct handoff_keys *keys,
		    const struct withdrawn_offer *offer);
/** withdrawn_repeat() - once more, if @id is an offer that was taken back; was it? */
bool withdrawn_repeat(const struct withdrawn *w, struct inject *inject,
		      const struct handoff_keys *keys, uint64_t id);

#endif
