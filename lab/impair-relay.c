/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Carry frames between two tap devices, and lose, double, delay and reorder some of them. */

/*
 * DOC: Theory of operation
 *
 * lab/impair puts this program in the place of the cable between the two halves of the switch. A
 * frame that the kernel sends into one device is read here as it would be on a wire (cut up to the
 * MTU, with its checksum), gets a time at which it is due, waits in a queue that is ordered by that
 * time, and is written into the other device. Each direction has settings, a generator of random
 * numbers and counters of its own.
 *
 *   loss		the frame is forgotten
 *   duplicate	it is queued twice
 *   delay	it is due that much later
 *   reorder	it is held back for HOLD_MIN_NS to HOLD_MAX_NS more, and what comes meanwhile
 *		overtakes it; without anything behind it, it is only late. It counts as reordered
 *		when it was overtaken.
 *
 * What is not IP (ARP) goes through unharmed and is not counted. The program goes into the
 * background when it is ready, having written "pid NUMBER"; it writes the counters, and ends, at
 * SIGTERM. Both go to standard output.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>

#define FRAME_MAX   (65535 + ETH_HLEN)
#define QUEUE_MAX   65536 /* frames: 200 ms at 4 Gbit/s */
#define BURST	    64	  /* frames read from one side before the other one has its turn */
#define SECOND_NS   1000000000ull
#define MS_NS	    1000000ull
#define HOLD_MIN_NS (1 * MS_NS)
#define HOLD_MAX_NS (5 * MS_NS)
#define DELAY_MAX   10000 /* ms */
#define WHOLE	    10000 /* probabilities are in hundredths of a percent */

/* Named after where the frames go; the device that they are read from has the same number. */
enum { TO_CLIENT, FROM_CLIENT, DIRECTIONS };

static const char *const direction_names[DIRECTIONS] = { "to_client", "from_client" };

struct direction {
	uint32_t loss, duplicate, reorder;
	uint64_t delay_ns;
	uint64_t random; /* state of the generator */
	uint64_t newest; /* serial of the youngest frame that has left */
	uint64_t packets, lost, duplicated, reordered, failed;
};

struct frame {
	uint64_t due_ns;
	uint64_t serial; /* in the order of arrival */
	uint8_t direction;
	bool counted;
	size_t len;
	uint8_t bytes[];
};

/** struct relay - the frames under way are a binary heap: none is due before its parent */
struct relay {
	struct direction direction[DIRECTIONS];
	int device[DIRECTIONS];
	struct frame *queue[QUEUE_MAX];
	size_t queued;
	uint64_t serial;
};

static volatile sig_atomic_t ended;

static void on_term(int signal_number)
{
	(void)signal_number;
	ended = 1;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* SplitMix64: every seed is good, and a test needs no more. */
static uint64_t draw(struct direction *d)
{
	uint64_t z = d->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Nothing is drawn for what never happens, so that a seed stands for the same losses. */
static bool happens(struct direction *d, uint32_t probability)
{
	return probability && draw(d) % WHOLE < probability;
}

static bool before(const struct frame *a, const struct frame *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

static void queue_swap(struct relay *r, size_t a, size_t b)
{
	struct frame *frame = r->queue[a];

	r->queue[a] = r->queue[b];
	r->queue[b] = frame;
}

static void queue_add(struct relay *r, struct frame *frame)
{
	size_t i = r->queued++;

	for (r->queue[i] = frame; i && before(r->queue[i], r->queue[(i - 1) / 2]); i = (i - 1) / 2)
		queue_swap(r, i, (i - 1) / 2);
}

static struct frame *queue_take(struct relay *r)
{
	struct frame *first = r->queue[0];
	size_t i = 0, child;

	r->queue[0] = r->queue[--r->queued];
	while ((child = 2 * i + 1) < r->queued) {
		if (child + 1 < r->queued && before(r->queue[child + 1], r->queue[child]))
			child++;
		if (!before(r->queue[child], r->queue[i]))
			break;
		queue_swap(r, i, child);
		i = child;
	}
	return first;
}

static bool is_ip(const uint8_t *bytes, size_t len)
{
	uint16_t type;

	if (len < ETH_HLEN)
		return false;
	memcpy(&type, bytes + 2 * ETH_ALEN, sizeof(type));
	return type == htons(ETH_P_IP) || type == htons(ETH_P_IPV6);
}

static void enqueue(struct relay *r, unsigned int direction, const uint8_t *bytes, size_t len,
		    uint64_t due_ns, bool counted)
{
	struct frame *frame = r->queued < QUEUE_MAX ? malloc(sizeof(*frame) + len) : NULL;

	if (!frame) {
		r->direction[direction].failed++;
		return;
	}
	frame->due_ns = due_ns;
	frame->serial = ++r->serial;
	frame->direction = (uint8_t)direction;
	frame->counted = counted;
	frame->len = len;
	memcpy(frame->bytes, bytes, len);
	queue_add(r, frame);
}

static void arrived(struct relay *r, unsigned int direction, const uint8_t *bytes, size_t len,
		    uint64_t now)
{
	struct direction *d = &r->direction[direction];
	unsigned int copies = 1;

	if (!is_ip(bytes, len)) {
		enqueue(r, direction, bytes, len, now, false);
		return;
	}
	d->packets++;
	if (happens(d, d->loss)) {
		d->lost++;
		return;
	}
	if (happens(d, d->duplicate)) {
		d->duplicated++;
		copies = 2;
	}
	while (copies--) {
		uint64_t due_ns = now + d->delay_ns;

		if (happens(d, d->reorder))
			due_ns += HOLD_MIN_NS + draw(d) % (HOLD_MAX_NS - HOLD_MIN_NS);
		enqueue(r, direction, bytes, len, due_ns, true);
	}
}

/* Read what has come from one side; a burst at most. */
static int receive(struct relay *r, unsigned int direction)
{
	static uint8_t bytes[FRAME_MAX];
	uint64_t now = now_ns();

	for (unsigned int i = 0; i < BURST; i++) {
		ssize_t len = read(r->device[direction], bytes, sizeof(bytes));

		if (len < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		arrived(r, direction, bytes, (size_t)len, now);
	}
	return 0;
}

static void deliver(struct relay *r, const struct frame *frame)
{
	struct direction *d = &r->direction[frame->direction];
	int device = r->device[DIRECTIONS - 1 - frame->direction];

	if (frame->counted && frame->serial < d->newest)
		d->reordered++;
	else if (frame->counted)
		d->newest = frame->serial;
	if (write(device, frame->bytes, frame->len) < 0)
		d->failed++;
}

static void deliver_due(struct relay *r)
{
	uint64_t now = now_ns();

	while (r->queued && r->queue[0]->due_ns <= now) {
		struct frame *frame = queue_take(r);

		deliver(r, frame);
		free(frame);
	}
}

/* Until SIGTERM, which is let in by ppoll() alone. */
static int relay(struct relay *r, const sigset_t *mask)
{
	struct pollfd fds[DIRECTIONS];
	int status = 0;

	for (unsigned int i = 0; i < DIRECTIONS; i++)
		fds[i] = (struct pollfd){ .fd = r->device[i], .events = POLLIN };
	while (!ended && !status) {
		struct timespec wait = { 0 };
		uint64_t now = now_ns();

		if (r->queued && r->queue[0]->due_ns > now) {
			wait.tv_sec = (time_t)((r->queue[0]->due_ns - now) / SECOND_NS);
			wait.tv_nsec = (long)((r->queue[0]->due_ns - now) % SECOND_NS);
		}
		if (ppoll(fds, DIRECTIONS, r->queued ? &wait : NULL, mask) < 0 && errno != EINTR)
			return -errno;
		for (unsigned int i = 0; i < DIRECTIONS && !status; i++)
			if (fds[i].revents)
				status = receive(r, i);
		deliver_due(r);
	}
	return status;
}

static int attach(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = -1;

	if (strlen(name) < sizeof(request.ifr_name)) {
		memcpy(request.ifr_name, name, strlen(name));
		fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) {
		fprintf(stderr, "impair-relay: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	return fd;
}

static __attribute__((noreturn)) void usage(void)
{
	fputs("usage: impair-relay DEVICE DEVICE [SETTING VALUE | DIRECTION]...\n"
	      "  the first device is on the side of the servers, the second on the client's\n"
	      "  SETTING    loss, duplicate, reorder: PERCENT; delay: MS; seed: NUMBER\n"
	      "  DIRECTION  to_client, from_client, both (default): of the settings behind it\n",
	      stderr);
	exit(2);
}

/* A number with up to two decimals, in hundredths. */
static uint32_t parse_hundredths(const char *text, uint32_t most)
{
	uint64_t value = 0;
	unsigned int decimals = 0;
	bool point = false;

	for (const char *c = text; *c; c++) {
		if (*c == '.' && !point && c != text) {
			point = true;
			continue;
		}
		if (*c < '0' || *c > '9' || (point && ++decimals > 2) || value > most)
			usage();
		value = value * 10 + (uint64_t)(*c - '0');
	}
	for (; decimals < 2; decimals++)
		value *= 10;
	if (!*text || value > most)
		usage();
	return (uint32_t)value;
}

static void set(struct direction *d, const char *setting, const char *value)
{
	if (!strcmp(setting, "loss"))
		d->loss = parse_hundredths(value, WHOLE);
	else if (!strcmp(setting, "duplicate"))
		d->duplicate = parse_hundredths(value, WHOLE);
	else if (!strcmp(setting, "reorder"))
		d->reorder = parse_hundredths(value, WHOLE);
	else if (!strcmp(setting, "delay"))
		d->delay_ns = parse_hundredths(value, DELAY_MAX * 100) * (MS_NS / 100);
	else
		usage();
}

static void parse_settings(struct relay *r, char **words)
{
	bool chosen[DIRECTIONS] = { true, true };
	uint64_t seed = now_ns();

	for (; *words; words++) {
		bool named[DIRECTIONS] = { !strcmp(*words, direction_names[0]),
					   !strcmp(*words, direction_names[1]) };

		if (named[0] || named[1]) {
			memcpy(chosen, named, sizeof(chosen));
		} else if (!strcmp(*words, "both")) {
			chosen[0] = chosen[1] = true;
		} else if (!words[1]) {
			usage();
		} else if (!strcmp(*words, "seed")) {
			seed = parse_hundredths(*++words, UINT32_MAX / 16);
		} else {
			for (unsigned int i = 0; i < DIRECTIONS; i++)
				if (chosen[i])
					set(&r->direction[i], words[0], words[1]);
			words++;
		}
	}
	for (unsigned int i = 0; i < DIRECTIONS; i++)
		r->direction[i].random = seed + i;
}

static void print_counters(const struct relay *r)
{
	for (unsigned int i = 0; i < DIRECTIONS; i++) {
		const struct direction *d = &r->direction[i];
		const struct {
			const char *name;
			uint64_t value;
		} counters[] = {
			{ "packets", d->packets },	 { "lost", d->lost },
			{ "duplicated", d->duplicated }, { "reordered", d->reordered },
			{ "failed", d->failed },
		};

		for (size_t k = 0; k < sizeof(counters) / sizeof(counters[0]); k++)
			printf("%s %s %llu\n", direction_names[i], counters[k].name,
			       (unsigned long long)counters[k].value);
	}
}

static void go_into_background(void)
{
	pid_t pid = fork();

	if (pid < 0) {
		perror("impair-relay: fork");
		exit(1);
	}
	if (pid) {
		printf("pid %d\n", (int)pid);
		exit(fflush(stdout) ? 1 : 0);
	}
	setsid();
	/* Whoever waits for the end of the messages of a start does not wait for ours. */
	dup2(STDOUT_FILENO, STDERR_FILENO);
}

int main(int argc, char **argv)
{
	static struct relay r;
	const struct sigaction action = { .sa_handler = on_term };
	sigset_t term, mask;
	int status;

	if (argc < 3)
		usage();
	parse_settings(&r, argv + 3);
	r.device[TO_CLIENT] = attach(argv[1]);
	r.device[FROM_CLIENT] = attach(argv[2]);

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &mask);
	sigdelset(&mask, SIGTERM);
	sigaction(SIGTERM, &action, NULL);
	go_into_background();

	status = relay(&r, &mask);
	if (status)
		fprintf(stderr, "impair-relay: %s\n", strerror(-status));
	print_counters(&r);
	return status || fflush(stdout) ? 1 : 0;
}
