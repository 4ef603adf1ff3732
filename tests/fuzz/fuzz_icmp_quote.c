/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: ICMP errors that quote a packet, steered and translated. */
#include "fuzz.h"
#include "lib/checksum.h"
#include "lib/icmp_quote.h"

/*
 * Input: way (bit 0: to the server, else to the bridge) and index in the bits above, delta of the
 * sequence numbers, client port, server port, new address, the ICMP packet.
 */

struct job {
	bool to_server;
	uint8_t index;
	struct splice splice;
	uint16_t client_port;
	struct endpoint other;
};

static void check_bounds(const struct icmp_quote *q, size_t size)
{
	uint8_t version = q->data[0] >> 4;

	CHECK(q->len <= size);
	CHECK(q->icmp >= 20 && q->inner == q->icmp + 8);
	CHECK(q->tcp == q->inner + (version == 4 ? 20 : 40) && q->tcp + 8u <= q->len);
	CHECK(q->src.family == version && q->dst.family == version);
	CHECK(q->tuple.src.family == version && q->tuple.dst.family == version);
	CHECK(q->dscp < 64);
}

static void check_agreement(const struct icmp_quote *q)
{
	struct icmp_quote again;

	CHECK(icmp_quote_parse(&again, q->data, q->len) == PACKET_OK);
	CHECK(again.len == q->len && again.icmp == q->icmp && again.tcp == q->tcp);
	CHECK(addr_equal(&again.src, &q->src) && addr_equal(&again.dst, &q->dst));
	CHECK(memcmp(&again.tuple, &q->tuple, sizeof(q->tuple)) == 0);
	CHECK(again.dscp == q->dscp);
}

/* Nothing but the destination, the index and checksums is changed on the way to the bridge. */
static void check_steered(const struct job *job, const struct icmp_quote *q, const uint8_t *old,
			  bool good)
{
	size_t dst = q->src.family == 4 ? 16 : 24;

	CHECK(q->dscp == job->index && addr_equal(&q->dst, &job->other.addr));
	CHECK(icmp_quote_checksum_ok(q) == good);
	for (size_t i = 2; i < q->len; i++) {
		bool moves = (i >= dst && i < dst + addr_len(&q->dst)) ||
			     (q->src.family == 4 && (i == 10 || i == 11)) ||
			     (q->src.family == 6 && i >= q->icmp + 2u && i < q->icmp + 4u);

		CHECK(moves || q->data[i] == old[i]);
	}
}

/* The quote is the web server's own packet, and translated back it is the one that came. */
static void check_translated(const struct job *job, struct icmp_quote *q,
			     const struct icmp_quote *first, const uint8_t *old)
{
	const struct endpoint vip = { first->tuple.src, first->tuple.sport };
	const struct splice inverse = { .seq_delta = -job->splice.seq_delta };
	const uint8_t *inner = q->data + q->inner, *old_inner = old + q->inner;

	CHECK(q->dscp == 0 && icmp_quote_checksum_ok(q));
	CHECK(addr_equal(&q->dst, &job->other.addr));
	CHECK(addr_equal(&q->tuple.src, &job->other.addr) && q->tuple.sport == job->other.port);
	CHECK(q->tuple.dport == job->client_port);
	CHECK(get_be32(q->data + q->tcp + 4) == get_be32(old + q->tcp + 4) - job->splice.seq_delta);
	CHECK(memcmp(inner, old_inner, 8) == 0);
	CHECK(q->src.family == 6 || csum_fold(csum_add(0, inner, 20)) == 0);

	icmp_quote_to_server(q, &inverse, first->tuple.dport, &vip);
	CHECK(memcmp(&q->tuple, &first->tuple, sizeof(q->tuple)) == 0);
	CHECK(memcmp(inner + 12, old_inner + 12, q->len - q->inner - 12) == 0);
	CHECK(memcmp(q->data + q->icmp + 4, old + q->icmp + 4, 4) == 0);
}

static void read_job(struct job *job, struct fuzz_input *in, uint8_t address[16])
{
	uint8_t way = fuzz_u8(in);

	*job = (struct job){ .to_server = way & 1, .index = (way >> 1) & 0x3f };
	job->splice.seq_delta = fuzz_u32(in);
	job->client_port = fuzz_u16(in);
	job->other.port = fuzz_u16(in);
	fuzz_bytes(in, address, 16);
	address[0] |= 1; /* neither a mapped address nor the one that was never set */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct icmp_quote q, first;
	uint8_t address[16], *copy;
	struct job job;
	bool good;

	read_job(&job, &in, address);
	copy = fuzz_copy(in.data, in.size, in.size);
	if (icmp_quote_parse(&q, copy, in.size) == PACKET_OK) {
		check_bounds(&q, in.size);
		first = q;
		good = icmp_quote_checksum_ok(&q);
		job.other.addr = addr_from_bytes(q.data[0] >> 4, address);
		if (job.to_server)
			icmp_quote_to_server(&q, &job.splice, job.client_port, &job.other);
		else
			icmp_quote_to_bridge(&q, &job.other.addr, job.index);
		check_agreement(&q);
		if (job.to_server)
			check_translated(&job, &q, &first, in.data);
		else
			check_steered(&job, &q, in.data, good);
	}
	free(copy);
	return 0;
}
