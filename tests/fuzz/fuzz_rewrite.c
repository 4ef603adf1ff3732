/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the translation of a spliced packet, its inverse, and steering. */
#include "fuzz.h"
#include "lib/rewrite.h"
#include "lib/tcp_options.h"

/*
 * Input: way (0 to the server, 1 to the client, 2 to the bridge, 3 stripped), flags (bit 0
 * timestamps, bit 1 unfinished checksum), both deltas, four window scales, a port, the new port and
 * address, the packet.
 */

enum { TO_SERVER, TO_CLIENT, TO_BRIDGE, STRIPPED, WAYS };

struct job {
	unsigned int way;
	struct splice splice;
	uint16_t port; /* of the client, where it is replaced */
	struct endpoint other;
	uint8_t index;
};

/* Offsets inside the TCP header of what may change, besides the options. */
enum { TH_SEQ = 4, TH_ACK = 8, TH_FLAGS = 13, TH_WINDOW = 14, TH_CHECK = 16, TH_URGENT = 18 };

static void apply(const struct job *job, struct packet *p)
{
	switch (job->way) {
	case TO_SERVER:
		rewrite_to_server(p, &job->splice, job->port, &job->other);
		break;
	case TO_CLIENT:
		rewrite_to_client(p, &job->splice, &job->other, job->port);
		break;
	case TO_BRIDGE:
		rewrite_to_bridge(p, &job->other.addr, job->index);
		break;
	case STRIPPED:
		rewrite_strip_data(p);
		break;
	}
}

static bool ip_checksum_ok(const struct packet *p)
{
	uint32_t sum = 0;

	if (p->tuple.src.family != 4)
		return true;
	for (unsigned int i = 0; i < p->tcp; i += 2)
		sum += get_be16(p->data + i);
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static void check_agreement(const struct packet *p)
{
	struct packet again;

	CHECK(packet_parse(&again, p->data, p->len) == PACKET_OK);
	CHECK(again.len == p->len && again.tcp == p->tcp && again.payload == p->payload);
	CHECK(memcmp(&again.tuple, &p->tuple, sizeof(p->tuple)) == 0);
	CHECK(again.seq == p->seq && again.ack == p->ack && again.window == p->window);
	CHECK(again.flags == p->flags && again.dscp == p->dscp);
}

/* What is added to a number on this way. */
struct deltas {
	uint32_t seq, ack, tsval, tsecr;
};

static struct deltas expected_deltas(const struct job *job, uint8_t flags)
{
	const struct splice *s = &job->splice;
	struct deltas d = { 0 };

	if (job->way == TO_SERVER && flags & TCP_ACK) {
		d.ack = -s->seq_delta;
		d.tsecr = s->timestamps ? s->ts_delta : 0;
	} else if (job->way == TO_CLIENT) {
		d.seq = s->seq_delta;
		d.tsval = s->timestamps ? -s->ts_delta : 0;
	}
	return d;
}

static uint32_t change(const uint8_t *new, const uint8_t *old)
{
	return get_be32(new) - get_be32(old);
}

/* Timestamps and SACK blocks have moved as they should, and nothing else of the options has. */
static void check_options(const struct packet *p, const uint8_t *old, const struct deltas *d)
{
	struct tcp_options o;
	size_t len;
	uint8_t *options = packet_options(p, &len), *moved = fuzz_copy(options, len, len);
	const uint8_t *old_options = old + p->tcp + 20;

	(void)tcp_options_parse(&o, options, len);
	for (size_t at = o.sack_at; at < o.sack_at + 8u * o.sack_blocks; at += 4) {
		CHECK(change(options + at, old_options + at) == d->ack);
		memcpy(moved + at, old_options + at, 4);
	}
	if (o.timestamps) {
		CHECK(change(options + o.ts_at, old_options + o.ts_at) == d->tsval);
		CHECK(change(options + o.ts_at + 4, old_options + o.ts_at + 4) == d->tsecr);
		memcpy(moved + o.ts_at, old_options + o.ts_at, 8);
	}
	CHECK(memcmp(moved, old_options, len) == 0);
	free(moved);
}

static void check_numbers(const struct job *job, const struct packet *p, const uint8_t *old)
{
	const uint8_t *th = p->data + p->tcp, *old_th = old + p->tcp;
	struct deltas d = expected_deltas(job, p->flags);

	CHECK(change(th + TH_SEQ, old_th + TH_SEQ) == d.seq);
	CHECK(change(th + TH_ACK, old_th + TH_ACK) == d.ack);
	check_options(p, old, &d);
}

static void check_untouched(const struct job *job, const struct packet *p, const uint8_t *old,
			    size_t old_len)
{
	const uint8_t *th = p->data + p->tcp, *old_th = old + p->tcp;
	bool syn = p->flags & TCP_SYN;

	CHECK(p->len == old_len);
	CHECK(memcmp(p->data + p->payload, old + p->payload, p->len - p->payload) == 0);
	CHECK(th[TH_FLAGS] == old_th[TH_FLAGS]);
	CHECK(memcmp(th + TH_URGENT, old_th + TH_URGENT, 2) == 0);
	CHECK(!syn || memcmp(th + TH_WINDOW, old_th + TH_WINDOW, 2) == 0);
	if (job->way == TO_BRIDGE)
		CHECK(memcmp(th, old_th, TH_CHECK) == 0 &&
		      memcmp(th + TH_URGENT, old_th + TH_URGENT, p->len - p->tcp - TH_URGENT) == 0);
	check_numbers(job, p, old);
}

/* @new units of 2^@to are no more than @old of 2^@from; but one for a full segment stays open. */
static void check_units(uint16_t old, unsigned int from, uint16_t new, unsigned int to)
{
	uint64_t bytes = (uint64_t)old << from;

	CHECK(new || bytes < SPLICE_OPEN_BYTES);
	CHECK((uint64_t) new << to <= bytes || (new == 1 && bytes >= SPLICE_OPEN_BYTES));
}

static void check_window(const struct job *job, uint16_t old, uint16_t new)
{
	const struct splice *s = &job->splice;

	if (job->way == TO_SERVER)
		check_units(old, s->client_shift, new, s->client_shift_server);
	if (job->way == TO_CLIENT)
		check_units(old, s->server_shift, new, s->server_shift_client);
}

/* The one's complement has two zeros, and a checksum by difference may exchange them. */
static bool same_checksum(const uint8_t *a, const uint8_t *b)
{
	return get_be16(a) % 0xffff == get_be16(b) % 0xffff;
}

/* Translated again with everything negated, the packet is as it was: TCP header, options, data. */
static void check_inverse(const struct job *job, struct packet *p, const struct packet *first,
			  const uint8_t *old)
{
	const struct splice *s = &job->splice;
	const struct tuple *t = &first->tuple;
	bool from_client = job->way != TO_CLIENT;
	struct job inverse = {
		.way = job->way,
		.splice = { .seq_delta = -s->seq_delta,
			    .ts_delta = -s->ts_delta,
			    .timestamps = s->timestamps },
		.port = from_client ? t->sport : t->dport,
		.other = { from_client ? t->dst : t->src, from_client ? t->dport : t->sport },
		.index = first->dscp,
	};
	const uint8_t *th = p->data + p->tcp, *old_th = old + p->tcp;
	uint64_t before = packet_header_sum(p);

	packet_set_window(p, first->window);
	packet_checksum_adjust(p, before);
	apply(&inverse, p);
	packet_set_dscp(p, first->dscp);
	CHECK(memcmp(&p->tuple, t, sizeof(*t)) == 0);
	CHECK(memcmp(th, old_th, TH_CHECK) == 0);
	CHECK(memcmp(th + TH_URGENT, old_th + TH_URGENT, p->len - p->tcp - TH_URGENT) == 0);
	if (first->checksum != CHECKSUM_PARTIAL)
		CHECK(same_checksum(th + TH_CHECK, old_th + TH_CHECK));
	if (t->src.family == 4)
		CHECK(memcmp(p->data, old, 10) == 0 && memcmp(p->data + 12, old + 12, 8) == 0);
	else
		CHECK(memcmp(p->data, old, 40) == 0);
}

static void read_job(struct job *job, struct fuzz_input *in, uint8_t address[16])
{
	uint8_t flags;

	job->way = fuzz_u8(in) % WAYS;
	flags = fuzz_u8(in);
	job->splice.timestamps = flags & 1;
	job->splice.seq_delta = fuzz_u32(in);
	job->splice.ts_delta = fuzz_u32(in);
	job->splice.client_shift = fuzz_u8(in) % (TCP_WSCALE_MAX + 1);
	job->splice.client_shift_server = fuzz_u8(in) % (TCP_WSCALE_MAX + 1);
	job->splice.server_shift = fuzz_u8(in) % (TCP_WSCALE_MAX + 1);
	job->splice.server_shift_client = fuzz_u8(in) % (TCP_WSCALE_MAX + 1);
	job->index = flags >> 2;
	job->port = fuzz_u16(in);
	job->other.port = fuzz_u16(in);
	fuzz_bytes(in, address, 16);
	address[0] |= 1; /* neither a mapped address nor the one that was never set */
}

static void check_packet(struct job *job, struct packet *p, const uint8_t *old, size_t old_len)
{
	struct packet first = *p;
	bool good = packet_tcp_checksum_ok(p) || p->checksum == CHECKSUM_PARTIAL;

	apply(job, p);
	CHECK(ip_checksum_ok(p));
	check_agreement(p);
	if (job->way == STRIPPED) {
		CHECK(packet_payload_len(p) == 0 && packet_tcp_checksum_ok(p));
		return;
	}
	CHECK(packet_tcp_checksum_ok(p) == good);
	CHECK(p->dscp == (job->way == TO_SERVER	  ? 0
			  : job->way == TO_BRIDGE ? job->index
						  : first.dscp));
	check_untouched(job, p, old, old_len);
	if (!(p->flags & TCP_SYN))
		check_window(job, first.window, p->window);
	check_inverse(job, p, &first, old);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t address[16], *copy;
	struct packet p;
	struct job job;

	read_job(&job, &in, address);
	copy = fuzz_copy(in.data, in.size, in.size);
	if (packet_parse(&p, copy, in.size) == PACKET_OK) {
		job.other.addr = addr_from_bytes(p.data[0] >> 4, address);
		if (size > 1 && data[1] & 2)
			p.checksum = CHECKSUM_PARTIAL;
		check_packet(&job, &p, in.data, p.len);
	}
	free(copy);
	return 0;
}
