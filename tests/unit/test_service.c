/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of src/os/service.c: what a service manager hears, and how signals end the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "os/service.h"

/* The manager's end of the notification socket, and what the service answers to it. */
struct manager {
	struct service service;
	int fd;
	bool alive;
	unsigned int statuses; /* different ones that were given out */
	unsigned int status;   /* what STATUS= says */
	unsigned int dumps;
	unsigned int reloads;
};

static bool manager_alive(void *context)
{
	return ((struct manager *)context)->alive;
}

static void manager_status(void *context, char *buf, size_t size)
{
	snprintf(buf, size, "status %u", ((struct manager *)context)->status);
}

static void manager_dump(void *context)
{
	((struct manager *)context)->dumps++;
}

static int manager_new(void **state)
{
	struct manager *m = calloc(1, sizeof(*m));
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[64];
	int len;

	if (!m)
		return -1;
	/* An abstract address: no file, and gone with the socket. */
	len = snprintf(name, sizeof(name), "@l3dsr-test-%d", getpid());
	memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->fd < 0 || bind(m->fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)))
		return -1;
	setenv("NOTIFY_SOCKET", name, 1);
	m->alive = true;
	m->service.alive = manager_alive;
	m->service.status = manager_status;
	m->service.dump = manager_dump;
	m->service.context = m;
	*state = m;
	return 0;
}

static int manager_free(void **state)
{
	struct manager *m = *state;

	service_clean(&m->service);
	close(m->fd);
	free(m);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return 0;
}

/* The next message that came, or "" if there is none. */
static void receive(struct manager *m, char *buf, size_t size)
{
	ssize_t len = recv(m->fd, buf, size - 1, 0);

	buf[len > 0 ? len : 0] = '\0';
}

static void test_sequence(void **state)
{
	struct manager *m = *state;
	char text[128];

	assert_int_equal(service_init(&m->service), 0);
	receive(m, text, sizeof(text));
	assert_string_equal(text, "");
	kill(getpid(), SIGTERM);
	assert_int_equal(service_run(&m->service), 0);
	receive(m, text, sizeof(text));
	assert_string_equal(text, "READY=1");
	do
		receive(m, text, sizeof(text));
	while (!strncmp(text, "STATUS=", 7));
	assert_string_equal(text, "STOPPING=1");
}

static void reload(void *context)
{
	struct manager *m = context;
	char text[128], *rest;
	unsigned long long usec;
	struct timespec now;

	/* What comes in the meantime: the manager was told before the work began. */
	do
		receive(m, text, sizeof(text));
	while (!strncmp(text, "STATUS=", 7) || !strcmp(text, "READY=1"));
	assert_memory_equal(text, "RELOADING=1\nMONOTONIC_USEC=", 27);
	usec = strtoull(text + 27, &rest, 10);
	assert_string_equal(rest, "");
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_true(usec / 1000000 <= (unsigned long long)now.tv_sec);
	assert_true(usec / 1000000 + 10 > (unsigned long long)now.tv_sec);
	if (++m->reloads == 2)
		kill(getpid(), SIGTERM);
	else
		kill(getpid(), SIGHUP);
}

static void test_reload(void **state)
{
	struct manager *m = *state;
	unsigned int ready = 0;
	char text[128];

	m->service.reload = reload;
	assert_int_equal(service_init(&m->service), 0);
	kill(getpid(), SIGHUP);
	assert_int_equal(service_run(&m->service), 0);
	assert_int_equal(m->reloads, 2);
	do {
		receive(m, text, sizeof(text));
		ready += !strcmp(text, "READY=1");
	} while (*text && strcmp(text, "STOPPING=1"));
	assert_string_equal(text, "STOPPING=1");
	assert_int_equal(ready, 1);
}

static void test_interrupt(void **state)
{
	struct manager *m = *state;

	assert_int_equal(service_init(&m->service), 0);
	kill(getpid(), SIGINT);
	assert_int_equal(service_run(&m->service), 0);
}

/* Each message drives the next step; the last step ends the loop. */
static int on_message(sd_event_source *source, int fd, uint32_t events, void *context)
{
	struct manager *m = context;
	char text[128];

	(void)source;
	(void)fd;
	(void)events;
	receive(m, text, sizeof(text));
	if (!strcmp(text, "STATUS=status 0")) {
		m->statuses++;
		m->status = 7;
	} else if (!strcmp(text, "STATUS=status 7")) {
		m->statuses++;
		kill(getpid(), SIGUSR1);
		kill(getpid(), SIGTERM);
	}
	return 0;
}

static void test_status(void **state)
{
	struct manager *m = *state;

	assert_int_equal(service_init(&m->service), 0);
	assert_true(sd_event_add_io(m->service.event, NULL, m->fd, EPOLLIN, on_message, m) >= 0);
	assert_int_equal(service_run(&m->service), 0);
	assert_int_equal(m->statuses, 2);
	assert_int_equal(m->dumps, 1);
}

static int on_watchdog(sd_event_source *source, int fd, uint32_t events, void *context)
{
	struct manager *m = context;
	char text[128];

	(void)source;
	(void)fd;
	(void)events;
	receive(m, text, sizeof(text));
	if (!strcmp(text, "WATCHDOG=1"))
		m->statuses++;
	if (m->statuses == 3)
		kill(getpid(), SIGTERM);
	return 0;
}

static void test_watchdog(void **state)
{
	struct manager *m = *state;

	setenv("WATCHDOG_USEC", "30000", 1);
	m->service.status = NULL;
	assert_int_equal(service_init(&m->service), 0);
	assert_true(sd_event_add_io(m->service.event, NULL, m->fd, EPOLLIN, on_watchdog, m) >= 0);
	assert_int_equal(service_run(&m->service), 0);
	assert_int_equal(m->statuses, 3);
}

/* The workers stand still: this many times somebody asked, and no ping may have come of it. */
static bool stuck(void *context)
{
	if (++((struct manager *)context)->dumps == 3)
		kill(getpid(), SIGTERM);
	return false;
}

static void test_stuck(void **state)
{
	struct manager *m = *state;
	char text[128];

	setenv("WATCHDOG_USEC", "30000", 1);
	m->service.status = NULL;
	m->service.alive = stuck;
	assert_int_equal(service_init(&m->service), 0);
	assert_int_equal(service_run(&m->service), 0);
	assert_int_equal(m->dumps, 3);
	receive(m, text, sizeof(text));
	assert_string_equal(text, "READY=1");
	receive(m, text, sizeof(text));
	assert_string_equal(text, "STOPPING=1");
}

/* A manager that does not read: there is no room for a single message more. */
static void fill(const struct manager *m)
{
	struct sockaddr_un address;
	socklen_t len = sizeof(address);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(getsockname(m->fd, (struct sockaddr *)&address, &len), 0);
	while (sendto(fd, "FULL=1", 6, 0, (struct sockaddr *)&address, len) == 6)
		;
	assert_int_equal(errno, EAGAIN);
	close(fd);
}

static void test_deaf(void **state)
{
	struct manager *m = *state;

	setenv("WATCHDOG_USEC", "30000", 1);
	assert_int_equal(service_init(&m->service), 0);
	fill(m);
	kill(getpid(), SIGTERM);
	alarm(10); /* ends a test that waits for the manager */
	assert_int_equal(service_run(&m->service), 0);
	alarm(0);
}

/* The manager reads again as soon as the status was told once in vain. */
static void status_in_vain(void *context, char *buf, size_t size)
{
	struct manager *m = context;
	char text[128];

	if (++m->statuses == 2)
		do
			receive(m, text, sizeof(text));
		while (*text);
	if (m->statuses == 3)
		kill(getpid(), SIGTERM);
	snprintf(buf, size, "unchanged");
}

static void test_hears_again(void **state)
{
	struct manager *m = *state;
	char text[128];

	m->service.status = status_in_vain;
	assert_int_equal(service_init(&m->service), 0);
	fill(m);
	alarm(10);
	assert_int_equal(service_run(&m->service), 0);
	alarm(0);
	receive(m, text, sizeof(text));
	assert_string_equal(text, "STATUS=unchanged");
	receive(m, text, sizeof(text));
	assert_string_equal(text, "READY=1");
	receive(m, text, sizeof(text));
	assert_string_equal(text, "STOPPING=1");
}

/* Without a manager nothing is sent, and the signals work the same. */
static void test_alone(void **state)
{
	struct manager *m = *state;
	char text[128];

	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(service_init(&m->service), 0);
	kill(getpid(), SIGTERM);
	assert_int_equal(service_run(&m->service), 0);
	receive(m, text, sizeof(text));
	assert_string_equal(text, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, manager_new, manager_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sequence), TEST(test_reload),	  TEST(test_interrupt),
		TEST(test_status),   TEST(test_watchdog), TEST(test_stuck),
		TEST(test_alone),    TEST(test_deaf),	  TEST(test_hears_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
