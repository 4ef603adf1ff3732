/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections that the kernel translates: given to it, found in it, taken back. */
#ifndef L3DSR_BRIDGE_SPLICE_KERNEL_H
#define L3DSR_BRIDGE_SPLICE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "os/conntrack.h"

/*
 * DOC: Theory of operation
 *
 * Each connection of the kernel's data plane is an entry of connection tracking (os/conntrack.h),
 * and that entry is the only place where it is remembered: whoever wants to know something of it
 * asks the kernel. So this process may end and begin again. The entry's mark says that it is ours,
 * and the index of its VIP.
 *
 * The kernel cannot rescale windows. A connection where that is needed stays with the daemon.
 *
 * Not handled: idle connections and the rest of closed ones, see sweep.h.
 */

#define SPLICE_KERNEL_MARK 0x6c330000 /* and the index in the low bits; nft/bridge.nft knows it */
#define SPLICE_KERNEL_MASK 0xffff0000
/* In the mark as well: the web server has said FIN, or RST. The former is noted by nft/bridge.nft. */
#define SPLICE_KERNEL_ENDED 0x00000100
/* The client has said FIN, or somebody in its name; noted by nft/bridge.nft. */
#define SPLICE_KERNEL_CLIENT_ENDED 0x00000400
/* The offer was one with HANDOFF_SILENT. */
#define SPLICE_KERNEL_SILENT 0x00000200

struct splice_flow;

/**
 * struct splice_kernel - one worker's access to the entries
 * @established_s, @close_s: life of an entry after it was made, and after a reset, if no packet comes:
 *			the kernel's own timeouts, by which sweep.h tells since when none has come
 */
struct splice_kernel {
	struct conntrack conntrack;
	uint32_t established_s, close_s;
};

/** splice_kernel_translates() - is there nothing in it that the kernel cannot translate? */
bool splice_kernel_translates(const struct splice_flow *f);

/** splice_kernel_add() - let the kernel translate it; 0 or -errno */
int splice_kernel_add(struct splice_kernel *k, const struct splice_flow *f);

/**
 * splice_kernel_find() - the connection of a packet from either side, as the client's host or the
 * web server sent it. Fills @f but for what the offer said; false if it is none of ours.
 */
bool splice_kernel_find(struct splice_kernel *k, const struct tuple *tuple, struct splice_flow *f);

/** splice_kernel_end() - it was reset: the kernel translates a little longer and forgets it */
void splice_kernel_end(struct splice_kernel *k, const struct splice_flow *f);

/** splice_kernel_remove() - the kernel knows it no longer when this returns */
void splice_kernel_remove(struct splice_kernel *k, const struct splice_flow *f);

#endif
