/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages for the operator: to the journal when stderr is connected to it, else to stderr. */
#ifndef L3DSR_LOG_H
#define L3DSR_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/** log_level_names[] - "error" and so on by enum log_level, ended by NULL */
extern const char *const log_level_names[];

/** log_open() - @name stands before each line on stderr; called once, before any thread starts */
void log_open(const char *name);
/** log_is_journal() - do messages go to the journal? */
bool log_is_journal(void);
/** log_set_level() - messages above @level are not written */
void log_set_level(enum log_level level);

/* Safe from any thread: one write per message. log_errno_*() append strerror(errno). */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** struct log_limit - zero at first: one cause that is logged at most once a minute, by any thread */
struct log_limit {
	uint64_t next_ms;
	uint64_t suppressed;
};

/**
 * log_warning_limited() - as log_warning(), at most once a minute per @limit
 * A later line of the same cause ends in "(N more since)". Threads may share @limit.
 */
void log_warning_limited(struct log_limit *limit, uint64_t now_ms, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
