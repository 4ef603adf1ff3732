/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For unit tests of what writes to stderr: catches it in a file without a name. */
#ifndef L3DSR_TESTS_CAPTURE_H
#define L3DSR_TESTS_CAPTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

struct capture {
	int file;
	int saved;
};

/* stderr goes to the file until capture_end(). */
static inline struct capture capture_begin(void)
{
	FILE *file = tmpfile();
	struct capture c;

	if (!file)
		abort();
	c.file = dup(fileno(file));
	c.saved = dup(STDERR_FILENO);
	fclose(file);
	if (c.file < 0 || c.saved < 0 || dup2(c.file, STDERR_FILENO) < 0)
		abort();
	return c;
}

/* What was written, terminated; cut to @size. */
static inline void capture_end(struct capture *c, char *buf, size_t size)
{
	ssize_t len = pread(c->file, buf, size - 1, 0);

	buf[len > 0 ? len : 0] = '\0';
	dup2(c->saved, STDERR_FILENO);
	close(c->saved);
	close(c->file);
}

#endif
