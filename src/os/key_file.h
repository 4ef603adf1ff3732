/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file with the keys of the handoff messages. */
#ifndef L3DSR_KEY_FILE_H
#define L3DSR_KEY_FILE_H

#include "lib/handoff.h"

/*
 * Text, one key per line: id (1..65535), white space, 64 hexadecimal digits. '#' begins a comment.
 * The first key signs, all are accepted. The file must be regular, owned by root or by the user
 * of the daemon, and closed to everybody else (no permission bits for others, none but read for
 * the group).
 */

/** key_file_load() - 0, or -errno after the reason was logged with file and line */
int key_file_load(const char *path, struct handoff_keys *keys);

/** key_file_generate() - write a new key with @id to @path, mode 0600; never overwrites. -errno */
int key_file_generate(const char *path, unsigned int id);

#endif
