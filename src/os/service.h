/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two daemons share as programs: command line, event loop, signals, service manager. */
#ifndef L3DSR_SERVICE_H
#define L3DSR_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-event.h>

/**
 * struct program - a daemon as its command line sees it
 * @load, @print, @free:	its settings (balancer_settings_load() and so on, as void pointers)
 * @run:	serve until a signal ends it; returns the exit status. Called with checked settings,
 *		which are its own from then on, and the file they are from.
 */
struct program {
	const char *name;    /* "l3dsr-balancer" */
	const char *summary; /* one line for --help */
	const char *config;  /* default configuration file */
	void *(*load)(const char *path, const void *running, FILE *errors);
	void (*print)(const void *settings, FILE *out);
	void (*free)(void *settings);
	int (*run)(void *settings, const char *path);
};

/**
 * program_main() - -c FILE, -n, -nv, -V, --help; exit status
 * 0 success, 1 the configuration or the start failed, 2 wrong usage.
 */
int program_main(const struct program *program, int argc, char **argv);

/**
 * program_reload() - read and check @path once more, with a daemon that runs by @running
 * Returns the settings, or NULL after every error was logged.
 */
void *program_reload(const struct program *program, const char *path, const void *running);

#define SERVICE_STATUS_MAX 256

/**
 * struct service - the main thread of a running daemon
 * @alive:	asked before each ping of the watchdog: are all workers making progress?
 * @status:	fills STATUS= for systemctl, called about once a second
 * @dump:	SIGUSR1: log all counters
 * @reload:	SIGHUP: read the configuration again; the service manager is told before and behind it
 */
struct service {
	sd_event *event;
	bool (*alive)(void *context);
	void (*status)(void *context, char *buf, size_t size);
	void (*dump)(void *context);
	void (*reload)(void *context);
	void *context;
	/* private */
	uint64_t watchdog_us; /* between two pings; 0 when nobody waits for them */
	char last_status[SERVICE_STATUS_MAX];
	int notify_fd; /* -1 when there is no service manager */
	struct sockaddr_un manager;
	socklen_t manager_len;
	bool told_ready;
};

/**
 * service_init() - create the loop, block and watch SIGTERM, SIGINT, SIGUSR1 and SIGHUP
 * Must run before any thread starts, so that threads inherit the blocked signals. 0 or -errno.
 */
int service_init(struct service *s);
/**
 * service_run() - READY=1, then serve until SIGTERM or SIGINT, then STOPPING=1; 0 or -errno
 * It never waits for the service manager. What cannot be said is said later, STOPPING=1 not at all.
 */
int service_run(struct service *s);
/**
 * service_keep() - have the service manager keep copies of @count of @fds, as @name, for the next process
 * Three at most, with one name. Returns false if that could not be said; without a manager, and without
 * room in its unit, nobody keeps them.
 */
bool service_keep(const struct service *s, const int *fds, size_t count, const char *name);
void service_clean(struct service *s);

#endif
