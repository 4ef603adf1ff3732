/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clients of the control socket, their requests, and answers at their pace. */
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/words.h"
#include "log.h"

#define REQUEST_US   (5 * 1000 * 1000)
#define ANSWER_US    (10 * 1000 * 1000)
#define ACCURACY_US  (100 * 1000)
#define BACKLOG	     64
#define NUMBER_LEN   21
#define MESSAGE_LEN  512
#define KEPT	     (256 * 1024) /* of a buffer, from one portion to the next */
#define ACCEPT_BATCH 16
#define FULL	     "error\ttoo many others are being answered: ask again\n"

/**
 * struct control_client - a connection, free while @fd is -1
 * @request, @received:	until it is complete
 * @buf:	what is to be sent, from @sent to @used; @broken: there was no memory for it
 * @complete:	the last line is there
 * @more:	makes the next portion; NULL: there is none
 */
struct control_client {
	struct control *control;
	int fd;
	sd_event_source *io, *timer;
	uint64_t number; /* the smallest is the oldest */
	char request[WORDS_LINE];
	size_t received;
	char *buf;
	size_t sent, used, size;
	bool answering, broken, complete, row;
	bool (*more)(struct control_client *client, void *state);
	void (*end)(void *state);
	void *state;
};

/* Answers */

static char *room(struct control_client *client, size_t len)
{
	size_t size = client->size ? client->size : 4096;
	char *buf;

	if (client->broken)
		return NULL;
	while (size - client->used < len)
		size *= 2;
	if (size != client->size) {
		buf = realloc(client->buf, size);
		if (!buf) {
			client->broken = true;
			return NULL;
		}
		client->buf = buf;
		client->size = size;
	}
	return client->buf + client->used;
}

static void put(struct control_client *client, const char *text)
{
	size_t len = strlen(text);
	char *at = room(client, len);

	if (at)
		memcpy(at, text, len);
	client->used += at ? len : 0;
}

static void begin_field(struct control_client *client)
{
	put(client, client->row ? "\t" : "row\t");
	client->row = true;
}

void control_columns(struct control_client *client, const char *columns)
{
	char *at;

	put(client, "columns\t");
	put(client, columns);
	put(client, "\n");
	if (client->broken)
		return;
	for (at = client->buf; at < client->buf + client->used; at++)
		if (*at == ' ')
			*at = '\t';
}

void control_bytes(struct control_client *client, const void *bytes, size_t len)
{
	char *at;

	begin_field(client);
	at = room(client, len * WORDS_ESCAPED + 1);
	if (at)
		client->used += words_escape(bytes, len, at);
}

void control_text(struct control_client *client, const char *text)
{
	control_bytes(client, text, strlen(text));
}

void control_number(struct control_client *client, uint64_t number)
{
	char text[NUMBER_LEN];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	begin_field(client);
	put(client, text);
}

void control_end_row(struct control_client *client)
{
	put(client, "\n");
	client->row = false;
}

void control_error(struct control_client *client, const char *format, ...)
{
	char text[MESSAGE_LEN], *at;
	va_list args;

	va_start(args, format);
	if (vsnprintf(text, sizeof(text), format, args) < 0)
		text[0] = '\0';
	va_end(args);
	put(client, "error\t");
	at = room(client, strlen(text) * WORDS_ESCAPED + 1);
	if (at)
		client->used += words_escape(text, strlen(text), at);
	put(client, "\n");
	client->complete = true;
}

void control_continue(struct control_client *client,
		      bool (*more)(struct control_client *client, void *state),
		      void (*end)(void *state), void *state)
{
	client->more = more;
	client->end = end;
	client->state = state;
}

/* Clients */

static void leave(struct control_client *client)
{
	if (client->end)
		client->end(client->state);
	sd_event_source_unref(client->io);
	sd_event_source_unref(client->timer);
	if (client->fd >= 0)
		close(client->fd);
	free(client->buf);
	memset(client, 0, sizeof(*client));
	client->fd = -1;
}

static void complete(struct control_client *client)
{
	if (!client->complete)
		put(client, "done\n");
	client->complete = true;
}

/* The next portion, or the last line. */
static void go_on(struct control_client *client)
{
	client->sent = client->used = 0;
	if (client->size > KEPT) {
		free(client->buf);
		client->buf = NULL;
		client->size = 0;
	}
	if (client->complete || !client->more(client, client->state)) {
		client->more = NULL;
		complete(client);
	}
}

static void find_answer(struct control_client *client, char **words, size_t count)
{
	const struct control *c = client->control;

	for (size_t i = 0; i < count; i++) {
		if (!words_unescape(words[i]))
			continue;
		control_error(client, "the request is not understood");
		return;
	}
	for (const struct control_command *command = c->commands; command->words[0]; command++) {
		size_t used = command->words[1] ? 2 : 1;

		if (count < used || strcmp(words[0], command->words[0]) != 0 ||
		    (used == 2 && strcmp(words[1], command->words[1]) != 0))
			continue;
		command->answer(c->context, client, words + used, count - used);
		return;
	}
	control_error(client, "this daemon does not know the command");
}

static void answer(struct control_client *client, size_t len)
{
	char *words[WORDS_MAX];
	int count = words_split(client->request, len, words, WORDS_MAX);

	client->answering = true;
	if (count < 0)
		control_error(client, "the request is not understood");
	else
		find_answer(client, words, (size_t)count);
	if (!client->more)
		complete(client);
}

/* Returns false when the client is not to be kept. */
static bool receive(struct control_client *client)
{
	ssize_t len = recv(client->fd, client->request + client->received,
			   sizeof(client->request) - client->received, 0);
	char *end;

	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	if (len == 0)
		return false;
	client->received += (size_t)len;
	end = memchr(client->request, '\n', client->received);
	if (end)
		answer(client, (size_t)(end - client->request));
	else if (client->received == sizeof(client->request))
		return false;
	return !end || (sd_event_source_set_io_events(client->io, EPOLLOUT) >= 0 &&
			sd_event_source_set_time_relative(client->timer, ANSWER_US) >= 0);
}

static bool transmit(struct control_client *client)
{
	ssize_t len = 0;

	if (client->sent == client->used && client->more)
		go_on(client);
	if (client->broken)
		return false;
	if (client->sent < client->used)
		len = send(client->fd, client->buf + client->sent, client->used - client->sent,
			   MSG_NOSIGNAL);
	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	client->sent += (size_t)len;
	if (client->sent == client->used && !client->more)
		return false;
	return sd_event_source_set_time_relative(client->timer, ANSWER_US) >= 0;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct control_client *client = context;

	(void)source;
	(void)fd;
	if (revents & (EPOLLERR | (client->answering ? EPOLLHUP : 0)) ||
	    !(client->answering ? transmit(client) : receive(client)))
		leave(client);
	return 0;
}

static int on_time(sd_event_source *source, uint64_t now_us, void *context)
{
	(void)source;
	(void)now_us;
	leave(context);
	return 0;
}

/* A free place, if need be that of the oldest one that has asked nothing yet; or NULL. */
static struct control_client *find_place(struct control *c)
{
	struct control_client *oldest = NULL;

	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *client = &c->clients[i];

		if (client->fd < 0)
			return client;
		if (!client->answering && (!oldest || client->number < oldest->number))
			oldest = client;
	}
	if (oldest)
		leave(oldest);
	return oldest;
}

static void welcome(struct control *c, int fd)
{
	static uint64_t number;
	struct control_client *client = find_place(c);

	if (!client) {
		(void)!send(fd, FULL, strlen(FULL), MSG_NOSIGNAL);
		close(fd);
		return;
	}
	client->control = c;
	client->fd = fd;
	client->number = ++number;
	if (sd_event_add_io(c->event, &client->io, fd, EPOLLIN, on_client, client) < 0 ||
	    sd_event_add_time_relative(c->event, &client->timer, CLOCK_MONOTONIC, REQUEST_US,
				       ACCURACY_US, on_time, client) < 0)
		leave(client);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	(void)source;
	(void)revents;
	for (unsigned int i = 0; i < ACCEPT_BATCH; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (client < 0)
			break;
		welcome(context, client);
	}
	return 0;
}

/* The socket */

static void make_directory(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	const char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return;
	snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
	if (mkdir(directory, 0755) && errno != EEXIST)
		log_warning_errno("cannot make %s (control)", directory);
}

/* A socket that is left of a daemon that is no more; of one that is there it stays. */
static void remove_stale(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
	    errno == ECONNREFUSED)
		unlink(address->sun_path);
	close(fd);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t mask;
	int fd, ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	make_directory(path);
	remove_stale(&address);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0117); /* before there are other threads */
	ret = bind(fd, (const struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	umask(mask);
	if (!ret && listen(fd, BACKLOG) == 0)
		return fd;
	ret = ret ? ret : -errno;
	close(fd);
	return ret;
}

int control_open(struct control *c, sd_event *event, const char *path,
		 const struct control_command *commands, void *context)
{
	int ret;

	*c = (struct control){ .fd = -1, .commands = commands, .context = context, .event = event };
	c->clients = calloc(CONTROL_CLIENTS, sizeof(*c->clients));
	if (!c->clients) {
		log_error("not enough memory for the control socket");
		return -ENOMEM;
	}
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		c->clients[i].fd = -1;
	c->fd = listen_at(path);
	if (c->fd >= 0)
		snprintf(c->path, sizeof(c->path), "%s", path);
	ret = c->fd < 0 ? c->fd : sd_event_add_io(event, &c->io, c->fd, EPOLLIN, on_connection, c);
	if (ret < 0)
		log_error("cannot listen at %s (control): %s", path, strerror(-ret));
	return ret < 0 ? ret : 0;
}

void control_close(struct control *c)
{
	for (size_t i = 0; c->clients && i < CONTROL_CLIENTS; i++)
		leave(&c->clients[i]);
	free(c->clients);
	c->clients = NULL;
	c->io = sd_event_source_unref(c->io);
	if (c->path[0]) {
		unlink(c->path);
		close(c->fd);
	}
	c->path[0] = '\0';
}
