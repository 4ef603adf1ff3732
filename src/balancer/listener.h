/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's sockets: listening, accepted and waiting, and their close without a sound. */
#ifndef L3DSR_LISTENER_H
#define L3DSR_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/counters.h"
#include "lib/flow_table.h"
#include "snoop.h"

/*
 * DOC: Theory of operation
 *
 * The kernel completes the handshakes; what it then has to offer is accepted here. Nobody reads
 * from these sockets: the request is held in the queue before it reaches them. An accepted socket
 * waits in a bounded table until
 *
 * - its connection was handed over: it is closed silently. TCP_REPAIR was set on the listening
 *   socket between bind() and listen(), where children inherit it (measured; see tcp_close(),
 *   "if (unlikely(tcp_sk(sk)->repair))"), so that close() sends neither FIN nor RST;
 * - the client leaves or sends no request in time: TCP_REPAIR is switched off, so close() says FIN;
 * - the table is full: the oldest that is not busy goes the same way.
 *
 * It also tells what the handshake agreed on, for connections that were not snooped: with
 * TCP_REPAIR_QUEUE = TCP_SEND_QUEUE inherited, TCP_QUEUE_SEQ reads isn_b + 1 at once.
 *
 * Each worker has a listening socket of its own for each service. A BPF program in the
 * SO_REUSEPORT group computes the hash of the ruleset, so that the kernel puts a connection into
 * the backlog of the worker that sees its packets. They are opened by the main thread, or were by that of
 * the daemon before (inherited.h), and given to the worker with its configuration.
 */

struct accepted;

/**
 * struct listening - one worker's listening socket of a service
 * @fd:		-1: none
 * @kept:	the service manager has it, too; the main thread's
 * @drops:	that listener_drops() has told of; the main thread's
 */
struct listening {
	struct endpoint vip;
	int fd;
	bool kept;
	uint32_t drops;
};

struct listener {
	const struct listening *listening; /* one per service */
	size_t listening_count;
	struct slots slots;
	struct index index;
	struct expiry expiry;
	struct accepted *accepted;
	uint32_t over; /* of these, sockets of connections that were handed over */
	struct counters *counters;
};

/**
 * listener_init() - a table of @capacity accepted sockets, without listening sockets yet
 * @wait_ms: how long a connection may be silent. 0 or -ENOMEM.
 */
int listener_init(struct listener *l, uint32_t capacity, uint64_t wait_ms,
		  struct counters *counters);
void listener_clean(struct listener *l);

/**
 * listener_open() - begin to listen at @l->vip, for worker @worker of @workers
 * @window_scale: that clients are told, 0 to 14, or -1: what the kernel makes of its memory
 * For one address and port after the other, in the order of the workers: the kernel chooses by the
 * order of listen() calls. 0 or -errno after the reason was logged.
 */
int listener_open(struct listening *l, int window_scale, unsigned int worker, unsigned int workers);

/** listener_check_scale() - warn when the kernel's memory is too small for it: it tells less then */
void listener_check_scale(int window_scale);
/** listener_scale() - the scale that clients are told, as tcp_select_initial_window() finds it */
uint8_t listener_scale(int window_scale);

/** enum listener_use - what the rest of the daemon knows of a tuple (client to VIP) */
enum listener_use {
	LISTENER_IDLE,	      /* nothing: the connection is the kernel's */
	LISTENER_BUSY,	      /* its request is being held: the socket must stay */
	LISTENER_HANDED_OVER, /* it lives elsewhere: the socket is needed no more */
};

/** struct listener_judge - whom to ask about the connection of a socket */
struct listener_judge {
	enum listener_use (*use)(void *context, const struct tuple *tuple);
	void *context;
};

/**
 * listener_use() - these are the listening sockets from now on, and @wait_ms is the time for a request
 * Those that were used before and are not among them are closed, with what was accepted from them and
 * is idle: its service is gone.
 */
void listener_use(struct listener *l, const struct listening *listening, size_t count,
		  uint64_t wait_ms, const struct listener_judge *judge, uint64_t now_ms);

/** listener_accept() - take what the kernel has completed */
void listener_accept(struct listener *l, const struct listener_judge *judge, uint64_t now_ms);

/** listener_has() - is there a socket of @tuple? */
bool listener_has(const struct listener *l, const struct tuple *tuple);
/** listener_handshake() - what the socket of @tuple tells; false if it was not accepted (yet) */
bool listener_handshake(const struct listener *l, const struct tuple *tuple,
			struct handshake *handshake);

/**
 * listener_hand_over() - the connection lives elsewhere now: closed without a sound, in a moment
 * Its last packets, and copies of them, may be on their way past the ruleset's maps. They must meet a
 * socket: without one our kernel answers a bare ACK with a reset that the client believes.
 */
void listener_hand_over(struct listener *l, const struct tuple *tuple, uint64_t now_ms);
/** listener_close_silent() - the same at once: the connection was reset, or begins anew */
void listener_close_silent(struct listener *l, const struct tuple *tuple);
/**
 * listener_close_soon() - the client seems to have left without a request
 * Closed when the kernel thinks so too, which has seen whether FIN or RST had the right number.
 * Returns false if there is no such socket.
 */
bool listener_close_soon(struct listener *l, const struct tuple *tuple, uint64_t now_ms);

/** listener_close_spoken() - end a connection that was accepted, so that its client hears of it */
void listener_close_spoken(int fd);
/** listener_resume() - go on with an accepted socket of the daemon before; it is closed if it cannot be */
void listener_resume(struct listener *l, const struct tuple *tuple, int fd, uint64_t now_ms);
/** listener_leave() - an accepted socket for the daemon behind, which is the caller's; -1: no more */
int listener_leave(struct listener *l);

/** listener_drops() - how much the kernel has dropped at this socket since the last question */
uint32_t listener_drops(struct listening *l);
/** listener_expire() - close what was silent for too long, or has left */
void listener_expire(struct listener *l, const struct listener_judge *judge, uint64_t now_ms);
/** listener_count() - accepted sockets that are needed now; may be read by another thread */
uint32_t listener_count(const struct listener *l);

#endif
