/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table by serial number, and ABORTs. */
#include "withdrawn.h"

#include <errno.h>
#include <stdlib.h>

#include "record.h"

int withdrawn_init(struct withdrawn *w)
{
	w->offers = calloc(WITHDRAWN_PLACES, sizeof(*w->offers));
	return w->offers ? 0 : -ENOMEM;
}

void withdrawn_clean(struct withdrawn *w)
{
	free(w->offers);
}

static struct withdrawn_offer *place(const struct withdrawn *w, uint64_t id)
{
	return &w->offers[(id >> 32) % WITHDRAWN_PLACES];
}

static void send_abort(struct inject *inject, const struct handoff_keys *keys,
		       const struct withdrawn_offer *offer)
{
	struct packet_spec syn = {
		.tuple = offer->tuple,
		.seq = offer->isn_c,
		.window = offer->window,
		.flags = TCP_SYN,
	};

	record_send(inject, keys, &offer->record, &syn, &offer->bridge);
}

void withdrawn_send(struct withdrawn *w, struct inject *inject, const struct handoff_keys *keys,
		    const struct withdrawn_offer *offer)
{
	*place(w, offer->record.id) = *offer;
	send_abort(inject, keys, offer);
}

bool withdrawn_repeat(const struct withdrawn *w, struct inject *inject,
		      const struct handoff_keys *keys, uint64_t id)
{
	const struct withdrawn_offer *offer = place(w, id);

	/* An empty place has no type: 0 is an id as well. */
	if (offer->record.type != HANDOFF_ABORT || offer->record.id != id)
		return false;
	send_abort(inject, keys, offer);
	return true;
}
