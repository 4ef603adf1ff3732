/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and sentences of the counters. */
#include "counters.h"

static const struct {
	const char *name;
	enum counter_scope scope;
	const char *sentence;
} description[] = {
#define COUNTER_DESCRIPTION(id, name, scope, sentence) { #name, COUNTER_##scope, sentence },
	COUNTERS(COUNTER_DESCRIPTION)
#undef COUNTER_DESCRIPTION
};

const char *counter_name(enum counter which)
{
	return description[which].name;
}

const char *counter_sentence(enum counter which)
{
	return description[which].sentence;
}

enum counter_scope counter_scope(enum counter which)
{
	return description[which].scope;
}

enum counter counter_of_packet_fault(enum packet_fault fault)
{
	static const enum counter counter[PACKET_FAULTS] = {
		[PACKET_TRUNCATED] = COUNTER_DROP_TRUNCATED,
		[PACKET_BAD_IP] = COUNTER_DROP_BAD_IP,
		[PACKET_FRAGMENT] = COUNTER_DROP_FRAGMENT,
		[PACKET_NOT_TCP] = COUNTER_DROP_NOT_TCP,
		[PACKET_BAD_TCP] = COUNTER_DROP_BAD_TCP,
	};

	return counter[fault];
}

enum counter counter_of_handoff_fault(enum handoff_fault fault)
{
	static const enum counter counter[HANDOFF_FAULTS] = {
		[HANDOFF_TRUNCATED] = COUNTER_DROP_HANDOFF_TRUNCATED,
		[HANDOFF_FOREIGN] = COUNTER_DROP_HANDOFF_FOREIGN,
		[HANDOFF_BAD_VERSION] = COUNTER_DROP_HANDOFF_VERSION,
		[HANDOFF_BAD_TYPE] = COUNTER_DROP_HANDOFF_TYPE,
		[HANDOFF_UNKNOWN_KEY] = COUNTER_DROP_HANDOFF_KEY,
		[HANDOFF_FORGED] = COUNTER_DROP_HANDOFF_FORGED,
		[HANDOFF_BAD_FIELD] = COUNTER_DROP_HANDOFF_FIELD,
	};

	return counter[fault];
}
