/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What it costs to recognise a request and to choose its backend; fails far beyond the target. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/pool.h"
#include "lib/recogniser.h"
#include "lib/route.h"
#include "lib/url.h"

#define TARGET_NS 1000 /* recognise and choose: a request of 500 bytes, 16 backends */
#define LIMIT_NS  (4 * TARGET_NS)
#define ROUNDS	  40
#define POOL_MAX  1000
#define TURNS	  2000

/* Code with sanitizers is slow, and not what is asked about. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_UNDEFINED__)
#define SANITIZED true
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* As a browser asks; filled up to 500 bytes by its cookie. */
static const char head[] =
	"GET /live/channel-7/1080p/segment-000123.ts?session=0123456789abcdef&quality=high HTTP/1.1\r\n"
	"Host: cdn.example.com\r\n"
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
	"Accept: */*\r\n"
	"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
	"Accept-Encoding: gzip, deflate, br\r\n"
	"Referer: https://www.example.com/watch/7\r\n"
	"Connection: keep-alive\r\n"
	"Cookie: id=";
static uint8_t request[500];

static const struct route routes[] = {
	{ .host = "api.example.com" },
	{ .host = "*.example.org" },
	{ .host = "cdn.example.com", .path = "/vod/" },
	{ .host = "*.example.com", .path = "/live/" },
};

static struct pool *pool;
static uint32_t weights[POOL_MAX];
static struct pool_load loads[POOL_MAX];
static const struct pool_view plain = { .weights = weights };
static const struct pool_view bounded = { .weights = weights, .loads = loads, .factor = 125 };
static uint64_t sum; /* of all results, so that none is left out by the compiler */

static void make_request(void)
{
	memset(request, 'c', sizeof(request));
	memcpy(request, head, sizeof(head) - 1);
	memcpy(request + sizeof(request) - 4, "\r\n\r\n", 4);
}

static struct pool *make_pool(uint32_t count)
{
	struct pool *made = pool_new(count);

	for (uint32_t i = 0; made && i < count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "cache%u", i);
		if (pool_add(made, name, 100 + i % 3) < 0)
			exit(2);
		weights[i] = 64 * (100 + i % 3);
		loads[i].live = 1000 + i % 7;
	}
	if (!made)
		exit(2);
	return made;
}

/* As handover.c does it. */
static uint64_t recognise(uint32_t turn)
{
	static const struct key_policy policy = { .kind = KEY_HOST_PATH };
	static uint8_t buf[URL_ROOM(sizeof(request))];
	const unsigned int wanted = REQUEST_HOST | REQUEST_PATH;
	struct request r, normal;
	struct slice key;
	size_t used, route = 0;

	request[36] = (uint8_t)('0' + turn % 10); /* another segment each time */
	if (http1_recognise(request, sizeof(request), wanted, &r) != RECOGNISED_REQUEST)
		exit(2);
	used = url_normalise(&r, wanted, &normal, buf);
	while (!route_matches(&routes[route], &normal))
		if (++route == sizeof(routes) / sizeof(routes[0]))
			exit(2);
	key = url_key(&normal, &policy, buf + used);
	return pool_key(key.bytes, key.len);
}

static uint64_t choose(uint32_t turn)
{
	uint32_t own;

	return pool_choose_in(pool, &plain, turn * 0x9e3779b97f4a7c15, NULL, &own);
}

static uint64_t choose_bounded(uint32_t turn)
{
	uint32_t own;

	return pool_choose_in(pool, &bounded, turn * 0x9e3779b97f4a7c15, NULL, &own);
}

static uint64_t recognise_and_choose(uint32_t turn)
{
	uint32_t own;

	return pool_choose_in(pool, &plain, recognise(turn), NULL, &own);
}

static double now_ns(void)
{
	struct timespec now;

	/* Of this process: what others do in between does not count. */
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now))
		exit(2);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Nanoseconds of one turn, in the best of the rounds; @turns of them are one round. */
static double measure(uint64_t (*what)(uint32_t turn), uint32_t turns)
{
	double best = 0;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		double begin = now_ns(), each;

		for (uint32_t turn = 0; turn < turns; turn++)
			sum += what(turn);
		each = (now_ns() - begin) / turns;
		if (!round || each < best)
			best = each;
	}
	return best;
}

int main(void)
{
	static const uint32_t counts[] = { 16, 128, POOL_MAX };
	double both;

	make_request();
	printf("recognise a request of %zu bytes, route and key  %7.0f ns\n", sizeof(request),
	       measure(recognise, TURNS));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		pool = make_pool(counts[i]);
		printf("choose one of %4u backends                     %7.0f ns\n", counts[i],
		       measure(choose, TURNS * 16 / counts[i]));
		printf("the same with a load_factor                     %7.0f ns\n",
		       measure(choose_bounded, TURNS * 16 / counts[i]));
		pool_free(pool);
	}
	pool = make_pool(16);
	both = measure(recognise_and_choose, TURNS);
	pool_free(pool);
	printf("recognise, and choose one of 16                 %7.0f ns, to be at most %d%s\n",
	       both, TARGET_NS, SANITIZED ? ", without sanitizers" : "");
	printf("(%llx)\n", (unsigned long long)sum);
	return !SANITIZED && both > LIMIT_NS;
}
