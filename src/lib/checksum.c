/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One's complement sums, eight bytes at a time. */
#include "checksum.h"

#include <arpa/inet.h>
#include <string.h>

/*
 * A 64-bit word is worth the sum of its four 16-bit words, because 2^16 is 1 modulo 2^16 - 1. For
 * the same reason a carry out of the 64 bits is worth 1 (RFC 1071, 2(A) and 2(C)).
 */
static inline uint64_t add_carry(uint64_t sum, uint64_t word)
{
	sum += word;
	return sum + (sum < word);
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

uint64_t csum_add(uint64_t sum, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t tail = 0;

	if (len >= 32) {
		uint64_t s1 = 0, s2 = 0, s3 = 0;

		/* Four chains of carries that do not wait for each other. */
		for (; len >= 32; p += 32, len -= 32) {
			sum = add_carry(sum, load64(p));
			s1 = add_carry(s1, load64(p + 8));
			s2 = add_carry(s2, load64(p + 16));
			s3 = add_carry(s3, load64(p + 24));
		}
		sum = add_carry(add_carry(sum, s1), add_carry(s2, s3));
	}
	for (; len >= 8; p += 8, len -= 8)
		sum = add_carry(sum, load64(p));
	if (len) {
		memcpy(&tail, p, len);
		sum = add_carry(sum, tail);
	}
	return sum;
}

static uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint64_t csum_sub(uint64_t sum, const void *buf, size_t len)
{
	/*
	 * HC' = ~(~HC + ~m + m'): the complement is added, nothing is subtracted, so the sum of a
	 * packet can never become 0, only the equivalent 0xffff, as in a sum over all its words.
	 */
	return add_carry(sum, (uint16_t)~fold(csum_add(0, buf, len)));
}

uint16_t csum_fold(uint64_t sum)
{
	return (uint16_t)~fold(sum);
}

uint64_t csum_unfold(uint16_t check)
{
	return (uint16_t)~check;
}

uint64_t csum_pseudo(const struct addr *src, const struct addr *dst, uint8_t protocol, size_t len)
{
	uint64_t sum = 0;

	/*
	 * The layouts of IPv4 (RFC 9293, 3.1) and IPv6 (RFC 8200, 8.1) differ, their sums do not:
	 * zeros count nothing, and the upper half of the length is zero in IPv4.
	 */
	sum = csum_add(sum, src->bytes, sizeof(src->bytes));
	sum = csum_add(sum, dst->bytes, sizeof(dst->bytes));
	sum = add_carry(sum, htonl((uint32_t)len));
	return add_carry(sum, htons(protocol));
}
