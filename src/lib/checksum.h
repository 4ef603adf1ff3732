/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Internet checksum (RFC 1071) over buffers, pseudo headers, and by difference (RFC 1624). */
#ifndef L3DSR_CHECKSUM_H
#define L3DSR_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "addr.h"

/*
 * Sums are kept unfolded in 64 bits, of 16-bit words as they lie in memory: the one's complement
 * sum does not care for byte order as long as the result is stored the way it was loaded
 * (RFC 1071, 2(B)). csum_fold() gives the 16 bits to store with memcpy().
 */

/** csum_add() - add @len bytes to @sum; an odd last byte is padded with zero */
uint64_t csum_add(uint64_t sum, const void *buf, size_t len);

/** csum_sub() - take the 16-bit words of @buf away from @sum again (RFC 1624, [Eqn. 3]) */
uint64_t csum_sub(uint64_t sum, const void *buf, size_t len);

/** csum_fold() - the complement of the folded sum: what stands in a header */
uint16_t csum_fold(uint64_t sum);

/** csum_unfold() - the sum that a stored checksum @check stands for */
uint64_t csum_unfold(uint16_t check);

/** csum_pseudo() - sum of the pseudo header: addresses, protocol, length of header and data */
uint64_t csum_pseudo(const struct addr *src, const struct addr *dst, uint8_t protocol, size_t len);

#endif
