/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemons count: for each event a name, and a sentence written for the operator. */
#ifndef L3DSR_COUNTERS_H
#define L3DSR_COUNTERS_H

#include <stdint.h>

#include "handoff.h"
#include "packet.h"

enum counter_scope { COUNTER_BALANCER = 1, COUNTER_BRIDGE = 2, COUNTER_BOTH = 3 };

/* clang-format off */
#define COUNTERS(X)                                                                                \
	X(PACKETS, packets, BOTH, "packets received from the queues")                              \
	X(VERDICTS, verdicts, BOTH, "packets answered with a verdict; equal to packets when idle") \
	X(PACKET_BATCHES, packet_batches, BOTH, "times packets were received; under load several at once")       \
	X(VERDICT_BATCHES, verdict_batches, BOTH, "times verdicts were sent; under load several at once")        \
	X(VERDICTS_LOST, verdicts_lost, BOTH, "verdicts that could not be sent to the kernel")     \
	X(VERDICTS_REFUSED, verdicts_refused, BOTH, "verdicts for packets the kernel did not know")\
	X(QUEUE_OVERRUNS, queue_overruns, BOTH, "times the socket buffer of a queue was full and packets were lost") \
	X(INJECTED, injected, BOTH, "packets of our own that were sent")                           \
	X(INJECT_FAILED, inject_failed, BOTH, "packets of our own that the kernel did not take")   \
	X(PASSED, passed, BOTH, "packets that were none of our business and went on unchanged")    \
	X(DROP_TRUNCATED, drop_truncated, BOTH, "dropped: shorter than its headers say")           \
	X(DROP_BAD_IP, drop_bad_ip, BOTH, "dropped: impossible IP version or header length")       \
	X(DROP_FRAGMENT, drop_fragment, BOTH, "dropped: an IP fragment")                           \
	X(DROP_NOT_TCP, drop_not_tcp, BOTH, "dropped: not TCP")                                    \
	X(DROP_BAD_TCP, drop_bad_tcp, BOTH, "dropped: impossible TCP data offset")                 \
	X(DROP_CHECKSUM, drop_checksum, BOTH, "dropped: wrong TCP checksum")                       \
	/* balancer */                                                                             \
	X(HANDSHAKES, handshakes, BALANCER, "SYNs of new connections")                             \
	X(HANDSHAKES_EVICTED, handshakes_evicted, BALANCER, "handshakes forgotten early because the table was full") \
	X(HANDSHAKE_BY_SNOOP, handshake_by_snoop, BALANCER, "requests whose handshake was seen in passing") \
	X(HANDSHAKE_BY_SOCKET, handshake_by_socket, BALANCER, "requests whose handshake was read from the accepted socket") \
	X(HANDSHAKE_UNKNOWN, handshake_unknown, BALANCER, "data of connections without a known handshake, given to the kernel without its data") \
	X(EMPTY_UNKNOWN, empty_unknown, BALANCER, "packets without data of connections without a known handshake, given to the kernel") \
	X(ACK_COMPLETED, ack_completed, BALANCER, "handshakes completed for the kernel because the client's bare ACK was not seen, or is held") \
	X(ACK_ASKED_FOR, ack_asked_for, BALANCER, "clients of a server that speaks first whose ACK was asked for once more: their SYN had been forgotten") \
	X(SOCKETS_ACCEPTED, sockets_accepted, BALANCER, "connections accepted from the kernel")     \
	X(ACCEPT_FAILED, accept_failed, BALANCER, "times the daemon had no file descriptor left for a connection") \
	X(BACKLOG_DROPPED, backlog_dropped, BALANCER, "SYNs and handshakes that the kernel dropped because a listening socket's backlog was full") \
	X(SOCKETS_EVICTED, sockets_evicted, BALANCER, "silent connections closed early because the table was full") \
	X(SOCKETS_CLOSED, sockets_closed, BALANCER, "connections closed because the client left or sent no request in time") \
	X(REQUESTS, requests, BALANCER, "requests recognised")                                      \
	X(REQUESTS_NOT_RECOGNISED, requests_not_recognised, BALANCER, "connections that began with something else than the service's protocol") \
	X(REQUESTS_NAMELESS, requests_nameless, BALANCER, "requests without the host or server name that is their key") \
	X(NO_ROUTE, no_route, BALANCER, "connections reset because no route of their service wanted them, and it has no pool") \
	X(REQUESTS_TOO_LONG, requests_too_long, BALANCER, "requests that filled limits.request_bytes and were not complete") \
	X(REQUESTS_TIMED_OUT, requests_timed_out, BALANCER, "requests that were not complete within timeouts.request_ms") \
	X(REQUESTS_REFUSED, requests_refused, BALANCER, "connections reset because limits.requests were held") \
	X(FALLBACK_SOURCE, fallback_source, BALANCER, "connections handed over by the client's address") \
	X(FALLBACK_RESET, fallback_reset, BALANCER, "connections reset because no request was recognised") \
	X(HELD, held, BALANCER, "packets held until a bridge took their connection")                \
	X(HELD_MERGED, held_merged, BALANCER, "packets whose data was merged into an earlier held packet") \
	X(DROP_HELD_DUPLICATE, drop_held_duplicate, BALANCER, "dropped: retransmission of data that is held") \
	X(DROP_HELD_OUTSIDE, drop_held_outside, BALANCER, "dropped: data beyond what is held of a request") \
	X(DROP_HELD_FOREIGN, drop_held_foreign, BALANCER, "dropped: data that acknowledges something else than the handshake") \
	X(DROP_HELD_FULL, drop_held_full, BALANCER, "dropped: more packets than are held of a request") \
	X(DROP_HELD_ABANDONED, drop_held_abandoned, BALANCER, "dropped: held for a connection that was given up") \
	X(WINDOW_OPENED, window_opened, BALANCER, "duplicate ACKs sent so that a client with a long request goes on") \
	X(OPEN_SENT, open_sent, BALANCER, "connections offered to a bridge")                        \
	X(OPEN_RETRANSMITTED, open_retransmitted, BALANCER, "offers repeated because no answer came") \
	X(OPEN_SILENT, open_silent, BALANCER, "offers that a bridge did not answer; the next backend was tried") \
	X(OPEN_REFUSED, open_refused, BALANCER, "offers that a bridge refused; the next backend was tried") \
	X(ABORT_SENT, abort_sent, BALANCER, "offers taken back")                                    \
	X(ABORT_REPEATED, abort_repeated, BALANCER, "offers taken back once more because a bridge took them late") \
	X(ACCEPTED, accepted, BALANCER, "connections that a bridge took")                           \
	X(ANSWERS_LATE, answers_late, BALANCER, "answers of bridges to offers that are over")       \
	X(NO_BACKEND, no_backend, BALANCER, "connections reset because no backend of the pool took them") \
	X(LAST_RESORT, last_resort, BALANCER, "connections offered to a backend that is down because no other took them") \
	X(OVERFLOWED, overflowed, BALANCER, "connections offered to another backend because their own had more than load_factor of its share") \
	X(PROBES_SENT, probes_sent, BALANCER, "questions to bridges about their services")         \
	X(PROBES_SILENT, probes_silent, BALANCER, "questions to bridges that were not answered in time") \
	X(STATUS_RECEIVED, status_received, BALANCER, "answers of bridges about their services")    \
	X(STATUS_LATE, status_late, BALANCER, "answers of bridges to questions that are over")      \
	X(FLOWS_REFUSED, flows_refused, BALANCER, "connections reset because limits.flows are steered") \
	X(FLOWS_ENDED, flows_ended, BALANCER, "steered connections forgotten after their end")      \
	X(FLOWS_IDLE, flows_idle, BALANCER, "steered connections forgotten after timeouts.idle_s")  \
	X(FLOWS_REUSED, flows_reused, BALANCER, "steered connections whose port was used again")    \
	X(FLOWS_NOT_LEARNED, flows_not_learned, BALANCER, "connections that the kernel has not learned, steered by the daemon") \
	X(STEERED, steered, BALANCER, "packets steered to a bridge")                                \
	X(DROP_SILENCED, drop_silenced, BALANCER, "dropped: what this kernel had to say on a steered connection") \
	X(QUOTES_STEERED, quotes_steered, BALANCER, "ICMP errors about steered connections, sent to their bridge") \
	/* bridge */                                                                               \
	X(OPENS, opens, BRIDGE, "connections offered by a balancer")                                \
	X(OPENS_REPEATED, opens_repeated, BRIDGE, "offers that had come before")                    \
	X(OPENS_REPLACED, opens_replaced, BRIDGE, "connections replaced by a newer one of the same client port") \
	X(OPENS_REFUSED, opens_refused, BRIDGE, "offers refused")                                   \
	X(ABORTS, aborts, BRIDGE, "offers taken back by a balancer")                                \
	X(PROBES, probes, BRIDGE, "questions of balancers about services")                          \
	X(PROBES_LOST, probes_lost, BRIDGE, "questions of balancers that came too fast to be answered") \
	X(PROBES_EXPLAINED, probes_explained, BRIDGE, "balancers told that their key or version is another one") \
	X(CHECKS, checks, BRIDGE, "checks of web servers")                                          \
	X(CHECKS_FAILED, checks_failed, BRIDGE, "checks of web servers that failed")                \
	X(SPLICED, spliced, BRIDGE, "connections spliced to the web server")                        \
	X(KERNEL_SPLICED, kernel_spliced, BRIDGE, "connections given to the kernel to translate")   \
	X(KERNEL_SCALE, kernel_scale, BRIDGE, "connections that the kernel cannot translate because their window scales differ") \
	X(KERNEL_FAILED, kernel_failed, BRIDGE, "connections that the kernel did not take")          \
	X(SYN_ACKS_PASSED, syn_acks_passed, BRIDGE, "SYN-ACKs that the web server repeated, sent on for the client to acknowledge again") \
	X(UNMEASURED, unmeasured, BRIDGE, "connections whose web server was kept from measuring the handshake, because the client is far") \
	X(PORT_CHANGED, port_changed, BRIDGE, "connections opened from another port because the client's own was taken") \
	X(SERVER_RESET_OLD, server_reset_old, BRIDGE, "connections of the web server reset because their client began anew") \
	X(TO_SERVER, to_server, BRIDGE, "packets translated for the web server")                    \
	X(TO_CLIENT, to_client, BRIDGE, "packets translated for a client")                          \
	X(QUOTES_TRANSLATED, quotes_translated, BRIDGE, "ICMP errors translated for the web server") \
	X(DROP_QUOTE_UNKNOWN, drop_quote_unknown, BRIDGE, "dropped: an ICMP error about a connection nobody knows") \
	X(SCALES_DIFFER, scales_differ, BRIDGE, "connections whose windows are rescaled")           \
	X(UNKNOWN_RESET, unknown_reset, BRIDGE, "resets sent for packets of connections nobody knows") \
	X(SPLICES_ENDED, splices_ended, BRIDGE, "spliced connections forgotten after their end")    \
	X(SPLICES_IDLE, splices_idle, BRIDGE, "spliced connections forgotten after timeouts.idle_s") \
	X(DROP_SWALLOWED, drop_swallowed, BRIDGE, "dropped: the web server's half of a handshake, as it should be") \
	X(DROP_UNKNOWN_INDEX, drop_unknown_index, BRIDGE, "dropped: no service has this index, address and port") \
	X(DROP_UNKNOWN, drop_unknown, BRIDGE, "dropped: a reset of a connection nobody knows")      \
	X(DROP_EARLY, drop_early, BRIDGE, "dropped: data of a connection the web server has not taken yet") \
	X(DROP_NO_RECORD, drop_no_record, BRIDGE, "dropped: a SYN without a handoff record, which no balancer sends")        \
	X(DROP_REPEATED, drop_repeated, BRIDGE, "dropped: an offer that was answered already")      \
	X(DROP_FULL, drop_full, BRIDGE, "dropped: limits.flows are spliced")                        \
	X(ANSWERS_FAILED, answers_failed, BRIDGE, "answers to balancers that could not be sent") \
	/* handoff messages: OPEN and ABORT on the bridge, answers on the balancer */               \
	X(DROP_HANDOFF_TRUNCATED, drop_handoff_truncated, BOTH, "dropped: handoff message of the wrong length") \
	X(DROP_HANDOFF_FOREIGN, drop_handoff_foreign, BOTH, "dropped: not a handoff message")      \
	X(DROP_HANDOFF_VERSION, drop_handoff_version, BOTH, "dropped: handoff message of another version") \
	X(DROP_HANDOFF_TYPE, drop_handoff_type, BOTH, "dropped: handoff message of unknown type")  \
	X(DROP_HANDOFF_KEY, drop_handoff_key, BOTH, "dropped: handoff message with a key id that is not in the key file") \
	X(DROP_HANDOFF_FORGED, drop_handoff_forged, BOTH, "dropped: handoff message with a wrong MAC") \
	X(DROP_HANDOFF_FIELD, drop_handoff_field, BOTH, "dropped: handoff message that contradicts itself, its packet or the configuration")
/* clang-format on */

enum counter {
#define COUNTER_ID(id, name, scope, sentence) COUNTER_##id,
	COUNTERS(COUNTER_ID)
#undef COUNTER_ID
		COUNTER_COUNT
};

/** struct counters - of one thread, which alone writes them; others may read at any time */
struct counters {
	uint64_t value[COUNTER_COUNT];
};

static inline void counters_add(struct counters *c, enum counter which, uint64_t n)
{
	/* One writer: a plain read is right, and the relaxed store cannot be seen half done. */
	__atomic_store_n(&c->value[which], c->value[which] + n, __ATOMIC_RELAXED);
}

static inline uint64_t counters_get(const struct counters *c, enum counter which)
{
	return __atomic_load_n(&c->value[which], __ATOMIC_RELAXED);
}

/** counter_name() - as the operator sees it; counter_sentence(): what it means */
const char *counter_name(enum counter which);
const char *counter_sentence(enum counter which);
/** counter_scope() - which daemon counts it */
enum counter_scope counter_scope(enum counter which);

/** counter_of_packet_fault() - where a packet that cannot be parsed is counted */
enum counter counter_of_packet_fault(enum packet_fault fault);
/** counter_of_handoff_fault() - where a handoff message that is not believed is counted */
enum counter counter_of_handoff_fault(enum handoff_fault fault);

#endif
