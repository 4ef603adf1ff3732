/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ClientHellos: cut into segments and records at every byte, and broken in every length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/recogniser.h"

/* A message, and where it grows. */
struct text {
	uint8_t bytes[16384];
	size_t len;
};

static void put(struct text *t, unsigned long value, size_t size)
{
	while (size--)
		t->bytes[t->len++] = (uint8_t)(value >> 8 * size);
}

static void put_bytes(struct text *t, const void *bytes, size_t len)
{
	memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
}

/* Where the last vector began, with a length of @size bytes that is still to be filled in. */
static size_t open_vector(struct text *t, size_t size)
{
	put(t, 0, size);
	return t->len;
}

static void close_vector(struct text *t, size_t at, size_t size)
{
	size_t len = t->len - at;

	for (size_t i = 1; i <= size; i++, len >>= 8)
		t->bytes[at - i] = (uint8_t)len;
}

static void put_name(struct text *t, const char *name)
{
	size_t extension, list;

	put(t, 0, 2);
	extension = open_vector(t, 2);
	list = open_vector(t, 2);
	put(t, 0, 1);
	put(t, strlen(name), 2);
	put_bytes(t, name, strlen(name));
	close_vector(t, list, 2);
	close_vector(t, extension, 2);
}

static void put_alpn(struct text *t, const char *list)
{
	put(t, 16, 2);
	put(t, strlen(list) + 2, 2);
	put(t, strlen(list), 2);
	put_bytes(t, list, strlen(list));
}

/* An extension that nobody knows. */
static void put_filler(struct text *t, unsigned int type, size_t len)
{
	put(t, type, 2);
	put(t, len, 2);
	memset(t->bytes + t->len, 0xaa, len);
	t->len += len;
}

/* The handshake message: @name and @alpn may be NULL, @filler bytes of keys stand in front. */
static void make(struct text *t, const char *name, const char *alpn, size_t filler)
{
	size_t message, extensions;

	t->len = 0;
	put(t, 1, 1);
	message = open_vector(t, 3);
	put(t, 0x0303, 2);
	memset(t->bytes + t->len, 0x55, 32);
	t->len += 32;
	put(t, 32, 1);
	memset(t->bytes + t->len, 0x66, 32);
	t->len += 32;
	put(t, 4, 2);
	put(t, 0x0a0a1301, 4); /* GREASE (RFC 8701), and one that is known */
	put(t, 0x0100, 2);
	extensions = open_vector(t, 2);
	put_filler(t, 0x1a1a, 0);
	if (filler)
		put_filler(t, 51, filler);
	if (name)
		put_name(t, name);
	if (alpn)
		put_alpn(t, alpn);
	put_filler(t, 0xfe0d, 10); /* an encrypted hello */
	close_vector(t, extensions, 2);
	close_vector(t, message, 3);
}

/* The message in records of @size bytes. */
static void wrap(struct text *out, const struct text *message, size_t size)
{
	out->len = 0;
	for (size_t at = 0; at < message->len; at += size) {
		size_t piece = message->len - at < size ? message->len - at : size;

		put(out, 0x160301, 3);
		put(out, piece, 2);
		put_bytes(out, message->bytes + at, piece);
	}
}

/* In memory that ends where the bytes do. */
static enum recognised recognise(const uint8_t *bytes, size_t len, struct request *r)
{
	uint8_t *exact = malloc(len + !len);
	enum recognised answer;

	assert_non_null(exact);
	memcpy(exact, bytes, len);
	answer = client_hello_recognise(exact, len, r);
	free(exact); /* what it has found is in the request */
	return answer;
}

static void assert_slice(struct slice slice, const char *text)
{
	assert_int_equal(slice.len, strlen(text));
	assert_memory_equal(slice.bytes, text, slice.len);
}

/*
 * What `openssl s_client -tls1_2 -servername cdn.example -alpn h2,http/1.1` says, with one cipher suite:
 *
 *   16 0301 0073			record: handshake, 115 bytes
 *   01 00006f 0303			ClientHello, 111 bytes, TLS 1.2
 *   c6c8... (32)			random
 *   00, 0004 c02f00ff, 01 00		no session, cipher suites, no compression
 *   0042				66 bytes of extensions
 *   0000 0010 000e 00 000b 63...	server_name: "cdn.example"
 *   000b, 000a				point formats, groups
 *   0010 000e 000c 02 6832 08 ...	ALPN: h2, http/1.1
 *   0017, 000d				extended master secret, signature algorithms
 */
static const uint8_t tls12[] = {
	0x16, 0x03, 0x01, 0x00, 0x73, 0x01, 0x00, 0x00, 0x6f, 0x03, 0x03, 0xc6, 0xc8, 0x63, 0x8f,
	0xd4, 0x1e, 0xb4, 0xbd, 0xd1, 0xae, 0xec, 0x14, 0x7a, 0xa3, 0x3f, 0x27, 0x94, 0x3e, 0x9a,
	0x3d, 0x5c, 0x0a, 0xa2, 0xc8, 0x7c, 0xc5, 0xdb, 0xcb, 0xb1, 0xa1, 0xf1, 0xb5, 0x00, 0x00,
	0x04, 0xc0, 0x2f, 0x00, 0xff, 0x01, 0x00, 0x00, 0x42, 0x00, 0x00, 0x00, 0x10, 0x00, 0x0e,
	0x00, 0x00, 0x0b, 0x63, 0x64, 0x6e, 0x2e, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x00,
	0x0b, 0x00, 0x04, 0x03, 0x00, 0x01, 0x02, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x1d,
	0x00, 0x10, 0x00, 0x0e, 0x00, 0x0c, 0x02, 0x68, 0x32, 0x08, 0x68, 0x74, 0x74, 0x70, 0x2f,
	0x31, 0x2e, 0x31, 0x00, 0x17, 0x00, 0x00, 0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x01,
};

/*
 * The same with TLS 1.3: a session id for middleboxes, ALPN h2 alone, and behind it the version
 * (002b 0003 02 0304), modes of the exchange (002d) and a key of x25519 (0033 0026 0024 001d 0020 ...).
 */
static const uint8_t tls13[] = {
	0x16, 0x03, 0x01, 0x00, 0xc9, 0x01, 0x00, 0x00, 0xc5, 0x03, 0x03, 0x63, 0xb7, 0x26, 0x43,
	0x02, 0x00, 0x63, 0x3a, 0xd3, 0xa1, 0x1f, 0x1a, 0x29, 0x1c, 0xcd, 0xa8, 0x77, 0x64, 0x75,
	0x7b, 0x81, 0x8c, 0x5c, 0x62, 0xd2, 0xd8, 0x17, 0xc7, 0x26, 0xbd, 0xf3, 0x0d, 0x20, 0x71,
	0x5d, 0xf2, 0xe8, 0xa1, 0xcb, 0xd5, 0xf7, 0x90, 0xf9, 0x08, 0xe0, 0x1e, 0xe1, 0x3a, 0x0f,
	0x1d, 0x68, 0x44, 0x70, 0xf9, 0xfa, 0xcd, 0x3c, 0x36, 0x05, 0x61, 0xbc, 0xf0, 0x24, 0x95,
	0xb7, 0x00, 0x04, 0x13, 0x01, 0x00, 0xff, 0x01, 0x00, 0x00, 0x78, 0x00, 0x00, 0x00, 0x10,
	0x00, 0x0e, 0x00, 0x00, 0x0b, 0x63, 0x64, 0x6e, 0x2e, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c,
	0x65, 0x00, 0x0b, 0x00, 0x04, 0x03, 0x00, 0x01, 0x02, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02,
	0x00, 0x1d, 0x00, 0x23, 0x00, 0x00, 0x00, 0x10, 0x00, 0x05, 0x00, 0x03, 0x02, 0x68, 0x32,
	0x00, 0x16, 0x00, 0x00, 0x00, 0x17, 0x00, 0x00, 0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x08,
	0x04, 0x00, 0x2b, 0x00, 0x03, 0x02, 0x03, 0x04, 0x00, 0x2d, 0x00, 0x02, 0x01, 0x01, 0x00,
	0x33, 0x00, 0x26, 0x00, 0x24, 0x00, 0x1d, 0x00, 0x20, 0x10, 0xe7, 0x3d, 0x4d, 0x7c, 0xa0,
	0x8e, 0x98, 0xd2, 0x70, 0x23, 0x3a, 0x8d, 0x3b, 0xd0, 0xef, 0xbc, 0xb6, 0x92, 0x44, 0xce,
	0x3c, 0xdb, 0x2d, 0x27, 0x90, 0xf4, 0x03, 0xa4, 0x81, 0x97, 0x37,
};

/* SSL 2: length with a bit that says so, CLIENT-HELLO, version 3.1, 21 bytes of ciphers, 16 of challenge. */
static const uint8_t ssl2[] = {
	0x80, 0x2e, 0x01, 0x03, 0x01, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10, 0x00,
	0x00, 0x39, 0x00, 0x00, 0x35, 0x00, 0x00, 0x16, 0x00, 0x00, 0x0a, 0x07,
	0x00, 0xc0, 0x00, 0x00, 0x2f, 0x00, 0x00, 0x05, 0x11, 0x22, 0x33, 0x44,
	0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00,
};

/* More until the last byte, and then the same with any number of bytes behind. */
static void check(const struct text *t, const char *name, const char *alpn)
{
	struct text longer = *t;

	put_bytes(&longer, "behind", 6);
	for (size_t len = 0; len <= longer.len; len++) {
		struct request r;
		enum recognised answer = recognise(longer.bytes, len, &r);

		if (len < t->len) {
			assert_int_equal(answer, RECOGNISED_MORE);
			continue;
		}
		assert_int_equal(answer, RECOGNISED_REQUEST);
		assert_slice(r.host, name ? name : "");
		assert_slice(r.alpn, alpn ? alpn : "");
		assert_int_equal(r.path.len + r.query.len, 0);
	}
}

static void test_real(void **state)
{
	struct text t = { .len = 0 };
	struct request r;

	(void)state;
	put_bytes(&t, tls12, sizeof(tls12));
	check(&t, "cdn.example", "\x02h2\x08http/1.1");
	t.len = 0;
	put_bytes(&t, tls13, sizeof(tls13));
	check(&t, "cdn.example", "\x02h2");
	for (size_t len = 1; len <= sizeof(ssl2); len++)
		assert_int_equal(recognise(ssl2, len, &r), RECOGNISED_NOT);
}

/* Encrypted: the outer name counts, and the inner hello is one more extension that is not known. */
static void test_encrypted(void **state)
{
	struct text t = { .len = 0 }, records;
	size_t message, extensions;

	(void)state;
	put(&t, 1, 1);
	message = open_vector(&t, 3);
	put(&t, 0x0303, 2);
	memset(t.bytes + t.len, 0x55, 32);
	t.len += 32;
	put(&t, 0, 1);
	put(&t, 0x00021301, 4);
	put(&t, 0x0100, 2);
	extensions = open_vector(&t, 2);
	/* encrypted_client_hello: outer, HKDF-SHA256 and AES-128-GCM, config 7, key of 32, payload */
	put(&t, 0xfe0d, 2);
	put(&t, 1 + 4 + 1 + 2 + 32 + 2 + 208, 2);
	put(&t, 0x00, 1);
	put(&t, 0x00010001, 4);
	put(&t, 7, 1);
	put(&t, 32, 2);
	t.len += 32;
	put(&t, 208, 2);
	t.len += 208;
	put_name(&t, "public.example");
	close_vector(&t, extensions, 2);
	close_vector(&t, message, 3);
	wrap(&records, &t, 4000);
	check(&records, "public.example", NULL);
}

static void test_good(void **state)
{
	static const struct {
		const char *name, *alpn;
		size_t filler;
	} cases[] = {
		{ "www.example.com", "\x02h2\x08http/1.1", 0 },
		{ "www.example.com", NULL,
		  2 + 4 + 1216 + 4 + 32 }, /* keys of X25519MLKEM768 and x25519 */
		{ NULL, "\x02h2", 0 },
		{ NULL, NULL, 0 },
	};
	static const size_t sizes[] = { 1, 2, 7, 100, 1000, 4000 };
	struct text message, records;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make(&message, cases[i].name, cases[i].alpn, cases[i].filler);
		for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
			wrap(&records, &message, sizes[j]);
			check(&records, cases[i].name, cases[i].alpn);
		}
	}
}

/* TLS 1.0 may end behind the compression methods. */
static void test_no_extensions(void **state)
{
	struct text message = { .len = 0 }, records;
	size_t vector;

	(void)state;
	put(&message, 1, 1);
	vector = open_vector(&message, 3);
	put(&message, 0x0301, 2);
	message.len += 32;
	put(&message, 0, 1);
	put(&message, 2, 2);
	put(&message, 0x002f, 2);
	put(&message, 0x0100, 2);
	close_vector(&message, vector, 3);
	wrap(&records, &message, 4000);
	check(&records, NULL, NULL);
}

/* Each byte of a length, a bit more or less: never another name, never beyond the buffer. */
static void test_lengths(void **state)
{
	struct text message, records;

	(void)state;
	make(&message, "www.example.com", "\x02h2", 0);
	wrap(&records, &message, 4000);
	for (size_t at = 0; at < records.len; at++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct text broken = records;
			struct request r;

			broken.bytes[at] ^= (uint8_t)(1u << bit);
			if (recognise(broken.bytes, broken.len, &r) != RECOGNISED_REQUEST)
				continue;
			assert_true(r.host.len <= REQUEST_NAMES_MAX);
			assert_true(r.alpn.len <= REQUEST_NAMES_MAX);
		}
	}
}

static void test_not(void **state)
{
	static const char *const texts[] = {
		"GET / HTTP/1.1\r\n",	"\x80\x2e\x01\x03\x01", /* SSL 2 */
		"\x15\x03\x01",					/* an alert */
		"\x17\x03\x03",		"\x16\x02",
		"\x16\x03\x01\xff\xff", "\x16\x03\x01\x01\x01\x02", /* a ServerHello */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		size_t len = strlen(texts[i]);
		struct request r;

		/* At the first byte that cannot be, and not before. */
		assert_int_equal(recognise((const uint8_t *)texts[i], len, &r), RECOGNISED_NOT);
	}
	for (size_t size = 0; size < 5; size++) {
		struct request r;

		assert_int_equal(recognise((const uint8_t *)"\x16\x03\x01\x00\x00", size, &r),
				 RECOGNISED_MORE);
	}
}

static void test_empty_record(void **state)
{
	struct request r;

	(void)state;
	assert_int_equal(recognise((const uint8_t *)"\x16\x03\x01\x00\x00", 5, &r), RECOGNISED_NOT);
}

/* Too long for us: no name, but a hello. */
static void test_long_names(void **state)
{
	char name[REQUEST_NAMES_MAX + 2];
	struct text message, records;
	struct request r;

	(void)state;
	memset(name, 'n', sizeof(name));
	name[REQUEST_NAMES_MAX + 1] = '\0';
	make(&message, name, NULL, 0);
	wrap(&records, &message, 4000);
	assert_int_equal(recognise(records.bytes, records.len, &r), RECOGNISED_REQUEST);
	assert_int_equal(r.host.len, 0);

	name[REQUEST_NAMES_MAX] = '\0';
	make(&message, name, "\x02h2", 0);
	wrap(&records, &message, 4000);
	assert_int_equal(recognise(records.bytes, records.len, &r), RECOGNISED_REQUEST);
	assert_slice(r.host, name);
	assert_int_equal(r.alpn.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real),	     cmocka_unit_test(test_encrypted),
		cmocka_unit_test(test_good),	     cmocka_unit_test(test_no_extensions),
		cmocka_unit_test(test_lengths),	     cmocka_unit_test(test_not),
		cmocka_unit_test(test_empty_record), cmocka_unit_test(test_long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
