/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jhash of client address and port as a classic BPF program: queue_hash() for the kernel. */
#include "reuseport.h"

#include <linux/filter.h>
#include <stddef.h>
#include <sys/socket.h>

#include "lib/queue_hash.h"

#define JHASH_INITVAL 0xdeadbeefu
#define KEY_LEN	      8	  /* ip saddr, tcp sport, two bytes of padding */
#define PROGRAM_MAX   192 /* instructions */

enum { CELL_A, CELL_B, CELL_C, CELL_ROTATED }; /* of the scratch memory */

struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned short len;
};

static void emit(struct program *p, unsigned short code, unsigned int k)
{
	p->code[p->len++] = (struct sock_filter){ .code = code, .k = k };
}

/* A = A | (byte at @offset of the network header) << @shift */
static void emit_or_byte(struct program *p, unsigned int offset, unsigned int shift)
{
	emit(p, BPF_ST, CELL_ROTATED);
	emit(p, BPF_LD | BPF_B | BPF_ABS, (unsigned int)SKF_NET_OFF + offset);
	emit(p, BPF_ALU | BPF_LSH | BPF_K, shift);
	emit(p, BPF_MISC | BPF_TAX, 0);
	emit(p, BPF_LD | BPF_MEM, CELL_ROTATED);
	emit(p, BPF_ALU | BPF_OR | BPF_X, 0);
}

/* The three words of the hash, as jhash() begins with a key of eight bytes. */
static void emit_load(struct program *p)
{
	const unsigned int begin = JHASH_INITVAL + KEY_LEN + QUEUE_HASH_SEED;

	emit(p, BPF_LD | BPF_IMM, begin);
	emit(p, BPF_ST, CELL_C);

	/* The port lies behind the options: X = 4 * (first byte of the IP header & 0xf). */
	emit(p, BPF_LDX | BPF_MSH | BPF_B, (unsigned int)SKF_NET_OFF);
	emit(p, BPF_LD | BPF_B | BPF_IND, (unsigned int)SKF_NET_OFF);
	emit(p, BPF_ST, CELL_B);
	emit(p, BPF_LD | BPF_B | BPF_IND, (unsigned int)SKF_NET_OFF + 1);
	emit(p, BPF_ALU | BPF_LSH | BPF_K, 8);
	emit(p, BPF_LDX | BPF_MEM, CELL_B);
	emit(p, BPF_ALU | BPF_OR | BPF_X, 0);
	emit(p, BPF_ALU | BPF_ADD | BPF_K, begin);
	emit(p, BPF_ST, CELL_B);

	emit(p, BPF_LD | BPF_B | BPF_ABS, (unsigned int)SKF_NET_OFF + 12);
	for (unsigned int i = 1; i < 4; i++)
		emit_or_byte(p, 12 + i, 8 * i);
	emit(p, BPF_ALU | BPF_ADD | BPF_K, begin);
	emit(p, BPF_ST, CELL_A);
}

/* x = (x ^ y) - rol32(y, shift) */
static void emit_step(struct program *p, unsigned int x, unsigned int y, unsigned int shift)
{
	emit(p, BPF_LD | BPF_MEM, y);
	emit(p, BPF_ALU | BPF_LSH | BPF_K, shift);
	emit(p, BPF_ST, CELL_ROTATED);
	emit(p, BPF_LD | BPF_MEM, y);
	emit(p, BPF_ALU | BPF_RSH | BPF_K, 32 - shift);
	emit(p, BPF_LDX | BPF_MEM, CELL_ROTATED);
	emit(p, BPF_ALU | BPF_OR | BPF_X, 0);
	emit(p, BPF_ST, CELL_ROTATED);
	emit(p, BPF_LD | BPF_MEM, x);
	emit(p, BPF_LDX | BPF_MEM, y);
	emit(p, BPF_ALU | BPF_XOR | BPF_X, 0);
	emit(p, BPF_LDX | BPF_MEM, CELL_ROTATED);
	emit(p, BPF_ALU | BPF_SUB | BPF_X, 0);
	emit(p, BPF_ST, x);
}

static void emit_final(struct program *p)
{
	emit_step(p, CELL_C, CELL_B, 14);
	emit_step(p, CELL_A, CELL_C, 11);
	emit_step(p, CELL_B, CELL_A, 25);
	emit_step(p, CELL_C, CELL_B, 16);
	emit_step(p, CELL_A, CELL_C, 4);
	emit_step(p, CELL_B, CELL_A, 14);
	emit_step(p, CELL_C, CELL_B, 24);
}

_Static_assert(QUEUE_COUNT == 4, "reciprocal_scale() to four is the two upper bits");

int reuseport_attach(int fd, unsigned int workers)
{
	struct program p = { .len = 0 };
	struct sock_fprog fprog;

	emit_load(&p);
	emit_final(&p);
	emit(&p, BPF_LD | BPF_MEM, CELL_C);
	emit(&p, BPF_ALU | BPF_RSH | BPF_K, 30);
	emit(&p, BPF_ALU | BPF_MOD | BPF_K, workers);
	emit(&p, BPF_RET | BPF_A, 0);

	fprog = (struct sock_fprog){ .len = p.len, .filter = p.code };
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &fprog, sizeof(fprog));
}
