/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections on their way through a bridge: from the offer to their end. */
#ifndef L3DSR_BRIDGE_SPLICE_H
#define L3DSR_BRIDGE_SPLICE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/flow_table.h"
#include "lib/icmp_quote.h"
#include "lib/packet.h"
#include "lib/rewrite.h"
#include "os/log.h"
#include "settings.h"

/*
 * DOC: Theory of operation
 *
 * A table of connections, found from both sides (as client to VIP, and as web server to client).
 * Who translates the packets of a connection is decided when the second handshake is complete: the
 * kernel (splice_kernel.h), or this process (lib/rewrite.h), for all connections if
 * `data_plane` says so, else for those that the kernel cannot translate. The functions below are all
 * that the rest knows of it.
 *
 *   OPENING	the SYN went to the web server, its answer is awaited for open_ms
 *   SPLICED	both handshakes are known, packets are translated here; idle_s without a packet ends
 *		it
 *   CLOSING	both sides have said FIN, or one RST; packets are translated here for closing_s more,
 *		or until a new connection needs the place
 *   DEAD	taken back or too late: an answer of the web server that still comes is answered
 *		with a reset; forgotten after open_ms
 *   KERNEL	the kernel translates it. The place in the table is but a copy, for open_ms: after
 *		the handshake, so that a repeated offer is answered again, and whenever a packet
 *		comes here that the kernel did not translate: resets of the web server, SYN-ACKs that
 *		are late, ICMP errors, what window tracking calls invalid. Then the kernel is asked.
 *
 * Towards the web server a connection has the client's own address and port. Only when that pair
 * is taken (one client port with two VIPs whose service is one web server) another port is chosen,
 * one that the ruleset's hash sends to the same worker.
 */

enum splice_state {
	SPLICE_OPENING,
	SPLICE_SPLICED,
	SPLICE_CLOSING,
	SPLICE_DEAD,
	SPLICE_KERNEL,
	SPLICE_STATES
};

/**
 * struct splice_flow - one connection
 * @vip, @client, @client_port:	as the client knows it; @client_port also as the client chose it
 * @server, @server_side_port:	as the web server knows it
 * @index:	of the VIP
 * @isn_c, @isn_b, @rtt_us, @window:	as offered; @window of the SYN, never scaled
 * @options:	enum handoff_options; in a copy of what the kernel knows HANDOFF_SILENT alone
 * @id, @answer:	of the offer: for answers; zero in a copy of what the kernel knows
 * @next:	what the client sends next: FIN and RST elsewhere are not its own
 * @fin:	who has said FIN: bits 0 (client) and 1 (web server)
 * @asked_again:	the next repetition of the web server's SYN-ACK was asked for here
 */
struct splice_flow {
	struct splice numbers;
	struct endpoint client, vip, server;
	uint16_t server_side_port;
	uint16_t window;
	uint32_t isn_c, isn_b, ts_b, rtt_us;
	uint32_t next;
	uint8_t options, wscale_client, wscale_balancer;
	uint8_t fin, index;
	bool asked_again;
	uint64_t id;
	struct endpoint answer;
};

struct splice_kernel;

/**
 * struct splice_table - the connections of one worker
 * @kernel:	the kernel's data plane, or NULL: all packets are translated here
 */
struct splice_table {
	struct splice_kernel *kernel;
	struct slots slots;
	struct index from_client; /* (client, VIP) */
	struct index from_server; /* (web server, client) */
	struct expiry expiry;	  /* a class is a state */
	struct splice_flow *flows;
	struct counters *counters;
	unsigned int worker, workers;
};

/** splice_init() - for @capacity connections, on worker @worker of @workers; 0 or -ENOMEM */
int splice_init(struct splice_table *t, uint32_t capacity, const struct bridge_timeouts *timeouts,
		unsigned int worker, unsigned int workers, struct counters *counters);
void splice_clean(struct splice_table *t);
/** splice_timeouts() - from now on, of all connections */
void splice_timeouts(struct splice_table *t, const struct bridge_timeouts *timeouts);

/** splice_find_client() - by a packet of the client (destination: the VIP), or SLOT_NONE */
uint32_t splice_find_client(struct splice_table *t, const struct tuple *tuple, uint64_t now_ms);
/** splice_find_server() - by a packet of the web server, or SLOT_NONE */
uint32_t splice_find_server(struct splice_table *t, const struct tuple *tuple, uint64_t now_ms);

/**
 * splice_open() - a new connection of @client to @vip, to be opened to @server
 * @shared: @server is that of other VIPs too, whose connections may have the client's port
 * It is OPENING; the caller fills in the rest. SLOT_NONE if there is no room, or no free port.
 */
uint32_t splice_open(struct splice_table *t, const struct endpoint *client,
		     const struct endpoint *vip, const struct endpoint *server, bool shared,
		     uint64_t now_ms);
/** splice_remove() - forget it; so does the kernel */
void splice_remove(struct splice_table *t, uint32_t slot);

enum splice_state splice_state(const struct splice_table *t, uint32_t slot);
void splice_set_state(struct splice_table *t, uint32_t slot, enum splice_state state,
		      uint64_t now_ms);

/**
 * splice_established() - the web server's SYN-ACK came: compute the translation; now SPLICED or KERNEL
 * Returns HANDOFF_REASON_NONE; or why the offer has to be refused, the state is unchanged then: _OPTIONS
 * when the web server did not agree to what the client was told, _FULL when the kernel has no room.
 */
enum handoff_reason splice_established(struct splice_table *t, uint32_t slot,
				       const struct packet *syn_ack, uint64_t now_ms);

/** splice_to_server(), splice_to_client() - translate a packet of a connection that translates */
void splice_to_server(struct splice_table *t, uint32_t slot, struct packet *p, uint64_t now_ms);
void splice_to_client(struct splice_table *t, uint32_t slot, struct packet *p, uint64_t now_ms);

/** splice_repeats() - is this SYN-ACK the one that splice_established() has seen? */
bool splice_repeats(const struct splice_table *t, uint32_t slot, const struct packet *syn_ack);

/** splice_translates() - is it SPLICED, CLOSING or KERNEL? */
bool splice_translates(const struct splice_table *t, uint32_t slot);

/** splice_quote_to_server() - translate an ICMP error about a packet of such a connection */
void splice_quote_to_server(struct splice_table *t, uint32_t slot, struct icmp_quote *q);

/** splice_expired() - a connection that was OPENING for too long, or SLOT_NONE; others are removed
 */
uint32_t splice_expired(struct splice_table *t, uint64_t now_ms);
/** struct splice_row - a connection as it is shown; @state is a constant */
struct splice_row {
	struct endpoint client, vip, server;
	const char *state;
};

/**
 * splice_list() - up to @max connections that this table alone has, from slot *@cursor on, which is moved
 * Returns how many; *@cursor is SLOT_NONE behind the last one.
 */
size_t splice_list(const struct splice_table *t, uint32_t *cursor, struct splice_row *rows,
		   size_t max);

/** splice_count() - connections now; may be read by another thread */
uint32_t splice_count(const struct splice_table *t);
/** splice_live() - the same for those that are SPLICED */
uint32_t splice_live(const struct splice_table *t);

#endif
