/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens to the packets of a connection that was handed over: steering and splicing. */
#ifndef L3DSR_REWRITE_H
#define L3DSR_REWRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "packet.h"

/*
 * DOC: Theory of operation
 *
 * The client holds a connection with the VIP: it numbers its bytes from isn_c, and was told isn_b,
 * a window scale and a timestamp clock by the balancer's SYN-ACK. The web server holds a connection
 * with the same client: it was shown isn_c, and answered with isn_n, scale and clock of its own.
 *
 *			client -> web server			web server -> client
 * addresses, ports	VIP -> server, maybe another port	server -> VIP
 * seq			same					+ seq_delta = isn_b - isn_n
 * ack, SACK edges	- seq_delta				same
 * TSval / TSecr	same / + ts_delta = ts_n - ts_b		- ts_delta / same
 * window		rescaled when the server refused scales	rescaled when the scales differ
 *
 * Everything is modulo 2^32. A SACK block of the client names bytes of the server, so D-SACK blocks
 * (RFC 2883), which may lie below the acknowledgement, need no case of their own. The window of a
 * SYN is never scaled (RFC 7323, 2.2). A window that does not fit after rescaling is clamped to
 * 65535, and it is rounded down, so that a sender is told no more than there is. But one that takes a
 * full segment (SPLICE_OPEN_BYTES) is never told as closed: with a small buffer and a large scale it
 * might never be more. What is less than that is the rest of a window that is about to close, and is
 * told as closed: a sender that sees it open would run into its retransmission timer.
 *
 * Not handled here: which flow a packet belongs to, and whether it is still alive.
 */

/**
 * struct splice - the numbers between the two handshakes
 * @client_shift:	scale of the windows that the client sends, 0..14
 * @client_shift_server: the scale by which the web server reads them
 * @server_shift:	scale of the windows that the web server sends
 * @server_shift_client: the scale by which the client reads them
 * @timestamps:		both sides use them; without, a timestamp option is left alone
 */
struct splice {
	uint32_t seq_delta;
	uint32_t ts_delta;
	uint8_t client_shift, client_shift_server;
	uint8_t server_shift, server_shift_client;
	bool timestamps;
};

#define SPLICE_OPEN_BYTES 1460

/** splice_rescale() - a window field of scale @from as a field of scale @to, both 0..14 */
uint16_t splice_rescale(uint16_t window, unsigned int from, unsigned int to);

/**
 * rewrite_to_server() - a client's packet for the web server
 * Source port @client_port and destination @server are put in, @s is applied, the DSCP field is
 * cleared. Checksums: by difference (RFC 1624); in full when the kernel left them unfinished
 * (CHECKSUM_PARTIAL). A packet that was damaged stays damaged.
 */
void rewrite_to_server(struct packet *p, const struct splice *s, uint16_t client_port,
		       const struct endpoint *server);

/** rewrite_to_client() - the web server's packet, as coming from @vip to the port the client uses
 */
void rewrite_to_client(struct packet *p, const struct splice *s, const struct endpoint *vip,
		       uint16_t client_port);

/** rewrite_to_bridge() - steering: new destination address and DSCP field, nothing else */
void rewrite_to_bridge(struct packet *p, const struct addr *bridge, uint8_t index);

/**
 * rewrite_hide_timestamps() - put NOPs in the place of the option; see HANDOFF_FAR_US
 * The checksum is new, so the old one must have been right.
 */
void rewrite_hide_timestamps(struct packet *p);

/**
 * rewrite_strip_data() - cut data and FIN off, for a packet whose acknowledgement alone is wanted
 * Used for a request that has to complete the handshake in the kernel first. The checksum is new,
 * so the old one must have been right.
 */
void rewrite_strip_data(struct packet *p);

#endif
