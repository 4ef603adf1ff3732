/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The main() of a fuzz target that is built without libFuzzer: it repeats the corpus. */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

/*
 * usage: fuzz_NAME [FILE|DIRECTORY]...
 *
 * Without arguments the corpus is $srcdir/tests/fuzz/corpus/NAME, as `make check` wants it. Fails
 * when there was nothing to repeat; a target that finds something wrong aborts.
 */

#define PATH_LEN 4096

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static unsigned int replay(const char *path);

static unsigned int replay_directory(const char *path)
{
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);
	unsigned int replayed = 0;

	for (int i = 0; i < count; i++) {
		char name[PATH_LEN];

		snprintf(name, sizeof(name), "%s/%s", path, names[i]->d_name);
		if (names[i]->d_name[0] != '.')
			replayed += replay(name);
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return replayed;
}

static unsigned int replay_file(const char *path, size_t size)
{
	uint8_t *data = fuzz_copy(NULL, 0, size);
	FILE *file = fopen(path, "rb");

	CHECK(file && fread(data, 1, size, file) == size);
	fclose(file);
	/* The last line of a test that aborts names the input. */
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 1;
}

/* How many inputs there were. */
static unsigned int replay(const char *path)
{
	struct stat st;

	if (stat(path, &st)) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	return S_ISDIR(st.st_mode) ? replay_directory(path) : replay_file(path, (size_t)st.st_size);
}

/* "…/fuzz_packet" repeats the directory "packet". */
static unsigned int replay_corpus(const char *program)
{
	const char *name = strstr(program, "/fuzz_"), *srcdir = getenv("srcdir");
	char path[PATH_LEN];

	CHECK(name);
	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".",
		 name + strlen("/fuzz_"));
	return replay(path);
}

int main(int argc, char **argv)
{
	unsigned int replayed = 0;

	LLVMFuzzerInitialize(&argc, &argv);
	if (argc < 2)
		replayed = replay_corpus(argv[0]);
	for (int i = 1; i < argc; i++)
		replayed += replay(argv[i]);
	printf("%u inputs\n", replayed);
	return replayed ? EXIT_SUCCESS : EXIT_FAILURE;
}
