/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that the service manager keeps while there is no daemon: the next one gets them back. */
#ifndef L3DSR_FD_STORE_H
#define L3DSR_FD_STORE_H

#include <stdbool.h>
#include <stddef.h>

#define FD_NAME_MAX 256

/** struct fd_store - what this process was started with, by the names it was given under */
struct fd_store {
	int *fd; /* -1: taken */
	char **name;
	size_t count;
};

/** fd_store_open() - before there are threads; 0 or -errno after the reason was logged */
int fd_store_open(struct fd_store *s);
/** fd_store_close() - what nobody has taken. It stays with the manager, unless it was shut down */
void fd_store_close(struct fd_store *s);

/** fd_store_has() - is there one called @name? */
bool fd_store_has(const struct fd_store *s, const char *name);
/** fd_store_take() - it is the caller's from now on; -1 if there is none */
int fd_store_take(struct fd_store *s, const char *name);
/** fd_store_take_any() - the same with any that is left */
int fd_store_take_any(struct fd_store *s);

/*
 * A parcel: many descriptors inside of a pair of sockets, so that the manager has two to keep. It compares
 * each new one with all that it has.
 */

/** fd_parcel_new() - the one for reading is @pair[0]; 0 or -errno */
int fd_parcel_new(int pair[2]);
/** fd_parcel_put() - copies of @count of @fds; returns how many there was room for */
size_t fd_parcel_put(const int pair[2], const int *fds, size_t count);

#define FD_PARCEL_BATCH 128

/** fd_parcel_get() - the next ones, FD_PARCEL_BATCH at most, from either end; 0: no more */
size_t fd_parcel_get(int fd, int fds[FD_PARCEL_BATCH]);

#endif
