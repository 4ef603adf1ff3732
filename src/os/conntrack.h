/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries of the kernel's connection tracking that translate a connection: made, read, ended. */
#ifndef L3DSR_CONNTRACK_H
#define L3DSR_CONNTRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

/*
 * DOC: Theory of operation
 *
 * An entry with address translation, an adjustment of sequence numbers and the clock offset that
 * the SYNPROXY target keeps is all that the kernel needs to translate between two handshakes. It
 * is made through ctnetlink, as if it had been established long ago. The kernel's side:
 *
 *   - nat is only done in a network namespace that has chains of type nat, and the clock offset is
 *     only used in one that has a synproxy rule. nft/bridge.nft has both, empty and never matching.
 *   - Window tracking has not seen the handshakes, so it is told to be liberal.
 *   - The reply tuple is given untranslated, and the translation beside it: an entry whose reply is
 *     translated already is made without an error, and translates nothing.
 *   - Both translations are given in full, also the one of the source that changes nothing.
 *     Otherwise the kernel would silently choose another port when the tuple is taken; so it
 *     says EEXIST.
 *   - Liberal also means that anybody's FIN is believed, and anybody's RST once there was a FIN.
 *     Without a FIN only a RST with the exact number is (RFC 5961, 3).
 *
 * A request is answered before sendto() returns: no call below ever waits. Messages are built and
 * read on the stack.
 *
 * Not handled: timeouts. Each packet sets them anew, from the values in /proc/sys/net/netfilter.
 */

/** enum conntrack_state - of TCP, with the kernel's numbers (nf_conntrack_tcp.h) */
enum conntrack_state {
	CONNTRACK_ESTABLISHED = 3,
	CONNTRACK_FIN_WAIT = 4,
	CONNTRACK_CLOSE_WAIT = 5,
	CONNTRACK_LAST_ACK = 6, /* from here on both sides have said FIN, or one RST */
	CONNTRACK_TIME_WAIT = 7,
	CONNTRACK_CLOSE = 8,
};

/**
 * struct conntrack_entry - a connection that the kernel translates
 * @original:	from the client, before the translation: client -> VIP
 * @reply:	from the web server, before the translation: web server -> client
 * @mark:	whose entry it is
 * @isn_c, @isn_n:	initial sequence numbers of client and web server
 * @seq_delta:	added to the sequence numbers of the web server
 * @ts_delta:	subtracted from its timestamps; 0 if there are none
 * @wscale_original, @wscale_reply: window scales of the two sides
 * @state:	enum conntrack_state
 * @fin_first:	the client has said FIN before the web server did, or somebody in its name; only of
 *		entries that were read
 * @timeout_s:	what is left of its life without another packet
 * @id:		the kernel's name for it; only of entries that were read
 */
struct conntrack_entry {
	struct tuple original, reply;
	uint32_t mark;
	uint32_t isn_c, isn_n, seq_delta, ts_delta;
	uint8_t wscale_original, wscale_reply;
	uint8_t state;
	bool fin_first;
	uint32_t timeout_s;
	uint32_t id;
};

struct conntrack {
	int fd; /* -1: not open */
	uint32_t seq;
};

/** conntrack_open() - connect to ctnetlink; 0 or -errno after the reason was logged */
int conntrack_open(struct conntrack *c);
void conntrack_close(struct conntrack *c);

/**
 * conntrack_create() - make @entry; older ones with one of its tuples are removed
 * It translates from when this returns 0. Otherwise -errno; -ENOMEM when there are nf_conntrack_max.
 */
int conntrack_create(struct conntrack *c, const struct conntrack_entry *entry);

/** conntrack_get() - the entry that a packet with @tuple belongs to; 0, -ENOENT or another -errno */
int conntrack_get(struct conntrack *c, const struct tuple *tuple, struct conntrack_entry *entry);

/** conntrack_delete() - remove @entry, which was read before, if it is still the same one */
int conntrack_delete(struct conntrack *c, const struct conntrack_entry *entry);

#define CONNTRACK_BATCH 32

/**
 * conntrack_delete_many() - the same for @count @entries, up to CONNTRACK_BATCH, with one system call
 * @gone:	for each whether it was removed
 * Returns 0, or -errno when none was.
 */
int conntrack_delete_many(struct conntrack *c, const struct conntrack_entry *entries, size_t count,
			  bool *gone);

/**
 * conntrack_end() - @original has been reset: it translates on, for @timeout_s; 0 or -errno
 * @mark:	bits that its mark gets
 */
int conntrack_end(struct conntrack *c, const struct tuple *original, uint32_t mark,
		  uint32_t timeout_s);

/** conntrack_dump() - begin to read all entries whose mark has @mark under @mask; 0 or -errno */
int conntrack_dump(struct conntrack *c, uint32_t mark, uint32_t mask);
/**
 * conntrack_dump_next() - give the next of them to @each, some hundred at most
 * Returns 1 if there are more, 0 at the end, or -errno. @c must not be used for anything else before
 * the end.
 */
int conntrack_dump_next(struct conntrack *c,
			void (*each)(void *context, const struct conntrack_entry *entry),
			void *context);

#define CONNTRACK_SYSCTL "/proc/sys/net/netfilter/nf_conntrack_"

/** conntrack_sysctl() - read the number in the file CONNTRACK_SYSCTL@name; 0 or -errno */
int conntrack_sysctl(const char *name, uint32_t *value);

struct nlmsghdr;

#define CONNTRACK_MESSAGE_MAX 1024

/** conntrack_build() - the message that makes @entry, into CONNTRACK_MESSAGE_MAX bytes at @buf */
struct nlmsghdr *conntrack_build(void *buf, const struct conntrack_entry *entry, uint32_t seq);
/** conntrack_parse() - read a message about an entry; false if it is not one of TCP */
bool conntrack_parse(const struct nlmsghdr *nlh, struct conntrack_entry *entry);

#endif
