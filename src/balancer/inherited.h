/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets that outlive the daemon: what the last one has left, and what is left to the next one. */
#ifndef L3DSR_INHERITED_H
#define L3DSR_INHERITED_H

#include <stdbool.h>
#include <stddef.h>

#include "listener.h"
#include "os/fd_store.h"
#include "os/service.h"

/*
 * DOC: Theory of operation
 *
 * The service manager keeps sockets over a restart, if it is asked to and its unit has room for them
 * (FileDescriptorStoreMax= of systemd). Without one, or without room, a restart is a stop and a start.
 *
 * Listening sockets are given to it as soon as they are there, so that also a daemon that was killed
 * leaves them: clients still get their handshake, and wait in the backlog for the next daemon. The name
 * says all that a socket must fit: service, window scale, worker, number of workers. Of a service whose
 * sockets do not all fit, none is used: what is in their backlogs is taken, and they are shut down. That
 * takes them out of the SO_REUSEPORT group at once, and the manager lets go of a socket that hangs up.
 *
 * Accepted sockets are left at the end only, in one parcel, without TCP_REPAIR: if nobody takes them they
 * are closed as ever. Those whose request is held belong to them: their packets are dropped, and the
 * client's next ones meet the next daemon.
 */

struct inherited {
	struct fd_store store;
	int *waiting; /* accepted sockets, whose service and worker are not known yet */
	size_t count, capacity;
};

/** inherited_open() - take all; 0 or -errno after the reason was logged */
int inherited_open(struct inherited *in);
/** inherited_close() - and close what nobody wants */
void inherited_close(struct inherited *in);

/** inherited_fits() - is there a socket for @l, of @worker of @workers? */
bool inherited_fits(const struct inherited *in, const struct listening *l, int window_scale,
		    unsigned int worker, unsigned int workers);
/** inherited_listening() - it is that of @l from now on; false if it is not what its name says */
bool inherited_listening(struct inherited *in, struct listening *l, int window_scale,
			 unsigned int worker, unsigned int workers);
/** inherited_shut() - all other listening sockets, after their backlogs were taken */
void inherited_shut(struct inherited *in);
/** inherited_waiting() - the next accepted socket and its connection; -1 if there is no more */
int inherited_waiting(struct inherited *in, struct tuple *tuple);

/** inherited_keep() - have the manager keep @l, unless it does */
void inherited_keep(const struct service *service, struct listening *l, int window_scale,
		    unsigned int worker, unsigned int workers);
/** inherited_leave() - leave @count accepted sockets to the next daemon */
void inherited_leave(const struct service *service, const int *fds, size_t count);

#endif
