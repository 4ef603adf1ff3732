/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets of our own making into the network: SYNs with a record, resets, duplicate ACKs. */
#ifndef L3DSR_INJECT_H
#define L3DSR_INJECT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/packet.h"

struct inject {
	int fd4;
	struct counters *counters;
};

/**
 * inject_open() - raw sockets; 0 or -errno after the reason was logged
 * @mark:	what the packets carry for this host's own rules; 0: nothing
 */
int inject_open(struct inject *inject, struct counters *counters, uint32_t mark);
void inject_close(struct inject *inject);

/** inject_send() - send a whole IP packet; a failure is counted */
void inject_send(struct inject *inject, const uint8_t *packet, size_t len);

/** inject_build() - build the packet that @spec describes and send it */
void inject_build(struct inject *inject, const struct packet_spec *spec);

#endif
