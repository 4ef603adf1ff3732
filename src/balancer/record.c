/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signing and sending a record. */
#include "record.h"

void record_send(struct inject *inject, const struct handoff_keys *keys,
		 const struct handoff_record *record, struct packet_spec *syn,
		 const struct addr *bridge)
{
	const struct handoff_carrier carrier = {
		.client = { .addr = syn->tuple.src, .port = syn->tuple.sport },
		.bridge = *bridge,
		.dport = syn->tuple.dport,
		.seq = syn->seq,
	};
	uint8_t payload[HANDOFF_RECORD_LEN];

	handoff_record_encode(record, &carrier, keys, payload);
	syn->tuple.dst = *bridge;
	syn->dscp = record->index;
	syn->payload = payload;
	syn->payload_len = sizeof(payload);
	inject_build(inject, syn);
}
