/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bob Jenkins' lookup3 as the kernel's jhash() uses it, over address and port. */
#include "queue_hash.h"

#include <string.h>

#include "packet.h"

#define JHASH_INITVAL 0xdeadbeef

static uint32_t rol32(uint32_t word, unsigned int shift)
{
	return word << shift | word >> (32 - shift);
}

static uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void mix(uint32_t *a, uint32_t *b, uint32_t *c)
{
	static const uint8_t shift[6] = { 4, 6, 8, 16, 19, 4 };

	for (unsigned int i = 0; i < 6; i++) {
		uint32_t t = *a;

		t = (t - *c) ^ rol32(*c, shift[i]);
		*c += *b;
		/* the three words change places from one step to the next */
		*a = *b;
		*b = *c;
		*c = t;
	}
}

static uint32_t final(uint32_t a, uint32_t b, uint32_t c)
{
	c = (c ^ b) - rol32(b, 14);
	a = (a ^ c) - rol32(c, 11);
	b = (b ^ a) - rol32(a, 25);
	c = (c ^ b) - rol32(b, 16);
	a = (a ^ c) - rol32(c, 4);
	b = (b ^ a) - rol32(a, 14);
	c = (c ^ b) - rol32(b, 24);
	return c;
}

unsigned int queue_hash(const struct addr *client, uint16_t port)
{
	uint8_t key[20] = { 0 };
	size_t addr = addr_len(client), len = addr + 4;
	const uint8_t *k = key;
	uint32_t a, b, c;

	memcpy(key, client->bytes, addr);
	put_be16(key + addr, port);

	a = b = c = JHASH_INITVAL + (uint32_t)len + QUEUE_HASH_SEED;
	for (; len > 12; len -= 12, k += 12) {
		a += get_le32(k);
		b += get_le32(k + 4);
		c += get_le32(k + 8);
		mix(&a, &b, &c);
	}
	a += get_le32(k);
	b += get_le32(k + 4);
	return (unsigned int)((uint64_t) final(a, b, c) * QUEUE_COUNT >> 32);
}
