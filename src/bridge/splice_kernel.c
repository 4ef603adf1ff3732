/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the connections of a bridge and the kernel's entries that translate them. */
#include "splice_kernel.h"

#include "lib/handoff.h"
#include "splice.h"

static struct tuple from_client(const struct splice_flow *f)
{
	return (struct tuple){ .src = f->client.addr,
			       .sport = f->client.port,
			       .dst = f->vip.addr,
			       .dport = f->vip.port };
}

bool splice_kernel_translates(const struct splice_flow *f)
{
	return f->numbers.client_shift == f->numbers.client_shift_server &&
	       f->numbers.server_shift == f->numbers.server_shift_client;
}

int splice_kernel_add(struct splice_kernel *k, const struct splice_flow *f)
{
	const struct conntrack_entry entry = {
		.original = from_client(f),
		.reply = { .src = f->server.addr,
			   .sport = f->server.port,
			   .dst = f->client.addr,
			   .dport = f->server_side_port },
		.mark = SPLICE_KERNEL_MARK | f->index |
			(f->options & HANDOFF_SILENT ? SPLICE_KERNEL_SILENT : 0),
		.isn_c = f->isn_c,
		.isn_n = f->isn_b - f->numbers.seq_delta,
		.seq_delta = f->numbers.seq_delta,
		.ts_delta = f->numbers.ts_delta,
		.wscale_original = f->numbers.client_shift,
		.wscale_reply = f->numbers.server_shift,
		.state = CONNTRACK_ESTABLISHED,
		.timeout_s = k->established_s,
	};

	return conntrack_create(&k->conntrack, &entry);
}

static bool get(struct splice_kernel *k, const struct tuple *tuple, struct conntrack_entry *entry)
{
	return conntrack_get(&k->conntrack, tuple, entry) == 0 &&
	       (entry->mark & SPLICE_KERNEL_MASK) == SPLICE_KERNEL_MARK;
}

bool splice_kernel_find(struct splice_kernel *k, const struct tuple *tuple, struct splice_flow *f)
{
	struct conntrack_entry e;

	if (!get(k, tuple, &e))
		return false;
	*f = (struct splice_flow){
		.numbers = {
			.seq_delta = e.seq_delta,
			.ts_delta = e.ts_delta,
			.client_shift = e.wscale_original,
			.client_shift_server = e.wscale_original,
			.server_shift = e.wscale_reply,
			.server_shift_client = e.wscale_reply,
			.timestamps = e.ts_delta != 0,
		},
		.client = { .addr = e.original.src, .port = e.original.sport },
		.vip = { .addr = e.original.dst, .port = e.original.dport },
		.server = { .addr = e.reply.src, .port = e.reply.sport },
		.server_side_port = e.reply.dport,
		.index = (uint8_t)e.mark,
		.options = e.mark & SPLICE_KERNEL_SILENT ? HANDOFF_SILENT : 0,
		.isn_c = e.isn_c,
		.isn_b = e.isn_n + e.seq_delta,
	};
	return true;
}

void splice_kernel_end(struct splice_kernel *k, const struct splice_flow *f)
{
	const struct tuple tuple = from_client(f);

	/* If it is gone, all the better. */
	(void)conntrack_end(&k->conntrack, &tuple, SPLICE_KERNEL_ENDED, k->close_s);
}

void splice_kernel_remove(struct splice_kernel *k, const struct splice_flow *f)
{
	const struct tuple tuple = from_client(f);
	struct conntrack_entry entry;

	if (get(k, &tuple, &entry))
		(void)conntrack_delete(&k->conntrack, &entry);
}
