/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two daemons share as programs: command line, event loop, signals, service manager. */
#include "service.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define STATUS_INTERVAL_US (1000 * 1000)
#define READY		   "READY=1"
#define TIMER_ACCURACY_US  (50 * 1000)

enum program_status { PROGRAM_OK = 0, PROGRAM_FAILED = 1, PROGRAM_USAGE = 2 };

/* Command line */

struct options {
	const char *config;
	bool check, print, version, help;
};

static void print_help(const struct program *program)
{
	printf("Usage: %s [-c FILE]\n"
	       "       %s -n [-v] [-c FILE]\n"
	       "%s\n"
	       "\n"
	       "  -c, --config FILE  read FILE instead of %s\n"
	       "  -n                 check the configuration and exit: 0 if it is valid, which is\n"
	       "                     said on stderr, 1 if not, after all of its errors; the key file\n"
	       "                     is not read\n"
	       "  -nv                check it and print it on stdout, with every setting\n"
	       "  -V                 print the version and exit\n"
	       "      --help         print this and exit\n"
	       "\n"
	       "Without -n it runs in the foreground until SIGTERM or SIGINT. SIGHUP reads the\n"
	       "configuration again, SIGUSR1 logs all counters.\n",
	       program->name, program->name, program->summary, program->config);
}

static int usage_error(const struct program *program, const char *text)
{
	if (text)
		fprintf(stderr, "%s: %s\n", program->name, text);
	fprintf(stderr, "Try '%s --help' for more information.\n", program->name);
	return PROGRAM_USAGE;
}

/* 0, or PROGRAM_USAGE after the reason was told. */
static int parse_options(const struct program *program, struct options *o, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:nvV", long_options, NULL)) != -1) {
		switch (option) {
		case 'c':
			o->config = optarg;
			break;
		case 'n':
			o->check = true;
			break;
		case 'v':
			o->print = true;
			break;
		case 'V':
			o->version = true;
			break;
		case 'h':
			o->help = true;
			break;
		default:
			return usage_error(program, NULL); /* getopt_long() said why */
		}
	}
	if (optind < argc)
		return usage_error(program, "no arguments are expected behind the options");
	if (o->print && !o->check)
		return usage_error(program, "-v belongs to -n");
	return 0;
}

/* What was printed counts only when it arrived. */
static int finish_output(const struct program *program)
{
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "%s: cannot write to standard output: %s\n", program->name,
			strerror(errno));
		return PROGRAM_FAILED;
	}
	return PROGRAM_OK;
}

static int show_settings(const struct program *program, const struct options *o,
			 const void *settings)
{
	if (!o->print) {
		fprintf(stderr, "%s: configuration is valid\n", o->config);
		return PROGRAM_OK;
	}
	program->print(settings, stdout);
	return finish_output(program);
}

void *program_reload(const struct program *program, const char *path, const void *running)
{
	char *text = NULL, *rest, *line;
	void *settings;
	FILE *errors;
	size_t len;

	errors = open_memstream(&text, &len);
	if (!errors) {
		log_error("not enough memory");
		return NULL;
	}
	settings = program->load(path, running, errors);
	if (fclose(errors))
		log_error("not enough memory for all errors of %s", path);
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (*line)
			log_error("%s", line);
	free(text);
	return settings;
}

/* In the journal errors are messages of the daemon: what a unit writes to stderr has no priority there. */
static void *load_settings(const struct program *program, const struct options *o)
{
	if (o->check || !log_is_journal())
		return program->load(o->config, NULL, stderr);
	return program_reload(program, o->config, NULL);
}

int program_main(const struct program *program, int argc, char **argv)
{
	struct options o = { .config = program->config };
	void *settings;
	int status = parse_options(program, &o, argc, argv);

	if (status)
		return status;
	if (o.help) {
		print_help(program);
		return finish_output(program);
	}
	if (o.version) {
		printf("%s %s\n", program->name, PACKAGE_VERSION);
		return finish_output(program);
	}
	log_open(program->name);
	settings = load_settings(program, &o);
	if (!settings)
		return PROGRAM_FAILED;
	if (!o.check)
		return program->run(settings, o.config);
	status = show_settings(program, &o, settings);
	program->free(settings);
	return status;
}

/* Service manager */

/* 0, or -errno: the path is too long for an address, or there are no descriptors left. */
static int notify_open(struct service *s)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (!len)
		return 0;
	if (len >= sizeof(s->manager.sun_path))
		return -ENAMETOOLONG;
	s->manager.sun_family = AF_UNIX;
	memcpy(s->manager.sun_path, path, len);
	if (*path == '@')
		s->manager.sun_path[0] = '\0';
	s->manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	s->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return s->notify_fd < 0 ? -errno : 0;
}

/*
 * sd_notify(3), but it never waits: a manager that does not read would stop the main thread, and with
 * it the daemon's way to an end. Returns false for what is worth to be said again.
 */
static bool notify(const struct service *s, const char *text)
{
	return s->notify_fd < 0 ||
	       sendto(s->notify_fd, text, strlen(text), MSG_NOSIGNAL,
		      (const struct sockaddr *)&s->manager, s->manager_len) >= 0 ||
	       errno != EAGAIN;
}

#define KEEP_MAX 3

bool service_keep(const struct service *s, const int *fds, size_t count, const char *name)
{
	char text[512];
	struct iovec iov = { .iov_base = text };
	union {
		char buf[CMSG_SPACE(KEEP_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr msg = { .msg_name = (void *)&s->manager,
			      .msg_namelen = s->manager_len,
			      .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (s->notify_fd < 0)
		return true;
	iov.iov_len = (size_t)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	return sendmsg(s->notify_fd, &msg, MSG_NOSIGNAL) >= 0;
}

/* Main thread */

static void send_status(struct service *s)
{
	static const char prefix[] = "STATUS=";
	char buf[sizeof(prefix) + SERVICE_STATUS_MAX] = "STATUS=";
	char *text = buf + sizeof(prefix) - 1;

	if (!s->status)
		return;
	s->status(s->context, text, SERVICE_STATUS_MAX);
	if (strcmp(text, s->last_status) && notify(s, buf))
		strcpy(s->last_status, text);
}

static int again_in(sd_event_source *source, uint64_t us)
{
	int result = sd_event_source_set_time_relative(source, us);

	return result < 0 ? result : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_status(sd_event_source *source, uint64_t now_us, void *context)
{
	struct service *s = context;

	(void)now_us;
	send_status(s);
	s->told_ready = s->told_ready || notify(s, READY);
	return again_in(source, STATUS_INTERVAL_US);
}

/* A ping tells of the workers, not of this loop: without progress there the manager shall act. */
static int on_watchdog(sd_event_source *source, uint64_t now_us, void *context)
{
	struct service *s = context;

	(void)now_us;
	if (!s->alive || s->alive(s->context))
		(void)notify(s, "WATCHDOG=1");
	return again_in(source, s->watchdog_us);
}

static int on_dump(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
	struct service *s = context;

	(void)source;
	(void)info;
	if (s->dump)
		s->dump(s->context);
	return 0;
}

/* A message that is lost is no harm: READY=1 is said again, and without the other nobody waits for it. */
static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
	struct service *s = context;
	struct timespec now;
	char text[64];

	(void)source;
	(void)info;
	if (!s->reload)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		 (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
	(void)notify(s, text);
	s->reload(s->context);
	s->told_ready = notify(s, READY);
	return 0;
}

static int add_signals(struct service *s)
{
	int result = sd_event_add_signal(s->event, NULL, SIGTERM, NULL, NULL);

	if (result >= 0)
		result = sd_event_add_signal(s->event, NULL, SIGINT, NULL, NULL);
	if (result >= 0)
		result = sd_event_add_signal(s->event, NULL, SIGUSR1, on_dump, s);
	if (result >= 0)
		result = sd_event_add_signal(s->event, NULL, SIGHUP, on_reload, s);
	return result;
}

/* Timers that serve a service manager only; without one, nothing wakes this thread up. */
static int add_timers(struct service *s)
{
	uint64_t timeout_us;
	int result = sd_watchdog_enabled(0, &timeout_us);

	if (result > 0) {
		s->watchdog_us = timeout_us / 3;
		result = sd_event_add_time_relative(s->event, NULL, CLOCK_MONOTONIC, 0,
						    TIMER_ACCURACY_US, on_watchdog, s);
	}
	if (result >= 0 && s->notify_fd >= 0)
		result = sd_event_add_time_relative(s->event, NULL, CLOCK_MONOTONIC, 0,
						    TIMER_ACCURACY_US, on_status, s);
	return result;
}

int service_init(struct service *s)
{
	sigset_t signals;
	int result;

	s->event = NULL;
	s->watchdog_us = 0;
	s->last_status[0] = '\0';
	s->notify_fd = -1;
	/* Nobody may end a daemon by closing the other end of its stderr. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGHUP);
	result = -pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (result)
		return result;
	result = notify_open(s);
	if (result >= 0)
		result = sd_event_new(&s->event);
	if (result >= 0)
		result = add_signals(s);
	if (result < 0) {
		service_clean(s);
		return result;
	}
	return 0;
}

int service_run(struct service *s)
{
	int result = add_timers(s);

	if (result < 0)
		return result;
	s->told_ready = notify(s, READY);
	result = sd_event_loop(s->event);
	(void)notify(s, "STOPPING=1");
	return result < 0 ? result : 0;
}

void service_clean(struct service *s)
{
	s->event = sd_event_unref(s->event);
	if (s->notify_fd >= 0)
		close(s->notify_fd);
	s->notify_fd = -1;
}
