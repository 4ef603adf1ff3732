/* SPDX-License-Identifier: GPL-2.0-or-later */
/* l3dsrctl: the operator's tool, a table of subcommands. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "lib/words.h"
#include "os/key_file.h"

enum status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_UNREACHABLE = 3 };

#define KEY_ID_DEFAULT 1
#define KEY_ID_MAX     65535
#define SOCKETS	       "/run/l3dsr"

#define SOCKET_PATH_MAX 256

/* Options that stand before the command, or behind it. */
static bool json;
static const char *socket_name;

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

/* What was printed counts only when it arrived. */
static int finish_output(void)
{
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "l3dsrctl: cannot write to standard output: %s\n", strerror(errno));
		return STATUS_FAILED;
	}
	return STATUS_OK;
}

static bool take_option(int option)
{
	if (option == 'j')
		json = true;
	else if (option == 's')
		socket_name = optarg;
	return option == 'j' || option == 's';
}

/* The socket that -s names, or that of the daemon of this host. A descriptor, or -errno. */
static int connect_daemon(char path[SOCKET_PATH_MAX])
{
	static const char *const names[] = { "balancer", "bridge" };
	int fd = -ENOENT;

	if (socket_name && strchr(socket_name, '/')) {
		snprintf(path, SOCKET_PATH_MAX, "%s", socket_name);
		return client_connect(path);
	}
	for (size_t i = 0; i < 2 && (fd == -ENOENT || fd == -ECONNREFUSED); i++) {
		snprintf(path, SOCKET_PATH_MAX, SOCKETS "/%s.sock",
			 socket_name ? socket_name : names[i]);
		fd = client_connect(path);
		if (socket_name)
			break;
	}
	return fd;
}

static int print_table(const struct table *table)
{
	if (json)
		table_print_json(table, stdout);
	else
		table_print_text(table, stdout);
	return finish_output();
}

static int ask(char **words, size_t count)
{
	struct table table = { .column_count = 0 };
	enum client_result result;
	char path[SOCKET_PATH_MAX];
	int fd = connect_daemon(path), status;

	if (fd < 0) {
		fprintf(stderr, "l3dsrctl: %s: %s\n", path, strerror(-fd));
		return STATUS_UNREACHABLE;
	}
	result = client_ask(fd, words, count, &table);
	if (result == CLIENT_OK)
		status = print_table(&table);
	else
		status = result == CLIENT_REFUSED ? STATUS_FAILED : STATUS_UNREACHABLE;
	table_clean(&table);
	return status;
}

/* What stands behind the command is the daemon's to understand, but for the two options. */
static int ask_daemon(int argc, char **argv)
{
	char *words[WORDS_MAX];
	size_t count = 0;
	int option;

	words[count++] = argv[0];
	while ((option = getopt(argc, argv, "js:")) != -1)
		if (!take_option(option))
			return usage_error(NULL);
	for (int i = optind; i < argc; i++) {
		if (count == WORDS_MAX)
			return usage_error("these are too many arguments");
		words[count++] = argv[i];
	}
	if (count > 1)
		return ask(words, count);
	if (!strcmp(argv[0], "show"))
		return usage_error("show: what is to be shown?");
	if (!strcmp(argv[0], "lookup"))
		return usage_error("lookup: a URL is expected");
	fprintf(stderr, "l3dsrctl: %s: the name of a backend is expected\n", argv[0]);
	return usage_error(NULL);
}

/* A command with more than one line of help stands here several times; the first one counts. */
static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage;
	const char *help;
} commands[] = {
	{ "show", ask_daemon, "show services", "services of the daemon" },
	{ "show", ask_daemon, "show pools",
	  "backends of a balancer: state, weight, share, connections, last check\n"
	  "                          and why they are what they are" },
	{ "show", ask_daemon, "show flows [FILTER]...",
	  "connections that were handed over; a filter is client=ADDRESS,\n"
	  "                          service=NAME, or on a balancer backend=NAME" },
	{ "show", ask_daemon, "show counters", "all counters, and what they mean" },
	{ "lookup", ask_daemon, "lookup URL [FACT]...",
	  "route, key and backend that a balancer would choose for URL, and the\n"
	  "                          next three; a fact is service=NAME, client=ADDRESS or\n"
	  "                          alpn=NAME,NAME" },
	{ "drain", ask_daemon, "drain BACKEND",
	  "no new connection goes to BACKEND of a balancer; those it has go on" },
	{ "activate", ask_daemon, "activate BACKEND", "new connections go there again" },
	{ "weight", ask_daemon, "weight BACKEND N",
	  "it has weight N, 1 to 1000, or if N is \"configured\" its own" },
	{ "genkey", genkey, "genkey [-i ID] FILE",
	  "write a new key for handoff messages to FILE, which must not exist; ID\n"
	  "                          (default 1) tells it from other keys" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int print_help(void)
{
	puts("Usage: l3dsrctl [-j] [-s SOCKET] COMMAND [ARGUMENT]...\n"
	     "The operator's tool of l3dsr.\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-22s  %s\n", commands[i].usage, commands[i].help);
	puts("\n"
	     "  -j                      print JSON instead of a table\n"
	     "  -s SOCKET               ask the daemon with that control socket: a file, or a name in\n"
	     "                          /run/l3dsr; else balancer, or if there is none bridge\n"
	     "  -V                      print the version and exit\n"
	     "      --help              print this and exit\n"
	     "\n"
	     "It ends with 0 when all went well, 1 when it failed or the daemon says no, 2 when it was\n"
	     "called in a wrong way, and 3 when there is no daemon.");
	return finish_output();
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};

	int option;

	while ((option = getopt_long(argc, argv, "+Vjs:", long_options, NULL)) != -1) {
		if (option == 'h')
			return print_help();
		if (option == 'V') {
			printf("l3dsrctl %s\n", PACKAGE_VERSION);
			return finish_output();
		}
		if (!take_option(option))
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
