# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets of somebody who wants to break, end, redirect or open connections, and cannot see them.

Who can see the packets of a connection can end it, as with any TCP. What is shown here is that
nobody else can, that nothing crashes, and who counts what was tried: the daemon, the rules that
stand before it, or the kernel, which drops some of it before any rule.
"""

import os
import random
import re
import socket
import struct
import subprocess

import pytest
from scapy.layers.inet import TCP, UDP

import crafted
import raw
from conftest import VIP, Lab, sha256_of, wait_until
from crafted import ANSWER_PORT, BRIDGES
from support import ACK, FIN, PSH, RST, SYN, paused

BRIDGE = BRIDGES["backend1"]
SERVER = "192.168.33.30"
NOBODY = "192.168.33.250"  # an address that nobody has
TOOLS = {"balancer": "l3dsr_balancer", "backend1": "l3dsr_bridge"}
DAEMON_OF = {"balancer": "balancer", "backend1": "bridge1"}
FLOOD = 3000
VARIANTS = 200


def mostly_once(names, both):
    """What goes to the daemon in either data plane is shown by a few of them in the second one."""
    return [pytest.param(name, marks=() if name in both else pytest.mark.once) for name in names]


@pytest.fixture(scope="module")
def own_lab(data_plane):
    """A lab for this module, because much of what is sent is remembered for a minute."""
    lab = Lab()
    lab.up()
    # What answers to an address that nobody has must not wait for it.
    for host in ("balancer", "backend1", "backend2"):
        lab.exec(host, "ip", "neighbour", "add", NOBODY, "lladdr", "02:00:00:00:00:fa", "dev",
                 "eth0", "nud", "permanent")
    yield lab
    for name in ("balancer", "bridge1", "bridge2"):
        assert_all_answered(lab, name)
    lab.finish()


def assert_all_answered(lab, name):
    """Every packet has got its verdict, and none was lost before it could get one."""
    def answered():
        now = lab.counters(name)
        return now.get("packets", 0) == now.get("verdicts", 0)

    wait_until(answered, what=f"a verdict for each packet of {name}")
    now = lab.counters(name)
    for lost in ("queue_overruns", "verdicts_lost", "queue_dropped_full",
                 "queue_dropped_undelivered"):
        assert now.get(lost, 0) == 0, lost


def changes(before, after):
    """The counters that have changed, and by how much."""
    return {name: value - before.get(name, 0) for name, value in after.items()
            if value != before.get(name, 0)}


# Kinds of packets. Each is a function of the port it comes from; `to` is the address, and what is
# sent to a bridge has the index.

def segment(to, port, dscp, ip=None, **fields):
    fields = {"seq": random.getrandbits(32), "ack": random.getrandbits(32), **fields}
    return raw.ipv4(raw.tcp(source=NOBODY, destination=to, sport=port, **fields), NOBODY, to,
                    dscp=dscp, **(ip or {}))


def cut(length):
    """A TCP header that ends too early; the IP header says so as well."""
    def build(to, port, dscp):
        header = raw.tcp(source=NOBODY, destination=to, sport=port)[:length]
        return raw.ipv4(header, NOBODY, to, dscp=dscp)
    return build


def kind(**fields):
    return lambda to, port, dscp: segment(to, port, dscp, **fields)


def fragment(field, **fields):
    return kind(ip={"fragment": field, "ident": 77}, payload=bytes(1400), **fields)


def overlapping(to, port, dscp):
    """One that begins inside the TCP header."""
    return segment(to, port, dscp, ip={"fragment": 1, "ident": 77}, payload=bytes(64))


OPTIONS = {
    "zero": b"\x08\x00\x01\x01",
    "one": b"\x08\x01\x01\x01",
    "long": b"\x08\xff\x01\x01",
    "beyond": b"\x01\x01\x01\x08",
    "mss_beyond": b"\x01\x02\x04\x05",
    "sack_odd": b"\x05\x09" + bytes(10),
    "full": b"\x08\x28" + bytes(38),
}
HEADER_ERROR = {"IpInHdrErrors": FLOOD}
ALL = FLOOD

# Who counts it: on the way to the service the balancer, on the way to the bridge the bridge; and
# in both cases rules or kernel of that host.
KINDS = {
    # The kernel looks at these before any rule does.
    "version_5": (kind(ip={"version": 5}), {}, {}, HEADER_ERROR),
    "ihl_0": (kind(ip={"words": 0}), {}, {}, HEADER_ERROR),
    "ihl_4": (kind(ip={"words": 4}), {}, {}, HEADER_ERROR),
    "ihl_beyond": (kind(ip={"words": 15}), {}, {}, HEADER_ERROR),
    "ip_checksum": (kind(ip={"check": 0x1234}), {}, {},
                    {"IpExtInCsumErrors": ALL, "IpInHdrErrors": ALL}),
    "length_19": (kind(ip={"length": 19}), {}, {}, HEADER_ERROR),
    "length_beyond": (kind(ip={"length": 1000}), {}, {}, {"IpExtInTruncatedPkts": ALL}),
    # So short that it has no port.
    "tcp_0": (cut(0), {}, {}, {"truncated": ALL}),
    "tcp_3": (cut(3), {}, {}, {"truncated": ALL}),
    "tcp_8": (cut(8), {"drop_truncated": ALL}, {"drop_truncated": ALL}, {}),
    "tcp_19": (cut(19), {"drop_truncated": ALL}, {"drop_truncated": ALL}, {}),
    "offset_0": (kind(words=0), {"drop_bad_tcp": ALL}, {"drop_bad_tcp": ALL}, {}),
    "offset_4": (kind(words=4), {"drop_bad_tcp": ALL}, {"drop_bad_tcp": ALL}, {}),
    "offset_beyond": (kind(words=15), {"drop_bad_tcp": ALL}, {"drop_bad_tcp": ALL}, {}),
    "first_fragment": (fragment(0x2000), {}, {}, {"fragments": ALL}),
    "later_fragment": (fragment(0x20b0), {}, {}, {"fragments": ALL}),
    "last_fragment": (fragment(0x00b0), {}, {}, {"fragments": ALL}),
    "last_possible_fragment": (fragment(0x1fff), {}, {}, {"fragments": ALL}),
    "overlapping_fragment": (overlapping, {}, {}, {"fragments": ALL}),
    # Data of a connection that never began. The balancer gives the kernel its acknowledgement,
    # which answers with a reset; the bridge resets.
    "checksum": (kind(flags=ACK, payload=b"x" * 99, check=0x1234), {"drop_checksum": ALL},
                 {"drop_checksum": ALL}, {}),
    "data": (kind(flags=ACK | PSH, payload=b"GET / HTTP/1.0\r\n\r\n"),
             {"handshake_unknown": ALL}, {"unknown_reset": ALL}, {}),
    "data_without_ack": (kind(flags=PSH, payload=b"GET / HTTP/1.0\r\n\r\n"),
                         {"handshake_unknown": ALL}, {"unknown_reset": ALL}, {}),
    "ack": (kind(flags=ACK), {"empty_unknown": ALL}, {"unknown_reset": ALL}, {}),
    "fin": (kind(flags=FIN | ACK), {"empty_unknown": ALL}, {"unknown_reset": ALL}, {}),
    "rst": (kind(flags=RST), {"empty_unknown": ALL}, {"drop_unknown": ALL}, {}),
    "rst_data": (kind(flags=RST | ACK, payload=b"x" * 99), {"empty_unknown": ALL}, {"drop_unknown": ALL}, {}),
    "no_flags": (kind(flags=0), {"empty_unknown": ALL}, {"unknown_reset": ALL}, {}),
    "all_flags": (kind(flags=0xff), {"empty_unknown": ALL}, {"drop_unknown": ALL}, {}),
    "syn_ack": (kind(flags=SYN | ACK), {"empty_unknown": ALL}, {"drop_no_record": ALL}, {}),
    # No begin of a connection to us; what the kernel makes of it is its own affair.
    "syn_rst": (kind(flags=SYN | RST), {"empty_unknown": ALL}, {"drop_unknown": ALL}, {}),
    "syn_fin": (kind(flags=SYN | FIN), {"empty_unknown": ALL}, {"drop_no_record": ALL}, {}),
    "syn": (kind(flags=SYN, ack=0), {"handshakes": VARIANTS}, {"drop_no_record": ALL}, {}),
    "syn_data": (kind(flags=SYN, ack=0, payload=b"GET / HTTP/1.0\r\n\r\n"),
                 {"handshakes": VARIANTS}, {"drop_handoff_foreign": ALL}, {}),
    "syn_much": (kind(flags=SYN, ack=0, payload=bytes(1400)),
                 {"handshakes": VARIANTS}, {"drop_handoff_foreign": ALL}, {}),
    **{f"syn_option_{name}": (kind(flags=SYN, ack=0, options=options),
                              {"handshakes": VARIANTS}, {"drop_no_record": ALL}, {})
       for name, options in OPTIONS.items()},
    **{f"data_option_{name}": (kind(flags=ACK, options=options, payload=b"GET / HTTP/1.0\r\n\r\n"),
                               {"handshake_unknown": ALL}, {"unknown_reset": ALL}, {})
       for name, options in OPTIONS.items()},
}


class Witness:
    """A download and an idle connection through the way that is attacked."""

    def __init__(self, lab):
        self.lab = lab
        self.path = crafted.path_of(lab, "backend1")
        self.idle = crafted.connect(lab)
        assert crafted.ask(self.idle, self.path).backend == "backend1"
        script = f"curl -sS --fail --max-time 60 --limit-rate 4M http://{VIP}/files/1M.bin |" \
                 "sha256sum"
        self.download = lab.popen("client", "bash", "-o", "pipefail", "-c", script,
                                  stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.idle.close()
        output, _ = self.download.communicate()
        if kind is None:
            assert output.split()[0] == sha256_of("1M.bin")

    def well(self):
        """Nothing has happened to the idle connection, and new ones are served."""
        answer = crafted.ask(self.idle, self.path)
        assert (answer.status, answer.backend) == (200, "backend1")
        assert crafted.fetch(self.lab, self.path).status == 200


def rule_counters(lab, host):
    """The named counters in the table of a daemon."""
    text = lab.exec(host, "nft", "list", "counters", "table", "inet", TOOLS[host]).stdout
    return {name: int(count) for name, count in
            re.findall(r"counter (\S+) {\s*packets (\d+)", text)}


def flood(lab, host, packets, count=FLOOD):
    with raw.RawSender(lab, host) as sender:
        for _ in range(count // len(packets)):
            sender.send(*packets)


@pytest.mark.quiet
@pytest.mark.parametrize("name", mostly_once(KINDS, {"tcp_19", "checksum", "data", "ack", "rst",
                                                     "syn_fin", "syn", "syn_option_zero"}))
@pytest.mark.parametrize("host", ["balancer", "backend1"])
def test_a_flood(own_lab, host, name):
    build, balancer, bridge, elsewhere = KINDS[name]
    if os.environ["L3DSR_DATA_PLANE"] == "kernel" and "handshakes" in balancer:
        # The kernel makes handshakes without the daemon.
        balancer, elsewhere = {}, {"handshakes": ALL} if host == "balancer" else {}
    expected = balancer if host == "balancer" else bridge
    assert expected or elsewhere
    to, dscp = (VIP, 0) if host == "balancer" else (BRIDGE, 1)
    chance = random.Random(name)
    # Those from 10000 on are of connections that the lab makes.
    packets = [build(to, port, dscp) for port in chance.sample(range(1024, 10000), VARIANTS)]
    with Witness(own_lab) as witness:
        daemon = own_lab.counters(DAEMON_OF[host])
        rules = rule_counters(own_lab, host)
        kernel = raw.kernel_counters(own_lab, host)
        log = own_lab.web_log("backend1").count(NOBODY) + own_lab.web_log("backend2").count(NOBODY)
        flood(own_lab, host, packets)
        witness.well()
        seen = {}

        def counted():
            seen.update(changes(daemon, own_lab.counters(DAEMON_OF[host])))
            return all(seen.get(key, 0) >= value for key, value in expected.items())

        wait_until(counted, what=f"{expected}")
        for key, value in expected.items():
            # The two connections of the witness are handshakes as well.
            assert seen[key] <= value + 2 * (key == "handshakes")
        # Nothing else has dropped or answered anything. The witness's offers may have waited, and its
        # requests behind the flood until its kernel repeated them.
        assert {key for key in seen if key.startswith(("drop_", "unknown", "opens"))} <= \
            set(expected) | {"drop_swallowed", "opens", "drop_silenced", "opens_repeated",
                             "drop_repeated", "drop_held_duplicate"}
        for key, value in elsewhere.items():
            found = changes(rules, rule_counters(own_lab, host)) if key in rules else \
                changes(kernel, raw.kernel_counters(own_lab, host))
            assert found[key] >= value
        assert own_lab.web_log("backend1").count(NOBODY) + \
            own_lab.web_log("backend2").count(NOBODY) == log
    assert_all_answered(own_lab, DAEMON_OF[host])


@pytest.mark.once
@pytest.mark.parametrize("name", ["syn", "ack", "rst", "data"])
def test_a_flood_without_index(own_lab, name):
    """To the bridge's address, but not from a balancer: none of its business, and the kernel's alone."""
    packets = [KINDS[name][0](BRIDGE, port, 0) for port in range(1024, 1024 + VARIANTS)]
    with Witness(own_lab) as witness:
        daemon = own_lab.counters("bridge1")
        kernel = raw.kernel_counters(own_lab, "backend1")
        flood(own_lab, "backend1", packets)
        witness.well()
        wait_until(lambda: changes(kernel, raw.kernel_counters(own_lab, "backend1"))
                   .get("TcpInSegs", 0) >= FLOOD, what="the packets at the kernel's TCP")
        seen = changes(daemon, own_lab.counters("bridge1"))
        assert seen.get("packets", 0) < FLOOD / 2
        assert "unknown_reset" not in seen and "drop_unknown" not in seen


# Handoff messages

def datagram(data, length=None, check=0):
    """To where the balancer listens for answers; a checksum of 0 is none."""
    return struct.pack("!HHHH", random.randrange(1024, 65536), ANSWER_PORT,
                       8 + len(data) if length is None else length, check) + data


def answers(lab, message):
    """As from the bridge."""
    source, data = message(lab)
    return raw.ipv4(datagram(data), source, VIP, socket.IPPROTO_UDP)


def told(kind, source=BRIDGE, key=None):
    def message(lab):
        wrong = crafted.Key(crafted.lab_key(lab).id, bytes(32))
        return source, crafted.Told(kind, random.getrandbits(64)).encode(key or wrong)
    return message


ANSWERS = {
    **{f"forged_{kind}": (told(kind), "drop_handoff_forged") for kind in (3, 4)},
    "open": (told(crafted.OPEN), "drop_handoff_type"),
    "empty": (lambda lab: (BRIDGE, b""), "drop_handoff_truncated"),
    "short": (lambda lab: (BRIDGE, b"l3\1"), "drop_handoff_truncated"),
    "garbage": (lambda lab: (BRIDGE, bytes(36)), "drop_handoff_foreign"),
    "long": (lambda lab: (BRIDGE, bytes(1400)), "drop_handoff_foreign"),
    "stranger": (told(3, source=NOBODY), "strangers_answers"),
}


@pytest.mark.parametrize("name", mostly_once(ANSWERS, {"forged_3", "short"}))
def test_a_flood_of_answers(own_lab, name):
    message, counter = ANSWERS[name]
    packets = [answers(own_lab, message) for _ in range(VARIANTS)]
    with Witness(own_lab) as witness:
        daemon, rules = own_lab.counters("balancer"), rule_counters(own_lab, "balancer")
        kernel = raw.kernel_counters(own_lab, "balancer")
        flood(own_lab, "balancer", packets)
        witness.well()

        def counted():
            seen = changes(daemon, own_lab.counters("balancer"))
            seen.update(changes(rules, rule_counters(own_lab, "balancer")))
            # What does not fit into the socket's buffer is counted by the kernel.
            missed = changes(kernel, raw.kernel_counters(own_lab, "balancer"))
            return seen.get(counter, 0) + missed.get("UdpRcvbufErrors", 0) == FLOOD

        wait_until(counted, what=f"{FLOOD} counted as {counter}")
    assert_all_answered(own_lab, "balancer")


# What is no datagram for the kernel, and where it counts that.
DATAGRAMS = {
    "header_of_4": (datagram(b"")[:4], {}, "UdpInErrors"),
    "length_of_7": (datagram(bytes(36), length=7), {}, "UdpInErrors"),
    "length_beyond": (datagram(bytes(36), length=1000), {}, "UdpInErrors"),
    "checksum": (datagram(bytes(36), check=0x1234), {}, "UdpInCsumErrors"),
    "first_fragment": (datagram(bytes(36)), {"fragment": 0x2000}, "IpReasmReqds"),
    "last_fragment": (bytes(36), {"fragment": 1}, "IpReasmReqds"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", DATAGRAMS)
def test_a_flood_of_what_is_no_answer(own_lab, name):
    """None of it comes to the daemon."""
    payload, fields, counter = DATAGRAMS[name]
    packets = [raw.ipv4(payload, BRIDGE, VIP, socket.IPPROTO_UDP, ident=ident, **fields)
               for ident in range(VARIANTS)]
    with Witness(own_lab) as witness:
        daemon = own_lab.counters("balancer")
        kernel = raw.kernel_counters(own_lab, "balancer")
        flood(own_lab, "balancer", packets)
        witness.well()
        wait_until(lambda: changes(kernel, raw.kernel_counters(own_lab, "balancer"))
                   .get(counter, 0) >= FLOOD, what=f"{FLOOD} counted as {counter}")
        assert not [name for name in changes(daemon, own_lab.counters("balancer"))
                    if name.startswith(("drop_handoff", "answers_late"))]


def fields_of(kind):
    return {"type": kind, "change": lambda data: data[:-1] + bytes([data[-1] ^ 1])}


@pytest.mark.once
@pytest.mark.parametrize("kind", [1, 2])
def test_a_flood_of_forged_records(own_lab, kind):
    with crafted.Offer(own_lab) as offer, Witness(own_lab) as witness:
        before = own_lab.counters("bridge1")
        flood(own_lab, "backend1", [bytes(offer.carried(**fields_of(kind)))])
        witness.well()
        wait_until(lambda: changes(before, own_lab.counters("bridge1")).get("drop_handoff_forged")
                   == FLOOD)
        assert offer.told_nothing()


def answered_late(lab, before):
    """How many answers came too late; what did not fit into the socket's buffer is the kernel's."""
    daemon, kernel = before
    return changes(daemon, lab.counters("balancer")).get("answers_late", 0) + \
        changes(kernel, raw.kernel_counters(lab, "balancer")).get("UdpRcvbufErrors", 0)


def test_replayed_messages(own_lab):
    """Of a connection that lives: who has seen its handoff can do nothing with that.

    Nor can a bridge that takes back what it has said.
    """
    path = crafted.path_of(own_lab, "backend1")
    key = crafted.lab_key(own_lab)
    with crafted.Capture(own_lab, "balancer") as capture, crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, path).status == 200
        port = sock.getsockname()[1]
        record = capture.find(lambda p: TCP in p and p[TCP].sport == port and p.dst == BRIDGE and
                              crafted.is_syn(p))
        accepted = capture.find(lambda p: UDP in p and p.src == BRIDGE)
        refused = crafted.Told(crafted.REFUSED, crafted.Record.decode(key, record).id,
                               crafted.REASON_FULL).encode(key)
        for _ in range(2):
            before = own_lab.counters("bridge1")
            flood(own_lab, "backend1", [bytes(record)])
            wait_until(lambda: changes(before, own_lab.counters("bridge1"))
                       .get("opens_repeated") == FLOOD)
            assert changes(before, own_lab.counters("bridge1")).get("opens", 0) == 0
            assert_all_answered(own_lab, "balancer")
            assert crafted.ask(sock, path).backend == "backend1"
            if os.environ["L3DSR_DATA_PLANE"] == "kernel":
                wait_until(lambda: own_lab.counters("bridge1")["flows_now"] == 0,
                           what="nothing but what the kernel knows")
        # Not the packet itself: on a virtual interface its checksum was never finished.
        for data in bytes(accepted[UDP].payload), refused:
            answer = raw.ipv4(datagram(data), BRIDGE, VIP, socket.IPPROTO_UDP)
            before = own_lab.counters("balancer"), raw.kernel_counters(own_lab, "balancer")
            flood(own_lab, "balancer", [answer])
            wait_until(lambda: answered_late(own_lab, before) >= FLOOD, what="late answers")
            assert not [name for name in changes(before[0], own_lab.counters("balancer"))
                        if name.startswith(("open_", "abort_"))]
            assert crafted.ask(sock, path).backend == "backend1"


def test_replayed_abort(own_lab):
    """Of an offer that was given up, when its client has another connection from the same port."""
    path = crafted.path_of(own_lab, "backend1")
    with crafted.Capture(own_lab, "balancer") as capture:
        with crafted.connect(own_lab) as sock:
            source = sock.getsockname()
            with paused(own_lab.pid("bridge1")):
                assert crafted.ask(sock, path).backend == "backend2"
            crafted.reset_close(sock)
        abort = capture.find(lambda p: crafted.is_syn(p) and p[TCP].sport == source[1] and
                             p.dst == BRIDGE and bytes(p[TCP].payload)[3] == crafted.ABORT)
    wait_until(lambda: not crafted.server_connections(own_lab, "backend2", source[1]))
    with crafted.connect(own_lab, source=source) as sock:
        assert crafted.ask(sock, path).backend == "backend1"
        before = own_lab.counters("bridge1")
        flood(own_lab, "backend1", [bytes(abort)])
        wait_until(lambda: changes(before, own_lab.counters("bridge1")).get("aborts") == FLOOD,
                   what=f"{FLOOD} aborts")
        for _ in range(3):
            assert crafted.ask(sock, path).backend == "backend1"


# Blind attacks on one connection whose addresses and ports are known, but not its numbers.

BLIND = {
    "rst": {"flags": RST},
    "rst_ack": {"flags": RST | ACK},
    "fin": {"flags": FIN | ACK},
    "syn": {"flags": SYN, "ack": 0},
    "syn_data": {"flags": SYN, "ack": 0, "payload": b"GET /evil HTTP/1.0\r\n\r\n"},
    "syn_rst": {"flags": SYN | RST},
    "syn_ack": {"flags": SYN | ACK},
    "data": {"flags": ACK | PSH, "payload": b"GET /evil HTTP/1.0\r\n\r\n"},
    "ack": {"flags": ACK},
    "no_flags": {"flags": 0},
}


def blind(source, to, fields, count=100):
    """That many guesses, spread so that none is within 64 KiB of the connection's own numbers.

    `fields` has the numbers that must be missed.
    """
    address, port = source
    near, packets = fields.pop("near"), []
    while len(packets) < count:
        seq, ack = random.getrandbits(32), random.getrandbits(32)
        if min((seq - near) % 2**32, (near - seq) % 2**32) < 1 << 26:
            continue
        numbers = {"seq": seq, "ack": ack, **fields}
        packets.append(raw.ipv4(raw.tcp(source=address, destination=to, sport=port, **numbers),
                                address, to, dscp=0 if to in (VIP, SERVER) else 1))
    return packets


@pytest.mark.parametrize("name", mostly_once(BLIND, {"rst", "fin", "syn", "data"}))
@pytest.mark.parametrize("to", [VIP, BRIDGE, SERVER])
def test_blind_packets_on_a_steered_connection(own_lab, to, name):
    """To the service, to the bridge, and past both to the web server's own address."""
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as sock, crafted.Capture(own_lab, "client") as capture:
        assert crafted.ask(sock, path).status == 200
        near = next(p for p in reversed(capture.packets())
                    if TCP in p and p[TCP].sport == sock.getsockname()[1])[TCP].seq
        packets = blind(sock.getsockname(), to, {**BLIND[name], "near": near})
        with raw.RawSender(own_lab, "balancer" if to == VIP else "backend1") as sender:
            for packet in packets:
                sender.send(packet)
        for _ in range(3):
            assert crafted.ask(sock, path).backend == "backend1"
    assert "/evil" not in own_lab.web_log("backend1") + own_lab.web_log("backend2")


@pytest.mark.parametrize("name", mostly_once(BLIND, {"rst", "data"}))
@pytest.mark.parametrize("sent, counter", [(0, "sockets_now"), (20, "requests_now")])
def test_blind_packets_before_a_handover(own_lab, sent, counter, name):
    """While nothing of a request has come, and while its first half is held."""
    path = crafted.path_of(own_lab, "backend1")
    text = crafted.request(path)
    wait_until(lambda: own_lab.counters("balancer")[counter] == 0)
    with crafted.Capture(own_lab, "client") as capture, crafted.connect(own_lab) as sock:
        port = sock.getsockname()[1]
        sock.sendall(text[:sent])
        wait_until(lambda: own_lab.counters("balancer")[counter] == 1)
        near = next(p for p in reversed(capture.packets())
                    if TCP in p and p[TCP].sport == port)[TCP].seq
        packets = blind(sock.getsockname(), VIP, {**BLIND[name], "near": near})
        with raw.RawSender(own_lab, "balancer") as sender:
            sender.send(*packets)
        assert own_lab.counters("balancer")[counter] == 1
        sock.sendall(text[sent:])
        assert crafted.response(sock).backend == "backend1"
        assert crafted.ask(sock, path).backend == "backend1"
    assert "/evil" not in own_lab.web_log("backend1") + own_lab.web_log("backend2")


def test_nobody_opens_a_connection_blindly(own_lab):
    """A SYN, and then the request with a guessed acknowledgement: the web servers see nothing."""
    servers = {name: own_lab.counters(name).get("opens", 0) for name in ("bridge1", "bridge2")}
    evil = b"GET /evil HTTP/1.1\r\nHost: www\r\n\r\n"
    with raw.RawSender(own_lab, "balancer") as sender:
        for port in range(2000, 2500):
            isn = random.getrandbits(32)
            sender.send(segment(VIP, port, 0, flags=SYN, seq=isn, ack=0),
                        segment(VIP, port, 0, flags=ACK, seq=isn + 1),
                        segment(VIP, port, 0, flags=ACK | PSH, seq=isn + 1, payload=evil))
    assert_all_answered(own_lab, "balancer")
    assert servers == {name: own_lab.counters(name).get("opens", 0)
                       for name in ("bridge1", "bridge2")}
    assert "/evil" not in own_lab.web_log("backend1") + own_lab.web_log("backend2")
    assert crafted.fetch(own_lab, "/page/1").status == 200
