/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the fuzz targets share: their entry point, a reader of parameters, and assertions. */
#ifndef L3DSR_TESTS_FUZZ_H
#define L3DSR_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * DOC: Theory of operation
 *
 * A target is one function that takes any bytes, gives them to the library, and asserts what must
 * hold for all of them. libFuzzer calls it with inputs that it grows towards new code
 * (tests/fuzz/run); replay.c calls it with the files of the corpus, so that `make check` of every
 * build repeats what fuzzing once found.
 *
 * The first bytes of an input are parameters, read with fuzz_u8() and its kin, which give zero
 * when the input is over: every input is valid. Buffers that the library gets are allocated with
 * the exact size, so that AddressSanitizer sees the first byte beyond them.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Called once before the first input, by libFuzzer and by replay.c; a target may leave it out. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* As assert(), but never compiled out. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/** struct fuzz_input - the bytes that are not read yet */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

static inline uint64_t fuzz_number(struct fuzz_input *in, unsigned int bytes)
{
	uint64_t value = 0;

	for (; bytes && in->size; bytes--, in->size--)
		value = value << 8 | *in->data++;
	return value;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	return (uint8_t)fuzz_number(in, 1);
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	return (uint16_t)fuzz_number(in, 2);
}

static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
	return (uint32_t)fuzz_number(in, 4);
}

/** fuzz_bytes() - the next @len bytes, zeros behind the end of the input */
static inline void fuzz_bytes(struct fuzz_input *in, void *bytes, size_t len)
{
	size_t there = len < in->size ? len : in->size;

	memset(bytes, 0, len);
	if (there)
		memcpy(bytes, in->data, there);
	in->data += there;
	in->size -= there;
}

/** fuzz_copy() - @size bytes of memory that begin with @len bytes of @data; to be freed */
static inline uint8_t *fuzz_copy(const void *data, size_t len, size_t size)
{
	uint8_t *copy = calloc(1, size ? size : 1);

	CHECK(copy && len <= size);
	if (len)
		memcpy(copy, data, len);
	return copy;
}

#endif
