/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of a configuration file with its includes put in, and where each line came from. */
#include "config_source.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCE_MAX (4 * 1024 * 1024) /* bytes of all files together */
#define DEPTH_MAX  10		     /* as libconfig's own limit */

/* A file that is being read; the chain of parents leads to the main file. */
struct input {
	const struct input *parent;
	unsigned int depth;
	unsigned int file; /* into files[] */
	unsigned int line;
	dev_t device;
	ino_t inode;
	const char *text, *end;
};

struct reading {
	struct source *source;
	FILE *errors;
};

static int read_input(struct reading *r, const char *path, const struct input *parent);

/* Say what is wrong at the place of @in (NULL: with the main file); returns @error */
static int fail(const struct reading *r, const struct input *in, unsigned int line, int error,
		const char *path, const char *text)
{
	if (in)
		fprintf(r->errors, "%s:%u: ", r->source->files[in->file], line);
	fprintf(r->errors, "%s%s%s\n", path ? path : "", path ? ": " : "", text);
	return error;
}

static int append(struct source *s, const char *bytes, size_t len)
{
	if (s->len + len + 1 > s->size) {
		size_t size = (s->len + len + 1) * 2;
		char *text = realloc(s->text, size);

		if (!text)
			return -ENOMEM;
		s->text = text;
		s->size = size;
	}
	memcpy(s->text + s->len, bytes, len);
	s->len += len;
	s->text[s->len] = '\0';
	return 0;
}

/* From here on the text is line in->line of the input. */
static int begin_line(struct source *s, const struct input *in)
{
	if (s->line_count == s->line_size) {
		size_t size = s->line_size ? s->line_size * 2 : 256;
		struct source_line *lines = realloc(s->lines, size * sizeof(*lines));

		if (!lines)
			return -ENOMEM;
		s->lines = lines;
		s->line_size = size;
	}
	s->lines[s->line_count++] = (struct source_line){ in->file, in->line };
	return 0;
}

/* Append bytes of the input that may hold ends of lines. */
static int copy(struct source *s, struct input *in, const char *end)
{
	while (in->text < end) {
		const char *newline = memchr(in->text, '\n', (size_t)(end - in->text));
		size_t len = (size_t)((newline ? newline + 1 : end) - in->text);
		int result = append(s, in->text, len);

		if (!result && newline) {
			in->line++;
			result = begin_line(s, in);
		}
		if (result)
			return result;
		in->text += len;
	}
	return 0;
}

static const char *find(const struct input *in, const char *from, const char *what)
{
	return memmem(from, (size_t)(in->end - from), what, strlen(what));
}

static int copy_comment(struct reading *r, struct input *in)
{
	const char *end = find(in, in->text + 2, "*/");

	if (!end)
		return fail(r, in, in->line, -EINVAL, NULL,
			    "the comment that begins here never ends");
	return copy(r->source, in, end + 2);
}

static int copy_line_comment(struct reading *r, struct input *in)
{
	const char *end = find(in, in->text, "\n");

	return copy(r->source, in, end ? end : in->end);
}

static int copy_string(struct reading *r, struct input *in)
{
	const char *p = in->text + 1;

	while (p < in->end && *p != '"') {
		if (in->end - p >= 4 && !memcmp(p, "\\x00", 4))
			return fail(r, in, in->line, -EINVAL, NULL,
				    "the string that begins here holds a byte that is zero");
		p += *p == '\\' && p + 1 < in->end ? 2 : 1;
	}
	if (p == in->end)
		return fail(r, in, in->line, -EINVAL, NULL,
			    "the string that begins here never ends");
	return copy(r->source, in, p + 1);
}

static unsigned int digit_value(char c)
{
	return isdigit((unsigned char)c) ? (unsigned int)(c - '0')
					 : (unsigned int)((c | 0x20) - 'a' + 10);
}

/* An integer that needs more than 32 bits is written anew, for libconfig to keep 64. */
static int copy_number(struct reading *r, struct input *in)
{
	const char *p = in->text;
	bool hex = p[0] == '0' && p + 1 < in->end && (p[1] == 'x' || p[1] == 'X');
	char wide[32];
	int64_t value = 0;
	int len;

	for (p += hex ? 2 : 0; p < in->end && isxdigit((unsigned char)*p); p++) {
		if (!hex && !isdigit((unsigned char)*p))
			break;
		if (value > INT64_MAX / 16 - 1)
			value = INT64_MAX;
		else
			value = value * (hex ? 16 : 10) + digit_value(*p);
	}
	if (value <= INT_MAX || (p < in->end && strchr("L.eE", *p)))
		return copy(r->source, in, p);
	in->text = p;
	len = snprintf(wide, sizeof(wide), "%" PRId64 "L", value);
	return append(r->source, wide, (size_t)len);
}

/* A name, so that the digits in it are no number; or a fraction, which is not ours either. */
static int copy_word(struct reading *r, struct input *in)
{
	const char *p = in->text + 1;

	while (p < in->end && (isalnum((unsigned char)*p) || *p == '_' || *p == '-' || *p == '*'))
		p++;
	return copy(r->source, in, p);
}

/* Length of `@include "` at the begin of a line, 0 if it does not stand there. */
static size_t include_prefix(const struct input *in)
{
	static const char word[] = "@include";
	const char *p = in->text;

	while (p < in->end && (*p == ' ' || *p == '\t'))
		p++;
	if ((size_t)(in->end - p) < sizeof(word) || memcmp(p, word, sizeof(word) - 1))
		return 0;
	p += sizeof(word) - 1;
	if (*p != ' ' && *p != '\t')
		return 0;
	while (p < in->end && (*p == ' ' || *p == '\t'))
		p++;
	return p < in->end && *p == '"' ? (size_t)(p + 1 - in->text) : 0;
}

/* The path of an include as open() needs it: relative to the directory of the including file. */
static char *include_path(const char *including, const char *name, size_t len)
{
	const char *slash = strrchr(including, '/');
	int directory = name[0] == '/' || !slash ? 0 : (int)(slash + 1 - including);
	char *path;

	if (asprintf(&path, "%.*s%.*s", directory, including, (int)len, name) < 0)
		return NULL;
	return path;
}

static int copy_include(struct reading *r, struct input *in, size_t prefix)
{
	const char *name = in->text + prefix;
	const char *end = name;
	char *path;
	int result;

	while (end < in->end && *end != '"' && *end != '\n')
		end++;
	if (end == in->end || *end != '"' || end == name)
		return fail(r, in, in->line, -EINVAL, NULL,
			    "not an include; right would be @include \"FILE\"");
	path = include_path(r->source->files[in->file], name, (size_t)(end - name));
	if (!path)
		return -ENOMEM;
	result = append(r->source, "\n", 1);
	if (!result)
		result = read_input(r, path, in);
	free(path);
	in->text = end + 1;
	/* What follows on this line stands behind the included text, on a line of its own. */
	return result ? result : begin_line(r->source, in);
}

static int copy_input(struct reading *r, struct input *in)
{
	bool line_begins = true;
	int result = begin_line(r->source, in);

	while (!result && in->text < in->end) {
		const char *p = in->text;
		size_t prefix = line_begins ? include_prefix(in) : 0;
		bool two = p + 1 < in->end;

		line_begins = *p == '\n';
		if (prefix)
			result = copy_include(r, in, prefix);
		else if (*p == '"')
			result = copy_string(r, in);
		else if (*p == '#' || (*p == '/' && two && p[1] == '/'))
			result = copy_line_comment(r, in);
		else if (*p == '/' && two && p[1] == '*')
			result = copy_comment(r, in);
		else if (isdigit((unsigned char)*p))
			result = copy_number(r, in);
		else if (isalpha((unsigned char)*p) || *p == '*' || *p == '.')
			result = copy_word(r, in);
		else
			result = copy(r->source, in, p + 1);
	}
	/* The parent goes on with a new line; its caller describes it. */
	return result ? result : append(r->source, "\n", 1);
}

static int add_file(struct source *s, const char *path, unsigned int *number)
{
	char **files = realloc(s->files, (s->file_count + 1) * sizeof(*files));

	if (!files)
		return -ENOMEM;
	s->files = files;
	files[s->file_count] = strdup(path);
	if (!files[s->file_count])
		return -ENOMEM;
	*number = (unsigned int)s->file_count++;
	return 0;
}

/* May this file be read here? @in is what it would become. */
static int check_file(const struct reading *r, const char *path, const struct input *in,
		      const struct stat *st)
{
	const struct input *parent = in->parent;
	unsigned int line = parent ? parent->line : 0;

	if (!S_ISREG(st->st_mode))
		return fail(r, parent, line, -EINVAL, path, "not a regular file");
	if (st->st_size > SOURCE_MAX - (off_t)r->source->len)
		return fail(r, parent, line, -EFBIG, path,
			    "too large; a configuration with all its includes is at most 4 MiB");
	if (in->depth > DEPTH_MAX)
		return fail(r, parent, line, -ELOOP, path,
			    "included too deeply; includes may be 10 deep");
	for (const struct input *i = parent; i; i = i->parent)
		if (i->device == st->st_dev && i->inode == st->st_ino)
			return fail(r, parent, line, -ELOOP, path, "includes itself");
	return 0;
}

/* All bytes of a file into a buffer that is @size large; the length, or -errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t got = read(fd, buf + len, size - len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		len += (size_t)got;
	}
	return (ssize_t)len;
}

static int read_fd(struct reading *r, const char *path, int fd, struct input *in)
{
	const struct input *parent = in->parent;
	unsigned int line = parent ? parent->line : 0;
	struct stat st;
	char *buf = NULL;
	ssize_t len;
	int result;

	if (fstat(fd, &st))
		return fail(r, parent, line, -errno, path, strerror(errno));
	result = check_file(r, path, in, &st);
	if (result)
		return result;
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	len = read_all(fd, buf, (size_t)st.st_size);
	if (len < 0) {
		result = fail(r, parent, line, (int)len, path, strerror((int)-len));
		goto out;
	}
	in->device = st.st_dev;
	in->inode = st.st_ino;
	in->line = 1;
	in->text = buf;
	in->end = buf + len;
	result = add_file(r->source, path, &in->file);
	if (result)
		goto out;
	if (memchr(buf, '\0', (size_t)len))
		result = fail(r, parent, line, -EINVAL, path,
			      "not a text file: it holds a byte that is zero");
	else
		result = copy_input(r, in);
out:
	free(buf);
	return result;
}

static int read_input(struct reading *r, const char *path, const struct input *parent)
{
	struct input in = { .parent = parent, .depth = parent ? parent->depth + 1 : 0 };
	/* O_NONBLOCK: a FIFO must lead to a message, not to a program that waits for a writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int result;

	if (fd < 0)
		return fail(r, parent, parent ? parent->line : 0, -errno, path, strerror(errno));
	result = read_fd(r, path, fd, &in);
	close(fd);
	return result;
}

int source_read(struct source *s, const char *path, FILE *errors)
{
	struct reading r = { .source = s, .errors = errors };
	int result;

	memset(s, 0, sizeof(*s));
	result = read_input(&r, path, NULL);
	if (result == -ENOMEM)
		fail(&r, NULL, 0, result, path, strerror(ENOMEM));
	return result;
}

void source_clean(struct source *s)
{
	for (size_t i = 0; i < s->file_count; i++)
		free(s->files[i]);
	free(s->files);
	free(s->lines);
	free(s->text);
	memset(s, 0, sizeof(*s));
}

const char *source_place(const struct source *s, unsigned int line, char buf[SOURCE_PLACE_LEN])
{
	const struct source_line *l;

	if (line == 0 || s->line_count == 0) {
		snprintf(buf, SOURCE_PLACE_LEN, "%s", s->files[0]);
		return buf;
	}
	/* libconfig counts one line more when a file ends too early. */
	l = &s->lines[line <= s->line_count ? line - 1 : s->line_count - 1];
	snprintf(buf, SOURCE_PLACE_LEN, "%s:%u", s->files[l->file], l->line);
	return buf;
}
