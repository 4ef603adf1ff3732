# SPDX-License-Identifier: GPL-2.0-or-later
"""The handoff messages: what is believed and what is not, and what they say on the wire."""

import contextlib
import dataclasses
import os
import random

import pytest
from scapy.layers.inet import IP, TCP, UDP

import crafted
from conftest import VIP, wait_until
from crafted import ABORT, ACCEPTED, REFUSED, SACK, TIMESTAMPS, WSCALE, Offer, Told

WATCH = """
	counter syns { }
	chain c {
		type filter hook input priority 0;
		ip daddr 192.168.33.30 tcp dport 80 tcp flags & (syn | ack) == syn counter name syns
	}"""


@contextlib.contextmanager
def untouched(lab, reached=0):
    """The web server of backend1 sees that many SYNs, and goes on serving."""
    path = crafted.path_of(lab, "backend1")
    with crafted.nft(lab, "backend1", WATCH):
        yield
        assert crafted.nft_packets(lab, "backend1", "syns") == reached
        assert crafted.fetch(lab, path).backend == "backend1"


def flip(position):
    def change(data):
        data = bytearray(data)
        data[position] ^= 1
        return bytes(data)
    return change


def cut(length):
    return lambda data: data[:length]


# What is wrong with an OPEN, and who counts it: a record that is changed after it was signed,
# fields that are wrong and signed, or an index of the packet that does not fit.
WRONG = {
    "mac": ({"change": flip(-1)}, "drop_handoff_forged"),
    "isn_b": ({"change": flip(38)}, "drop_handoff_forged"),
    "answer": ({"change": flip(55)}, "drop_handoff_forged"),
    "end": ({"change": flip(71)}, "drop_handoff_forged"),
    "version_0": ({"version": 0}, "drop_handoff_version"),
    "version_2": ({"version": 2}, "drop_handoff_version"),
    "type_0": ({"type": 0}, "drop_handoff_type"),
    "type_accepted": ({"type": ACCEPTED}, "drop_handoff_type"),
    "type_unknown": ({"type": 7}, "drop_handoff_type"),
    "type_255": ({"type": 255}, "drop_handoff_type"),
    "key": ({"key_id": 999}, "drop_handoff_key"),
    "magic": ({"magic": 0x6c34}, "drop_handoff_foreign"),
    "empty": ({"change": cut(0)}, "drop_no_record"),
    "cut_1": ({"change": cut(1)}, "drop_handoff_truncated"),
    "cut_7": ({"change": cut(7)}, "drop_handoff_truncated"),
    "cut_8": ({"change": cut(8)}, "drop_handoff_truncated"),
    "cut_72": ({"change": cut(72)}, "drop_handoff_truncated"),
    "cut_87": ({"change": cut(87)}, "drop_handoff_truncated"),
    "longer": ({"change": lambda data: data + b"\0"}, "drop_handoff_truncated"),
    "length": ({"length": 87}, "drop_handoff_truncated"),
    "garbage": ({"change": lambda _: b"\0" + os.urandom(500)}, "drop_handoff_foreign"),
    "index": ({"index": 2}, "drop_handoff_field"),
    "index_0": ({"index": 0}, "drop_handoff_field"),
    "index_64": ({"index": 64}, "drop_handoff_field"),
    "vip": ({"vip": ("192.168.33.11", 80)}, "drop_handoff_field"),
    "vip_port": ({"vip": (VIP, 81)}, "drop_handoff_field"),
    "family": ({"family": 5}, "drop_handoff_field"),
    "wscale": ({"wscale": 15}, "drop_handoff_field"),
    "dscp_forged": ({"change": flip(-1), "dscp": 2}, "drop_handoff_forged"),
}


@pytest.mark.parametrize("wrong", [pytest.param(
    wrong, marks=() if wrong in ("mac", "type_0") else pytest.mark.once) for wrong in WRONG])
def test_a_wrong_offer_is_dropped(lab, wrong):
    how, counter = WRONG[wrong]
    with Offer(lab) as offer, untouched(lab):
        before = lab.counters("bridge1")
        for number, host in enumerate(("client", "balancer"), 1):
            offer.send(host, **how)
            crafted.counted(lab, "bridge1", before, **{counter: number})
        assert lab.counters("bridge1").get("opens", 0) == before.get("opens", 0)
        assert offer.told_nothing()


@pytest.mark.once
@pytest.mark.parametrize("field", ["client", "sport", "dport", "seq"])
def test_a_record_in_another_packet_is_forged(lab, field):
    """Who has seen a record cannot use it for anything else."""
    with Offer(lab) as offer, untouched(lab):
        packet = offer.carried()
        if field == "client":
            packet.src = "192.168.33.119"
        else:
            setattr(packet[TCP], field, getattr(packet[TCP], field) + 1)
        before = lab.counters("bridge1")
        crafted.send_ip(lab, "client", packet)
        crafted.counted(lab, "bridge1", before, drop_handoff_forged=1)
        assert offer.told_nothing()


@pytest.mark.once
def test_a_record_for_another_bridge_is_forged(lab):
    with Offer(lab, "backend2") as offer, untouched(lab):
        packet = offer.carried()
        packet.dst = crafted.BRIDGES["backend1"]
        before = lab.counters("bridge1")
        crafted.send_ip(lab, "balancer", packet)
        crafted.counted(lab, "bridge1", before, drop_handoff_forged=1)
        assert offer.told_nothing()


@pytest.mark.once
def test_another_key(lab):
    key = crafted.Key(crafted.lab_key(lab).id, os.urandom(32))
    with Offer(lab, key=key) as offer, untouched(lab):
        before = lab.counters("bridge1")
        offer.send()
        crafted.counted(lab, "bridge1", before, drop_handoff_forged=1)
        assert offer.told_nothing()


@pytest.mark.once
@pytest.mark.parametrize("dscp", [2, 63])
def test_an_index_that_is_not_configured(lab, dscp):
    """An authentic offer gets an answer, a packet without one does not."""
    with Offer(lab) as offer, untouched(lab):
        before = lab.counters("bridge1")
        offer.send(dscp=dscp, index=dscp)
        told = offer.told()
        assert told == Told(REFUSED, offer.record.id, crafted.REASON_SERVICE)
        crafted.counted(lab, "bridge1", before, drop_unknown_index=1, opens_refused=1)
        crafted.send_ip(lab, "client", offer.packet("A", 1, 1, dscp=dscp))
        crafted.counted(lab, "bridge1", before, drop_unknown_index=2, opens_refused=1)


@pytest.mark.once
def test_index_and_vip_of_two_services(own_lab, tmp_path):
    """Both are known, but not together."""
    text = crafted.template("bridge1")
    first = text[text.index("\t{\n"):text.index("\t}\n") + 2]
    second = first.replace('"www"', '"second"').replace(f'"{VIP}"', '"192.168.33.11"') \
        .replace("index = 1", "index = 2")
    crafted.up(own_lab, tmp_path, bridge1=text.replace(first, f"{first},\n{second}"))
    for dscp, index, vip in ((2, 1, VIP), (1, 2, "192.168.33.11"), (1, 1, "192.168.33.11"),
                             (2, 2, VIP)):
        with Offer(own_lab) as offer, untouched(own_lab):
            before = own_lab.counters("bridge1")
            offer.send(dscp=dscp, index=index, vip=(vip, 80))
            crafted.counted(own_lab, "bridge1", before, drop_handoff_field=1)
            assert offer.told_nothing()
    with Offer(own_lab) as offer:
        offer.send(dscp=2, index=2, vip=("192.168.33.11", 80))
        assert offer.told().type == ACCEPTED


def talk(lab, offer):
    """As balancer and client of an accepted offer: send a request, return the packets back."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (offer.tsval + 5, offer.record.ts_b))]
    with crafted.Capture(lab, "client") as capture:
        data = offer.packet("PA", offer.isn_c + 1, offer.record.isn_b + 1,
                            options=options if offer.record.options & TIMESTAMPS else ())
        crafted.send_ip(lab, "balancer", data / crafted.request("/page/crafted"))
        capture.find(lambda p: TCP in p and p[TCP].dport == offer.client[1] and
                     b"backend1" in bytes(p[TCP].payload), "the answer of the web server")
        return [p for p in capture.packets() if TCP in p and p[TCP].dport == offer.client[1]]


@pytest.mark.parametrize("options", [0, SACK | TIMESTAMPS, WSCALE | SACK,
                                     WSCALE | SACK | TIMESTAMPS])
def test_a_correct_offer_is_accepted(lab, options):
    """The picture in handoff.h is right: whoever follows it can hand a connection over."""
    mute = f"chain c {{ type filter hook output priority 0; ip daddr {VIP} tcp flags rst drop; }}"
    with Offer(lab, options=options) as offer, crafted.nft(lab, "client", mute):
        before = lab.counters("bridge1")
        offer.send()
        told = offer.told()
        assert told == Told(ACCEPTED, offer.record.id, wscale=10 if options & WSCALE else 0)
        first, *others = talk(lab, offer)
        for packet in (first, *others):
            assert (packet.src, packet[TCP].sport) == (VIP, 80)
            assert packet[TCP].ack == (offer.isn_c + 1 +
                                       len(crafted.request("/page/crafted"))) & 0xffffffff
            stamps = crafted.tcp_option(packet, "Timestamp")
            assert (stamps is not None) == bool(options & TIMESTAMPS)
            if stamps:
                assert (stamps[0] - offer.record.ts_b) & 0xffffffff < 10000
                assert stamps[1] == offer.tsval + 5
        assert first[TCP].seq == (offer.record.isn_b + 1) & 0xffffffff
        answer = next(bytes(p[TCP].payload) for p in others + [first] if p[TCP].payload)
        assert f"{offer.client[0]}:{offer.client[1]} /page/crafted".encode() in answer

        crafted.send_ip(lab, "balancer", offer.packet("R", offer.isn_c + 1 +
                                                      len(crafted.request("/page/crafted"))))
        wait_until(lambda: not crafted.server_connections(lab, "backend1", offer.client[1]))
        crafted.counted(lab, "bridge1", before, opens=1, spliced=1)


def test_a_repeated_offer_is_answered_again(lab):
    with Offer(lab) as offer, untouched(lab, reached=1):
        before = lab.counters("bridge1")
        offer.send()
        first = offer.told()
        for _ in range(2):
            offer.send()
            assert offer.told() == first == Told(ACCEPTED, offer.record.id, wscale=10)
        crafted.counted(lab, "bridge1", before, opens=1, opens_repeated=2, spliced=1,
                        drop_repeated=2)
        assert crafted.server_connections(lab, "backend1", offer.client[1]) == ["SYN-RECV"]
        offer.send(type=ABORT)
        wait_until(lambda: not crafted.server_connections(lab, "backend1", offer.client[1]))


@pytest.mark.only("kernel")
def test_an_offer_of_which_the_kernel_alone_knows(lab):
    """Its id is forgotten. Nobody is told that it is another one: the connection may live."""
    def forgotten():
        wait_until(lambda: lab.counters("bridge1")["flows_now"] == 0, what="the end of the copy")

    with Offer(lab) as offer, untouched(lab, reached=1):
        before = lab.counters("bridge1")
        offer.send()
        first = offer.told()
        forgotten()
        offer.send()
        assert offer.told() == first == Told(ACCEPTED, offer.record.id, wscale=10)
        crafted.counted(lab, "bridge1", before, opens=1, opens_repeated=1, spliced=1, drop_repeated=1)
        assert crafted.server_connections(lab, "backend1", offer.client[1]) == ["SYN-RECV"]
        forgotten()
        offer.send(type=ABORT)
        wait_until(lambda: not crafted.server_connections(lab, "backend1", offer.client[1]))


def test_abort_resets_the_web_servers_half(lab):
    with Offer(lab) as offer:
        before = lab.counters("bridge1")
        offer.send()
        assert offer.told().type == ACCEPTED
        assert crafted.server_connections(lab, "backend1", offer.client[1]) == ["SYN-RECV"]
        # Another id is another offer, which is none of this one's business.
        offer.send(type=ABORT, id=offer.record.id ^ 1)
        crafted.counted(lab, "bridge1", before, aborts=1)
        assert crafted.server_connections(lab, "backend1", offer.client[1]) == ["SYN-RECV"]
        offer.send(type=ABORT)
        wait_until(lambda: not crafted.server_connections(lab, "backend1", offer.client[1]))
        crafted.counted(lab, "bridge1", before, aborts=2)
        assert offer.told_nothing()


@pytest.mark.once
def test_a_newer_offer_replaces_an_older_one(lab):
    """The same client port with another sequence number: the client began anew."""
    with Offer(lab) as offer:
        before = lab.counters("bridge1")
        offer.send()
        assert offer.told().type == ACCEPTED
        talk(lab, offer)
        assert crafted.server_connections(lab, "backend1", offer.client[1]) == ["ESTAB"]

        offer.isn_c = (offer.isn_c + 0x10000000) & 0xffffffff
        offer.tsval += 10000
        offer.record = dataclasses.replace(offer.record, id=random.getrandbits(64))
        # The web server holds the old connection against the first SYN.
        offer.send()
        crafted.counted(lab, "bridge1", before, opens=2, opens_replaced=1, server_reset_old=1)
        offer.send()
        assert offer.told() == Told(ACCEPTED, offer.record.id, wscale=10)
        crafted.counted(lab, "bridge1", before, spliced=2, opens_repeated=1)
        assert crafted.server_connections(lab, "backend1", offer.client[1]) == ["SYN-RECV"]
        offer.send(type=ABORT)
        wait_until(lambda: not crafted.server_connections(lab, "backend1", offer.client[1]))


def no_web_server(lab):
    crafted.stop_nginx(lab, "backend1")


def silent_web_server(lab):
    lab.exec("backend1", "nft", "-f", "-", input="table inet t { chain c { type filter hook input "
             "priority 0; tcp dport 80 tcp flags syn drop; }\n}\n")


def no_timestamps(lab):
    lab.exec("backend1", "sysctl", "-qw", "net.ipv4.tcp_timestamps=0")


@pytest.mark.once
@pytest.mark.parametrize("spoil, reason", [(no_web_server, crafted.REASON_RESET),
                                           (silent_web_server, crafted.REASON_SILENT),
                                           (no_timestamps, crafted.REASON_OPTIONS)])
def test_refused_says_why(own_lab, spoil, reason):
    own_lab.up()
    spoil(own_lab)
    with Offer(own_lab) as offer:
        offer.send()
        assert offer.told() == Told(REFUSED, offer.record.id, reason)
        wait_until(lambda: not crafted.server_connections(own_lab, "backend1", offer.client[1]))
        assert own_lab.counters("bridge1")["opens_refused"] == 1
        assert offer.told_nothing()


@pytest.mark.only("userspace")
def test_refused_because_the_table_is_full(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path,
               bridge1=crafted.template("bridge1") + "limits = { flows = 2; };\n")
    with Offer(own_lab) as first, Offer(own_lab) as second, Offer(own_lab) as third:
        for offer in (first, second):
            offer.send()
            assert offer.told().type == ACCEPTED
        third.send()
        assert third.told() == Told(REFUSED, third.record.id, crafted.REASON_FULL)
        crafted.counted(own_lab, "bridge1", {}, drop_full=1, spliced=2)
        assert own_lab.log("bridge1").count("limits.flows are spliced") == 1
        first.send(type=ABORT)
        # Its slot is free when nothing of it can come any more.
        wait_until(lambda: own_lab.counters("bridge1")["flows_now"] == 1)
        third.record = dataclasses.replace(third.record, id=random.getrandbits(64))
        third.send()
        assert third.told() == Told(ACCEPTED, third.record.id, wscale=10)


# What is wrong with an answer to the balancer, and who counts it.
WRONG_ANSWERS = {
    "mac": (lambda told, key: flip(-1)(told.encode(key)), "drop_handoff_forged"),
    "wscale": (lambda told, key: flip(17)(told.encode(key)), "drop_handoff_forged"),
    "other_key": (lambda told, key: told.encode(crafted.Key(key.id, bytes(32))),
                  "drop_handoff_forged"),
    "version": (lambda told, key: dataclasses.replace(told, version=2).encode(key),
                "drop_handoff_version"),
    "type": (lambda told, key: dataclasses.replace(told, type=crafted.OPEN).encode(key),
             "drop_handoff_type"),
    "key": (lambda told, key: dataclasses.replace(told, key_id=999).encode(key),
            "drop_handoff_key"),
    "cut": (lambda told, key: told.encode(key)[:-1], "drop_handoff_truncated"),
    "longer": (lambda told, key: told.encode(key) + b"\0", "drop_handoff_truncated"),
    "empty": (lambda told, key: b"", "drop_handoff_truncated"),
    "garbage": (lambda told, key: b"\0" * 36, "drop_handoff_foreign"),
    "reason": (lambda told, key: dataclasses.replace(told, reason=6).encode(key),
               "drop_handoff_field"),
    "late": (lambda told, key: dataclasses.replace(told, id=told.id ^ 1 << 63).encode(key),
             "answers_late"),
}


def send_answer(lab, host, source, data):
    crafted.send_ip(lab, host, IP(src=source, dst=VIP) /
                    UDP(sport=40000, dport=crafted.ANSWER_PORT) / data)


@pytest.mark.parametrize("kind", [ACCEPTED, REFUSED])
def test_wrong_answers_change_nothing(lab, kind):
    """They come for a connection that is being offered, and name it correctly."""
    key = crafted.lab_key(lab)
    bridge = crafted.BRIDGES["backend1"]
    path = crafted.path_of(lab, "backend1")
    silent = "chain c { type filter hook input priority 0; tcp dport 80 tcp flags syn drop; }"
    before = lab.counters("balancer")
    with crafted.Capture(lab, "balancer") as capture, crafted.connect(lab) as sock, \
            crafted.nft(lab, "backend1", silent):
        sock.sendall(crafted.request(path))
        offer = capture.find(lambda p: crafted.is_syn(p) and p.dst == bridge, "the offer")
        told = Told(kind, crafted.Record.decode(key, offer).id)
        for make, _ in WRONG_ANSWERS.values():
            send_answer(lab, "client", bridge, make(told, key))
        assert crafted.response(sock).backend == "backend2"
    expected = {}
    for _, counter in WRONG_ANSWERS.values():
        expected[counter] = expected.get(counter, 0) + 1
    # One more is not late: whoever says so has the key.
    crafted.counted(lab, "balancer", before, accepted=1, open_silent=1, **expected)


def dropped_answers(lab):
    text = lab.exec("balancer", "nft", "list", "counter", "inet", "l3dsr_balancer",
                    "strangers_answers").stdout
    return int(text.split("packets")[1].split()[0])


@pytest.mark.once
def test_answers_of_strangers_are_dropped_by_the_ruleset(lab):
    key = crafted.lab_key(lab)
    before, packets = lab.counters("balancer"), dropped_answers(lab)
    for source in (crafted.CLIENT, "192.168.33.30", VIP):
        send_answer(lab, "client", source, Told(ACCEPTED, 1).encode(key))
    # From itself it cannot come over a wire, and the kernel drops it earlier (a martian).
    wait_until(lambda: dropped_answers(lab) >= packets + 2)
    send_answer(lab, "client", crafted.BRIDGES["backend1"], Told(ACCEPTED, 1).encode(key))
    crafted.counted(lab, "balancer", before, answers_late=1)
    assert dropped_answers(lab) == packets + 2


# Settings of the client's kernel, and what is negotiated then.
KERNELS = {
    "all": ({}, WSCALE | SACK | TIMESTAMPS),
    "no_timestamps": ({"tcp_timestamps": 0}, WSCALE | SACK),
    "no_sack": ({"tcp_sack": 0}, WSCALE | TIMESTAMPS),
    "no_scaling": ({"tcp_window_scaling": 0}, SACK | TIMESTAMPS),
    "none": ({"tcp_timestamps": 0, "tcp_sack": 0, "tcp_window_scaling": 0}, 0),
}


@pytest.fixture(scope="module", params=[("snoop", "socket"), ("socket", "snoop")],
                ids=["snoop", "socket"])
def handshake_lab(request, tmp_path_factory):
    """A lab for each source of the handshake, and the source: the other one is never used."""
    source, other = request.param
    text = f'handshake = "{source}";\n' + crafted.template("balancer")
    with crafted.running(tmp_path_factory.mktemp("lab"), balancer=text) as lab:
        yield lab, source
        counters = lab.counters("balancer")
    assert f"handshake_by_{other}" not in counters


def captured_handover(lab):
    """SYN, SYN-ACK, request and OPEN of one connection."""
    with crafted.Capture(lab, "balancer") as capture:
        answer = crafted.fetch(lab, "/page/captured")
        port = int(answer.local.split(":")[1])
        packets = [p for p in capture.packets() if TCP in p and port in (p[TCP].sport,
                                                                        p[TCP].dport)]
    assert answer.status == 200
    syn, = [p for p in packets if crafted.is_syn(p) and p.dst == VIP]
    syn_ack, = [p for p in packets if crafted.is_syn_ack(p)]
    data = next(p for p in packets if p.dst == VIP and p[TCP].payload and p.tos == 0)
    offer = next(p for p in packets if crafted.is_syn(p) and p.dst != VIP)
    assert offer.dst == crafted.BRIDGES[answer.backend]
    return syn, syn_ack, data, offer


@pytest.mark.once
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cookies", [False, True], ids=["", "cookies"])
def test_the_offer_says_what_the_handshake_said(handshake_lab, kernel, cookies):
    settings, options = KERNELS[kernel]
    if cookies and not options & TIMESTAMPS:
        options = 0  # a cookie has room for the options in the timestamp only
    lab, source = handshake_lab
    with crafted.sysctls(lab, "client", **settings), \
            crafted.sysctls(lab, "balancer", tcp_syncookies=2 if cookies else 1):
        syn, syn_ack, data, offer = captured_handover(lab)
    record = crafted.Record.decode(crafted.lab_key(lab), offer)

    assert record.type == crafted.OPEN
    assert record.options == options
    assert record.isn_b == syn_ack[TCP].seq
    assert record.mss == crafted.tcp_option(syn_ack, "MSS")
    assert record.wscale == (crafted.tcp_option(syn_ack, "WScale") if options & WSCALE else 0)
    assert (record.vip, record.index) == ((VIP, 80), 1)
    assert record.answer == (VIP, crafted.ANSWER_PORT)
    if options & TIMESTAMPS:
        assert record.ts_b == crafted.tcp_option(syn_ack, "Timestamp")[0]

    assert (offer.src, offer.tos) == (syn.src, 1 << 2)
    assert offer[TCP].sport == syn[TCP].sport
    assert offer[TCP].dport == 80
    assert offer[TCP].seq == syn[TCP].seq
    assert int(offer[TCP].flags) == 0x02
    assert bool(crafted.tcp_option(offer, "SAckOK")) == bool(options & SACK)
    assert crafted.tcp_option(offer, "WScale") == (crafted.tcp_option(syn, "WScale")
                                                   if options & WSCALE else None)
    assert crafted.tcp_option(offer, "Timestamp") == (
        (crafted.tcp_option(data, "Timestamp")[0], 0) if options & TIMESTAMPS else None)
    # A cookie keeps neither exactly, and the socket knows nothing else.
    if not cookies or source == "snoop":
        assert crafted.tcp_option(offer, "MSS") == crafted.tcp_option(syn, "MSS")
        assert offer[TCP].window == syn[TCP].window
    else:
        assert 536 <= crafted.tcp_option(offer, "MSS") <= crafted.tcp_option(syn, "MSS")
