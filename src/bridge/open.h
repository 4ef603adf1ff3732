/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offers of balancers: believing them, opening the second handshake, answering. */
#ifndef L3DSR_BRIDGE_OPEN_H
#define L3DSR_BRIDGE_OPEN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/packet.h"
#include "os/queue.h"

/*
 * DOC: Theory of operation
 *
 * A balancer's offer is a SYN of the client with a record as its payload. It is believed when the
 * MAC fits and when index, VIP and port are those of a service of ours. The record is cut off and
 * the SYN goes to the web server as the client's own; then
 *
 *   SYN-ACK	is swallowed: the client has one already. The splice is made, ACCEPTED is sent
 *   RST	is swallowed: REFUSED
 *   nothing	REFUSED after open_ms; what comes later is answered with a reset
 *   an ACK	the web server still holds an older connection of that client port and challenges
 *		us (RFC 5961, 4; RFC 9293, 3.10.7.3): the client would answer with a reset, so we
 *		do, and the balancer's next SYN is accepted
 *
 * A web server's kernel takes the time from its SYN-ACK to the ACK for the round trip time of the
 * client. Here it is that of bridge and balancer, much too short if the client is far away. With BBR
 * that is a disaster: it sends no more than fits into its shortest round trip time, and believes the
 * shortest for ten seconds. With the others the first retransmission timeout may end before an
 * acknowledgement can be there. So for clients that are far the measurement is spoiled: the first
 * acknowledged data is then the first to be measured, at the price of a first timeout of one second
 * and more.
 *
 * An offer that comes again (same id) is answered again, or its SYN goes on once more. Another
 * offer of the same client port replaces what there was: the client has begun anew, or the balancer has
 * withdrawn the one before and asks again.
 */

struct bridge_worker;
struct service_settings;

/** open_record() - a SYN with a record, @service being what index, VIP and port say, or NULL */
void open_record(struct bridge_worker *w, struct packet *p, const struct queue_packet *qp,
		 const struct service_settings *service, uint64_t now_ms);

/** open_server_packet() - from the web server, on a connection that is OPENING or DEAD */
void open_server_packet(struct bridge_worker *w, uint32_t slot, const struct packet *p,
			const struct queue_packet *qp, uint64_t now_ms);

/** open_expire() - refuse what the web server did not answer in time */
void open_expire(struct bridge_worker *w, uint64_t now_ms);

#endif
