/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request, and the lines of its answer. */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/words.h"

#define PATIENCE_S 30

int client_connect(const char *path)
{
	static const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* Returns its length, or 0 if it is too long for a request. */
static size_t build_request(char line[WORDS_LINE], char **words, size_t count)
{
	static char word[WORDS_LINE * WORDS_ESCAPED + 1];
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(words[i]);

		if (len > WORDS_LINE)
			return 0;
		len = words_escape(words[i], len, word);
		if (used + len + 1 > WORDS_LINE)
			return 0;
		memcpy(line + used, word, len);
		used += len;
		line[used++] = i + 1 < count ? '\t' : '\n';
	}
	return used;
}

static enum client_result take(struct table *table, char *line, size_t len, bool *done)
{
	char *error;

	switch (table_line(table, line, len, &error)) {
	case TABLE_MORE:
		return CLIENT_OK;
	case TABLE_DONE:
		*done = true;
		return CLIENT_OK;
	case TABLE_ERROR:
		fprintf(stderr, "l3dsrctl: %s\n", error);
		free(error);
		return CLIENT_REFUSED;
	default:
		fputs("l3dsrctl: the answer is not understood\n", stderr);
		return CLIENT_UNREACHABLE;
	}
}

static enum client_result read_answer(FILE *in, struct table *table)
{
	enum client_result result = CLIENT_OK;
	bool done = false;
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	while (!done && result == CLIENT_OK && (len = getline(&line, &size, in)) > 0) {
		if (line[len - 1] != '\n')
			break;
		result = take(table, line, (size_t)len - 1, &done);
	}
	free(line);
	if (done || result != CLIENT_OK)
		return result;
	fputs("l3dsrctl: the daemon has broken off its answer\n", stderr);
	return CLIENT_UNREACHABLE;
}

enum client_result client_ask(int fd, char **words, size_t count, struct table *table)
{
	char line[WORDS_LINE];
	size_t len = build_request(line, words, count);
	enum client_result result;
	FILE *in;

	if (!len) {
		fputs("l3dsrctl: that is too long for a request\n", stderr);
		close(fd);
		return CLIENT_REFUSED;
	}
	in = fdopen(fd, "r");
	/* A daemon that has no place says so at once, and does not wait for the request. */
	if (!in || (send(fd, line, len, MSG_NOSIGNAL) != (ssize_t)len && errno != EPIPE &&
		    errno != ECONNRESET)) {
		fprintf(stderr, "l3dsrctl: cannot ask: %s\n", strerror(errno));
		if (in)
			fclose(in);
		else
			close(fd);
		return CLIENT_UNREACHABLE;
	}
	result = read_answer(in, table);
	fclose(in);
	return result;
}
