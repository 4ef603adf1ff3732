/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages for the operator: to the journal when stderr is connected to it, else to stderr. */
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define LOG_TEXT_MAX	1024
#define LOG_INTERVAL_MS (60 * 1000)

/* Written before any thread starts, only read afterwards. */
static const char *log_name = "l3dsr";
static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_to_journal;

const char *const log_level_names[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug", [LOG_LEVEL_DEBUG + 1] = NULL,
};

static const int priorities[] = {
	[LOG_LEVEL_ERROR] = LOG_ERR,
	[LOG_LEVEL_WARNING] = LOG_WARNING,
	[LOG_LEVEL_INFO] = LOG_INFO,
	[LOG_LEVEL_DEBUG] = LOG_DEBUG,
};

/* systemd tells device and inode of the stream it gave us; a redirected stderr has others. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;
	int end = 0;

	if (!stream || sscanf(stream, "%ju:%ju%n", &device, &inode, &end) != 2 || stream[end])
		return false;
	return !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *name)
{
	log_name = name;
	log_to_journal = stderr_is_journal();
}

bool log_is_journal(void)
{
	return log_to_journal;
}

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_max, level, __ATOMIC_RELAXED);
}

/*
 * One write per message. The journal knows name and unit of who has this stderr, and takes the
 * priority from the number in front (sd-daemon(3)). Its own protocol would lose the unit of a daemon
 * that ends at once, because journald asks for it by the pid: `journalctl -u` would not show why.
 */
static void write_line(enum log_level level, const char *text)
{
	char line[LOG_TEXT_MAX + 64];
	ssize_t written;
	int len;

	if (log_to_journal)
		len = snprintf(line, sizeof(line), "<%d>%s\n", priorities[level], text);
	else
		len = snprintf(line, sizeof(line), "%s: %s: %s\n", log_name, log_level_names[level],
			       text);
	if (len >= (int)sizeof(line))
		len = (int)sizeof(line) - 1;
	/* There is nobody left to be told that stderr cannot be written. */
	written = write(STDERR_FILENO, line, (size_t)len);
	(void)written;
}

/* Text may quote bytes of the network or of a file: a line stays a line, a terminal unharmed. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

/* @error: errno to be explained, 0 for none; @more: lines that were suppressed before this one */
__attribute__((format(printf, 4, 0))) static void log_message(enum log_level level, int error,
							      uint64_t more, const char *format,
							      va_list args)
{
	char text[LOG_TEXT_MAX];
	int saved = errno;
	size_t len;

	if (level > __atomic_load_n(&log_max, __ATOMIC_RELAXED))
		return;
	if (vsnprintf(text, sizeof(text), format, args) < 0)
		text[0] = '\0';
	len = strlen(text);
	if (error)
		snprintf(text + len, sizeof(text) - len, ": %s", strerror(error));
	else if (more)
		snprintf(text + len, sizeof(text) - len, " (%" PRIu64 " more since)", more);
	make_printable(text);
	write_line(level, text);
	errno = saved;
}

#define LOG_FUNCTION(name, level, error)                                                           \
	void name(const char *format, ...)                                                         \
	{                                                                                          \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, format);                                                            \
		log_message(level, error, 0, format, args);                                        \
		va_end(args);                                                                      \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR, 0)
LOG_FUNCTION(log_error_errno, LOG_LEVEL_ERROR, errno)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING, 0)
LOG_FUNCTION(log_warning_errno, LOG_LEVEL_WARNING, errno)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO, 0)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG, 0)

void log_warning_limited(struct log_limit *limit, uint64_t now_ms, const char *format, ...)
{
	uint64_t next_ms = __atomic_load_n(&limit->next_ms, __ATOMIC_RELAXED);
	va_list args;

	/* Of several threads at the end of a minute one moves it on. */
	if (now_ms < next_ms ||
	    !__atomic_compare_exchange_n(&limit->next_ms, &next_ms, now_ms + LOG_INTERVAL_MS, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		__atomic_add_fetch(&limit->suppressed, 1, __ATOMIC_RELAXED);
		return;
	}
	va_start(args, format);
	log_message(LOG_LEVEL_WARNING, 0,
		    __atomic_exchange_n(&limit->suppressed, 0, __ATOMIC_RELAXED), format, args);
	va_end(args);
}
