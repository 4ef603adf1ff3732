/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket of a daemon: where l3dsrctl asks. */
#ifndef L3DSR_CONTROL_H
#define L3DSR_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/*
 * DOC: Theory of operation
 *
 * A Unix stream socket, served by the event loop of the main thread. A client sends one request and gets
 * one answer (lib/words.h), then the connection is closed. Who may connect is said by the mode of the
 * socket, 0660.
 *
 * Nobody can hold the loop up: nothing waits for a client. A request is as long as WORDS_LINE at most
 * and has five seconds to arrive; an answer is made portion by portion, the next one when the client has
 * taken the one before, and a client that takes nothing for ten seconds is left. There are
 * CONTROL_CLIENTS at a time. When one more comes, the one goes that has been silent for the longest,
 * before its request; if all are being answered the new one is refused.
 */

#define CONTROL_CLIENTS 32

struct control_client;

/** struct control_command - @words of a request's begin, and who answers it; the last one has none */
struct control_command {
	const char *words[2];
	/** @arguments: what follows, as many as @count says */
	void (*answer)(void *context, struct control_client *client, char **arguments,
		       size_t count);
};

struct control {
	int fd;
	char path[108]; /* as long as an address has room for; "": not listening */
	const struct control_command *commands;
	void *context;
	sd_event *event;
	sd_event_source *io;
	struct control_client *clients; /* CONTROL_CLIENTS of them */
};

/**
 * control_open() - listen at @path, whose directory is made if it is not there
 * Before there are threads. 0, or -errno after the reason was logged; control_close() in either case.
 */
int control_open(struct control *c, sd_event *event, const char *path,
		 const struct control_command *commands, void *context);
void control_close(struct control *c);

/* An answer. Without memory for it the client sees that it broke off. */

/** control_columns() - the columns of the table: "s:name n:weight" */
void control_columns(struct control_client *client, const char *columns);
/* One field of a row after the other, then the end of the row. */
void control_text(struct control_client *client, const char *text);
void control_bytes(struct control_client *client, const void *bytes, size_t len);
void control_number(struct control_client *client, uint64_t number);
void control_end_row(struct control_client *client);
/** control_error() - it ends with this */
void control_error(struct control_client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * control_continue() - there is more to come
 * @more is called whenever the client has taken what there is, until it returns false. In any case @end
 * is called once in the end.
 */
void control_continue(struct control_client *client,
		      bool (*more)(struct control_client *client, void *state),
		      void (*end)(void *state), void *state);

#endif
