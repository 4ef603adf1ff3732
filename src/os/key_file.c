/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file with the keys of the handoff messages. */
#include "key_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define KEY_GROUP    "l3dsr" /* of the daemons */
#define KEY_ID_MAX   65535
#define KEY_HEX_LEN  (2 * HANDOFF_KEY_LEN)
#define KEY_LINE_MAX 256 /* comments included */

/* A key that others may read or replace proves nothing. */
static int check_mode(const char *path, const struct stat *st)
{
	if (!S_ISREG(st->st_mode)) {
		log_error("%s: not a regular file", path);
		return -EINVAL;
	}
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		log_error("%s: belongs to user %u; it must belong to root or to the user of this "
			  "program, %u",
			  path, st->st_uid, geteuid());
		return -EPERM;
	}
	if (st->st_mode & (S_IRWXO | S_IWGRP | S_IXGRP)) {
		log_error("%s: mode %04o lets others at the keys; make it 0600 or 0640", path,
			  st->st_mode & 07777);
		return -EPERM;
	}
	return 0;
}

static const char *skip_space(const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	return p;
}

/* Read an id into @id; returns what follows it, or NULL. */
static const char *parse_id(const char *p, uint16_t *id)
{
	unsigned int value = 0;
	const char *begin = p;

	for (; *p >= '0' && *p <= '9' && value <= KEY_ID_MAX; p++)
		value = value * 10 + (unsigned int)(*p - '0');
	if (p == begin || value < 1 || value > KEY_ID_MAX || !isspace((unsigned char)*p))
		return NULL;
	*id = (uint16_t)value;
	return p;
}

/*
 * Returns what is wrong with a line, as a half sentence, or NULL. The text is never quoted: it may
 * be a mistyped key, and logs are read by many.
 */
static const char *parse_line(const char *line, struct handoff_keys *keys)
{
	struct handoff_key key;
	const char *end, *p = skip_space(line);
	size_t len;

	if (!*p || *p == '#')
		return NULL;
	p = parse_id(p, &key.id);
	if (!p)
		return "does not begin with a key id; an id is 1 to 65535, followed by a space";
	p = skip_space(p);
	if (sodium_hex2bin(key.key, sizeof(key.key), p, strnlen(p, KEY_HEX_LEN), NULL, &len,
			   &end) ||
	    len != sizeof(key.key) || end != p + KEY_HEX_LEN)
		return "holds no key; a key is 64 hexadecimal digits";
	p = skip_space(end);
	if (*p && *p != '#')
		return "goes on behind the key; a key is 64 hexadecimal digits";
	for (size_t i = 0; i < keys->count; i++)
		if (keys->key[i].id == key.id)
			return "has the id of an earlier line; each id stands for one key";
	if (keys->count == HANDOFF_KEYS_MAX)
		return "holds a ninth key; at most 8 keys are accepted at a time";
	keys->key[keys->count++] = key;
	sodium_memzero(&key, sizeof(key));
	return NULL;
}

_Static_assert(HANDOFF_KEYS_MAX == 8, "a message above says so");

static int parse_file(const char *path, FILE *file, struct handoff_keys *keys)
{
	char line[KEY_LINE_MAX];
	unsigned int number = 0;
	int result = 0;

	while (fgets(line, sizeof(line), file)) {
		const char *wrong;

		number++;
		if (!strchr(line, '\n') && !feof(file))
			wrong = "is too long, or holds a byte that is no text";
		else
			wrong = parse_line(line, keys);
		if (wrong) {
			log_error("%s:%u: the line %s", path, number, wrong);
			result = -EINVAL;
			break;
		}
	}
	sodium_memzero(line, sizeof(line));
	if (!result && ferror(file)) {
		result = -errno;
		log_error_errno("%s", path);
	}
	return result;
}

static const char *what_to_do(int error)
{
	switch (error) {
	case -ENOENT:
		return ": `l3dsrctl genkey`, run by root, makes a file with a key";
	case -EACCES:
		return ": it must belong to root and group " KEY_GROUP
		       ", with mode 0640 (chown root:" KEY_GROUP ", chmod 0640)";
	default:
		return "";
	}
}

int key_file_load(const char *path, struct handoff_keys *keys)
{
	/* O_NONBLOCK: a FIFO must lead to a message, not to a daemon that waits for a writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	FILE *file;
	int result;

	keys->count = 0;
	if (fd < 0 || fstat(fd, &st)) {
		result = -errno;
		log_error("%s: %s%s", path, strerror(-result), what_to_do(result));
		goto out_fd;
	}
	result = check_mode(path, &st);
	if (result)
		goto out_fd;
	file = fdopen(fd, "r");
	if (!file) {
		result = -errno;
		log_error_errno("%s", path);
		goto out_fd;
	}
	/* Without a buffer, so that no copy of the keys stays behind in the heap. */
	setvbuf(file, NULL, _IONBF, 0);
	result = parse_file(path, file, keys);
	if (!result && keys->count == 0) {
		log_error("%s: holds no key; l3dsrctl genkey makes a file with one", path);
		result = -EINVAL;
	}
	if (result)
		sodium_memzero(keys, sizeof(*keys));
	fclose(file);
	return result;
out_fd:
	if (fd >= 0)
		close(fd);
	return result;
}

/* All of @text, or -errno. */
static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t written = write(fd, text, len);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		text += written;
		len -= (size_t)written;
	}
	return fsync(fd) ? -errno : 0;
}

/* For the daemons, if they have a user of their own here; only root can give a file to their group. */
static int give_to_daemons(int fd)
{
	const struct group *group = geteuid() ? NULL : getgrnam(KEY_GROUP);

	if (!group)
		return 0;
	return fchown(fd, 0, group->gr_gid) || fchmod(fd, 0640) ? -errno : 0;
}

int key_file_generate(const char *path, unsigned int id)
{
	uint8_t key[HANDOFF_KEY_LEN];
	char hex[KEY_HEX_LEN + 1], text[KEY_HEX_LEN + 16];
	int fd, len, result;

	if (id < 1 || id > KEY_ID_MAX)
		return -EINVAL;
	if (sodium_init() < 0)
		return -EIO;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	randombytes_buf(key, sizeof(key));
	sodium_bin2hex(hex, sizeof(hex), key, sizeof(key));
	len = snprintf(text, sizeof(text), "%u %s\n", id, hex);
	result = give_to_daemons(fd);
	if (!result)
		result = write_all(fd, text, (size_t)len);
	if (close(fd) && !result)
		result = -errno;
	if (result)
		unlink(path);
	sodium_memzero(key, sizeof(key));
	sodium_memzero(hex, sizeof(hex));
	sodium_memzero(text, sizeof(text));
	return result;
}
