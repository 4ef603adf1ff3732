/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of os/conntrack.c: the bytes of its messages, and what it makes of the kernel's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <libmnl/libmnl.h>

#include "os/conntrack.h"

static struct conntrack_entry example(unsigned int family)
{
	static const uint8_t client[16] = { 192, 168, 33, 1 }, vip[16] = { 192, 168, 33, 10 },
			     server[16] = { 192, 168, 33, 30 };

	return (struct conntrack_entry){
		.original = { .src = addr_from_bytes(family, client),
			      .sport = 0x1234,
			      .dst = addr_from_bytes(family, vip),
			      .dport = 80 },
		.reply = { .src = addr_from_bytes(family, server),
			   .sport = 8080,
			   .dst = addr_from_bytes(family, client),
			   .dport = 0x5678 },
		.mark = 0x6c330001,
		.isn_c = 0x01020304,
		.isn_n = 0x11121314,
		.seq_delta = 0xfffffff0,
		.ts_delta = 0x21222324,
		.wscale_original = 7,
		.wscale_reply = 10,
		.state = CONNTRACK_ESTABLISHED,
		.timeout_s = 300,
	};
}

/* As the kernel's ctnetlink_create_conntrack() reads it; numbers of nfnetlink_conntrack.h. */
static void test_bytes(void **state)
{
	static const uint8_t expected[] = {
		/* CTA_TUPLE_ORIG: client -> VIP */
		0x34, 0, 0x01, 0x80,		    /**/
		0x14, 0, 0x01, 0x80,		    /* CTA_TUPLE_IP */
		0x08, 0, 0x01, 0, 192, 168, 33, 1,  /* CTA_IP_V4_SRC */
		0x08, 0, 0x02, 0, 192, 168, 33, 10, /* CTA_IP_V4_DST */
		0x1c, 0, 0x02, 0x80,		    /* CTA_TUPLE_PROTO */
		0x05, 0, 0x01, 0, 6, 0, 0, 0,	    /* CTA_PROTO_NUM */
		0x06, 0, 0x02, 0, 0x12, 0x34, 0, 0, /* CTA_PROTO_SRC_PORT */
		0x06, 0, 0x03, 0, 0, 80, 0, 0,	    /* CTA_PROTO_DST_PORT */
		/* CTA_TUPLE_REPLY: VIP -> client, not yet translated */
		0x34, 0, 0x02, 0x80,		    /**/
		0x14, 0, 0x01, 0x80,		    /**/
		0x08, 0, 0x01, 0, 192, 168, 33, 10, /**/
		0x08, 0, 0x02, 0, 192, 168, 33, 1,  /**/
		0x1c, 0, 0x02, 0x80,		    /**/
		0x05, 0, 0x01, 0, 6, 0, 0, 0,	    /**/
		0x06, 0, 0x02, 0, 0, 80, 0, 0,	    /**/
		0x06, 0, 0x03, 0, 0x12, 0x34, 0, 0, /**/
		/* CTA_STATUS: SEEN_REPLY 2, ASSURED 4, CONFIRMED 8 */
		0x08, 0, 0x03, 0, 0, 0, 0, 0x0e, /**/
		/* CTA_PROTOINFO, CTA_PROTOINFO_TCP */
		0x30, 0, 0x04, 0x80, 0x2c, 0, 0x01, 0x80, /**/
		0x05, 0, 0x01, 0, 3, 0, 0, 0,		  /* state */
		0x05, 0, 0x02, 0, 7, 0, 0, 0,		  /* scale of the original side */
		0x05, 0, 0x03, 0, 10, 0, 0, 0,		  /* scale of the reply side */
		0x06, 0, 0x04, 0, 0x0b, 0x0b, 0, 0,	  /* scale 1, SACK 2, liberal 8 */
		0x06, 0, 0x05, 0, 0x0b, 0x0b, 0, 0,	  /**/
		0x08, 0, 0x07, 0, 0, 0, 0x01, 0x2c,	  /* CTA_TIMEOUT */
		0x08, 0, 0x08, 0, 0x6c, 0x33, 0, 0x01,	  /* CTA_MARK */
		/* CTA_NAT_DST: the web server */
		0x28, 0, 0x0d, 0x80,		    /**/
		0x08, 0, 0x01, 0, 192, 168, 33, 30, /* CTA_NAT_V4_MINIP */
		0x08, 0, 0x02, 0, 192, 168, 33, 30, /* CTA_NAT_V4_MAXIP */
		0x14, 0, 0x03, 0x80,		    /* CTA_NAT_PROTO */
		0x06, 0, 0x01, 0, 0x1f, 0x90, 0, 0, /* CTA_PROTONAT_PORT_MIN */
		0x06, 0, 0x02, 0, 0x1f, 0x90, 0, 0, /* CTA_PROTONAT_PORT_MAX */
		/* CTA_NAT_SRC: the client, with the port that was chosen */
		0x28, 0, 0x06, 0x80,		    /**/
		0x08, 0, 0x01, 0, 192, 168, 33, 1,  /**/
		0x08, 0, 0x02, 0, 192, 168, 33, 1,  /**/
		0x14, 0, 0x03, 0x80,		    /**/
		0x06, 0, 0x01, 0, 0x56, 0x78, 0, 0, /**/
		0x06, 0, 0x02, 0, 0x56, 0x78, 0, 0, /**/
		/* CTA_SEQ_ADJ_ORIG: where it begins, and nothing added */
		0x1c, 0, 0x0f, 0x80,	      /**/
		0x08, 0, 0x01, 0, 1, 2, 3, 4, /**/
		0x08, 0, 0x02, 0, 0, 0, 0, 0, /**/
		0x08, 0, 0x03, 0, 0, 0, 0, 0, /**/
		/* CTA_SEQ_ADJ_REPLY */
		0x1c, 0, 0x10, 0x80,			  /**/
		0x08, 0, 0x01, 0, 0x11, 0x12, 0x13, 0x14, /**/
		0x08, 0, 0x02, 0, 0xff, 0xff, 0xff, 0xf0, /**/
		0x08, 0, 0x03, 0, 0xff, 0xff, 0xff, 0xf0, /**/
		/* CTA_SYNPROXY: isn_b, no ITS, the clocks' difference */
		0x1c, 0, 0x18, 0x80,			  /**/
		0x08, 0, 0x01, 0, 0x11, 0x12, 0x13, 0x04, /**/
		0x08, 0, 0x02, 0, 0, 0, 0, 0,		  /**/
		0x08, 0, 0x03, 0, 0x21, 0x22, 0x23, 0x24, /**/
	};
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	const struct conntrack_entry entry = example(4);
	const struct nlmsghdr *nlh = conntrack_build(buf, &entry, 7);
	const uint8_t *nfgen = mnl_nlmsg_get_payload(nlh);

	(void)state;
	assert_int_equal(nlh->nlmsg_type, 0x0100); /* NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW */
	assert_int_equal(nlh->nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);
	assert_int_equal(nlh->nlmsg_seq, 7);
	assert_int_equal(nfgen[0], AF_INET);
	assert_int_equal(mnl_nlmsg_get_payload_len(nlh), 4 + sizeof(expected));
	assert_memory_equal(nfgen + 4, expected, sizeof(expected));
}

/* The kernel tells the attributes of an entry as it is told them, but for the reply. */
static void test_round_trip(void **state)
{
	(void)state;
	for (unsigned int family = 4; family <= 6; family += 2) {
		uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
		struct conntrack_entry entry = example(family), found;
		struct nlmsghdr *nlh = conntrack_build(buf, &entry, 7);
		const uint32_t id = 0x31323334;

		mnl_attr_put(nlh, 12, sizeof(id), "\x31\x32\x33\x34"); /* CTA_ID */
		assert_true(conntrack_parse(nlh, &found));
		entry.reply = tuple_reverse(&entry.original);
		entry.id = id;
		assert_memory_equal(&found.original, &entry.original, sizeof(entry.original));
		assert_memory_equal(&found.reply, &entry.reply, sizeof(entry.reply));
		assert_int_equal(found.mark, entry.mark);
		assert_int_equal(found.isn_c, entry.isn_c);
		assert_int_equal(found.isn_n, entry.isn_n);
		assert_int_equal(found.seq_delta, entry.seq_delta);
		assert_int_equal(found.ts_delta, entry.ts_delta);
		assert_int_equal(found.wscale_original, entry.wscale_original);
		assert_int_equal(found.wscale_reply, entry.wscale_reply);
		assert_int_equal(found.state, entry.state);
		assert_int_equal(found.timeout_s, entry.timeout_s);
		assert_int_equal(found.id, entry.id);
	}
}

/* Whatever of a message is missing (its length is one of whole words), it is not an entry, or one with zeros. */
static void test_cut_short(void **state)
{
	uint8_t buf[CONNTRACK_MESSAGE_MAX] __attribute__((aligned(8)));
	const struct conntrack_entry entry = example(4);
	struct nlmsghdr *nlh = conntrack_build(buf, &entry, 7);
	struct conntrack_entry found;
	uint32_t whole = nlh->nlmsg_len;

	(void)state;
	for (uint32_t len = MNL_NLMSG_HDRLEN; len < whole; len += 4) {
		nlh->nlmsg_len = len;
		/* Both tuples are 2 * 52 bytes behind the two headers. */
		if (len < MNL_NLMSG_HDRLEN + 4 + 104)
			assert_false(conntrack_parse(nlh, &found));
		else if (conntrack_parse(nlh, &found))
			assert_memory_equal(&found.original, &entry.original,
					    sizeof(entry.original));
	}
	nlh->nlmsg_len = whole;
	nlh->nlmsg_type = 0x0102; /* IPCTNL_MSG_CT_DELETE */
	assert_false(conntrack_parse(nlh, &found));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
