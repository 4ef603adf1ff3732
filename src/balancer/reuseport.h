/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which worker's listening socket gets a connection: the ruleset's hash, in classic BPF. */
#ifndef L3DSR_REUSEPORT_H
#define L3DSR_REUSEPORT_H

/**
 * reuseport_attach() - let the SO_REUSEPORT group of bound IPv4 socket @fd choose as the ruleset
 * does Worker queue_hash() % @workers gets the connection, where workers are numbered by the order
 * of their listen() calls. Returns 0, or -1 with errno of setsockopt().
 */
int reuseport_attach(int fd, unsigned int workers);

#endif
