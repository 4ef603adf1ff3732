/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records on their way to a bridge: in a SYN of the client, with the index in the DSCP field. */
#ifndef L3DSR_RECORD_H
#define L3DSR_RECORD_H

#include "lib/handoff.h"
#include "lib/packet.h"
#include "os/inject.h"

/**
 * record_send() - sign @record and send it to @bridge
 * @syn: the SYN that carries it; its tuple is client to VIP. Payload, destination address and DSCP
 * field are put in here.
 */
void record_send(struct inject *inject, const struct handoff_keys *keys,
		 const struct handoff_record *record, struct packet_spec *syn,
		 const struct addr *bridge);

#endif
