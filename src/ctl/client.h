/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking a daemon on its control socket. */
#ifndef L3DSR_CTL_CLIENT_H
#define L3DSR_CTL_CLIENT_H

#include "table.h"

enum client_result {
	CLIENT_OK,
	CLIENT_REFUSED,	    /* the daemon says no */
	CLIENT_UNREACHABLE, /* there is no daemon, or its answer broke off */
};

/** client_connect() - to the socket at @path; a descriptor, or -errno */
int client_connect(const char *path);

/**
 * client_ask() - send @count words and read the answer into @table; @fd is closed
 * What is wrong is written to stderr.
 */
enum client_result client_ask(int fd, char **words, size_t count, struct table *table);

#endif
