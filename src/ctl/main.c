/* SPDX-License-Identifier: GPL-2.0-or-later */
/* l3dsrctl: the operator's tool, a table of subcommands. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/key_file.h"

enum status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

#define KEY_ID_DEFAULT 1
#define KEY_ID_MAX     65535

static int usage_error(const char *text)
{
	if (text)
		fprintf(stderr, "l3dsrctl: %s\n", text);
	fprintf(stderr, "Try 'l3dsrctl --help' for more information.\n");
	return STATUS_USAGE;
}

/* Reads 1..65535; 0 if @text is anything else. */
static unsigned int parse_id(const char *text)
{
	char *end;
	unsigned long id;

	if (*text < '0' || *text > '9')
		return 0;
	errno = 0;
	id = strtoul(text, &end, 10);
	return errno || *end || id > KEY_ID_MAX ? 0 : (unsigned int)id;
}

static int genkey(int argc, char **argv)
{
	unsigned int id = KEY_ID_DEFAULT;
	int option, result;

	while ((option = getopt(argc, argv, "+i:")) != -1) {
		if (option != 'i')
			return usage_error(NULL);
		id = parse_id(optarg);
		if (!id)
			return usage_error("genkey: the id of a key is 1 to 65535");
	}
	if (argc - optind != 1)
		return usage_error("genkey: the name of one file is expected");
	result = key_file_generate(argv[optind], id);
	if (result == -EEXIST)
		fprintf(stderr, "l3dsrctl: %s: exists already, and is left as it is\n",
			argv[optind]);
	else if (result)
		fprintf(stderr, "l3dsrctl: %s: %s\n", argv[optind], strerror(-result));
	return result ? STATUS_FAILED : STATUS_OK;
}

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments;
	const char *help;
} commands[] = {
	{ "genkey", genkey, "[-i ID] FILE",
	  "write a new key for handoff messages to FILE, which must not\n"
	  "                             exist; ID (default 1) tells it from other keys" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* What was printed counts only when it arrived. */
static int finish_output(void)
{
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "l3dsrctl: cannot write to standard output: %s\n", strerror(errno));
		return STATUS_FAILED;
	}
	return STATUS_OK;
}

static int print_help(void)
{
	puts("Usage: l3dsrctl COMMAND [ARGUMENT]...\n"
	     "The operator's tool of l3dsr.\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-10s %-15s %s\n", commands[i].name, commands[i].arguments,
		       commands[i].help);
	puts("\n"
	     "  -V                         print the version and exit\n"
	     "      --help                 print this and exit");
	return finish_output();
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};

	switch (getopt_long(argc, argv, "+V", long_options, NULL)) {
	case -1:
		break;
	case 'h':
		return print_help();
	case 'V':
		printf("l3dsrctl %s\n", PACKAGE_VERSION);
		return finish_output();
	default:
		return usage_error(NULL);
	}
	if (optind == argc)
		return usage_error("a command is expected");
	argc -= optind;
	argv += optind;
	optind = 0; /* glibc: begin anew */
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[0], commands[i].name))
			return commands[i].run(argc, argv);
	fprintf(stderr, "l3dsrctl: '%s' is not a command\n", argv[0]);
	return usage_error(NULL);
}
