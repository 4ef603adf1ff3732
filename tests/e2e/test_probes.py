# SPDX-License-Identifier: GPL-2.0-or-later
"""PROBEs made by hand: what a bridge answers, to whom, how often, and what it does not."""

import contextlib
import dataclasses
import itertools
import random
import socket
import struct
import time

import pytest
from scapy.layers.inet import IP, TCP

import crafted
from conftest import VIP, wait_until
from crafted import Key, Record, inside, lab_key, send_ip

pytestmark = pytest.mark.once

PROBE, STATUS = 5, 6
UP, REFUSED, SERVICE, KEY_UNKNOWN, VERSION_UNKNOWN = 1, 2, 7, 8, 9
LAYOUT = struct.Struct(">HBBHH QBBBBHHI")
BRIDGE = crafted.BRIDGES["backend1"]


@dataclasses.dataclass
class Status:
    id: int
    state: int
    dscp: int
    wscale: int
    http: int
    live: int
    authentic: bool
    version: int


class Asker:
    """In place of a balancer; to be used in a `with` statement."""

    ports = itertools.count(20000)

    def __init__(self, lab, key=None):
        self.lab = lab
        self.key = key or lab_key(lab)
        with inside(lab, "balancer"):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((VIP, 0))
        # The ruleset lets nobody else in there, and has no say about this port.
        self.record = Record(id=0, isn_b=0, ts_b=0, answer=self.socket.getsockname(), type=PROBE,
                             options=0, mss=0, wscale=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def packet(self, dscp=1, source=VIP, options=(), **fields):
        record = dataclasses.replace(self.record, id=random.getrandbits(64), **fields)
        syn = (IP(src=source, dst=BRIDGE, tos=dscp << 2) /
               TCP(sport=next(self.ports), dport=record.vip[1], flags="S",
                   seq=random.getrandbits(32), options=list(options)))
        return record.id, syn / record.encode(self.key, syn)

    def send(self, **options):
        number, packet = self.packet(**options)
        send_ip(self.lab, "balancer", packet)
        return number

    def receive(self, timeout=2):
        """The next STATUS, or None."""
        self.socket.settimeout(timeout)
        try:
            data, source = self.socket.recvfrom(1500)
        except TimeoutError:
            return None
        assert source[0] == BRIDGE and len(data) == 44
        magic, version, kind, _, length, number, state, dscp, wscale, zero, http, zeros, live = \
            LAYOUT.unpack(data[:28])
        assert (magic, kind, length, zero, zeros) == (crafted.MAGIC, STATUS, 44, 0, 0)
        return Status(number, state, dscp, wscale, http, live,
                      data[28:] == lab_key(self.lab).mac(data[:28]), version)

    def ask(self, **options):
        number = self.send(**options)
        status = self.receive()
        assert status and status.id == number
        return status


def test_status(lab):
    """All of it, and that one question makes one check."""
    with Asker(lab) as asker:
        before = lab.counters("bridge1")
        status = asker.ask()
        assert (status.state, status.dscp, status.http, status.authentic) == (UP, 1, 0, True)
        assert status.wscale == 10
        crafted.counted(lab, "bridge1", before, probes=1, checks=1)


def test_dscp(lab):
    """The code point is not under the MAC: it is told as it came. So is that of another index."""
    with Asker(lab) as asker:
        for dscp in (0, 1, 2, 46, 63):
            status = asker.ask(dscp=dscp)
            assert (status.state, status.dscp) == (UP, dscp)


def test_unknown_service(lab):
    with Asker(lab) as asker:
        for fields in ({"index": 2}, {"vip": ("192.168.33.99", 80)}, {"vip": (VIP, 8080)}):
            for dscp in (0, 1, 2):
                status = asker.ask(dscp=dscp, **fields)
                assert (status.state, status.authentic) == (SERVICE, True)


def test_live_connections(own_lab):
    """Those that are open, once each; not those that are over."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with Asker(own_lab) as asker:
        def live():
            return asker.ask().live

        wait_until(lambda: live() == 0, 10, "the end of what was before")
        with contextlib.ExitStack() as stack:
            for count in range(1, 11):
                sock = stack.enter_context(crafted.connect(own_lab))
                assert crafted.ask(sock, path).backend == "backend1"
                assert live() == count
            # They are still the same when the kernel's were counted anew.
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                assert live() == 10
        wait_until(lambda: live() == 0, 10, "the end of all")


def test_many_ask_at_once(lab):
    """A hundred balancers: each gets an answer, and the web server hardly notices."""
    with contextlib.ExitStack() as stack:
        askers = [stack.enter_context(Asker(lab)) for _ in range(100)]
        before = lab.counters("bridge1")
        numbers = [asker.send() for asker in askers]
        for asker, number in zip(askers, numbers):
            status = asker.receive()
            assert status.id == number and status.state == UP
        after = lab.counters("bridge1")
    assert after["probes"] - before.get("probes", 0) == 100
    assert after["checks"] - before.get("checks", 0) <= 20
    assert "probes_lost" not in after


@pytest.mark.parametrize("number, counter", [(0, "drop_handoff_forged"), (9, "drop_handoff_key")])
def test_another_key(own_lab, number, counter):
    """It is explained, a few times a second, by an answer that is not longer than the question."""
    own_lab.up()
    key = lab_key(own_lab)
    with Asker(own_lab, Key(key.id + number, bytes(32))) as asker:
        before = own_lab.counters("bridge1")
        begin = time.monotonic()
        status = asker.ask()
        assert (status.state, status.authentic) == (KEY_UNKNOWN, True)
        for _ in range(200):
            asker.send()
        wait_until(lambda: own_lab.counters("bridge1").get(counter, 0) -
                   before.get(counter, 0) == 201, what="all of them")
        seconds = time.monotonic() - begin
        answers = 0
        while asker.receive(0.2):
            answers += 1
        # Those of the first and the last second are not whole ones.
        assert 1 <= answers <= 8 * (seconds + 2) < 100
        after = own_lab.counters("bridge1")
        assert after["probes_explained"] == answers + 1
        assert "probes" not in after and "checks" not in after


def test_another_version(lab):
    with Asker(lab) as asker:
        status = asker.ask(version=2)
        assert (status.state, status.version) == (VERSION_UNKNOWN, 1)


def test_nobody_else_is_told(own_lab):
    """What is not believed is answered to where it came from, whatever it says itself."""
    own_lab.up()
    with Asker(own_lab, Key(1, bytes(32))) as asker, Asker(own_lab) as victim:
        asker.send(source="192.168.33.1", answer=victim.socket.getsockname())
        wait_until(lambda: own_lab.counters("bridge1").get("probes_explained"), what="the answer")
        assert victim.receive(0.2) is None


def test_with_faults(lab):
    """Damaged, with handshake fields, with options of TCP and without a code point: no answer."""
    with Asker(lab) as asker:
        before = lab.counters("bridge1")
        asker.send(options=[("MSS", 1460)], dscp=0)     # not what the ruleset looks for
        asker.send(mss=1460)
        _, packet = asker.packet()
        packet[TCP].chksum = 1
        send_ip(lab, "balancer", packet)
        crafted.counted(lab, "bridge1", before, drop_handoff_field=1, drop_checksum=1)
        assert asker.receive(0.2) is None


def test_other_packets_without_an_index_pass(lab):
    """The rule for fields that were cleared takes nothing but PROBEs: this host answers the rest."""
    def answered(flags, payload, options=()):
        packet = (IP(src=VIP, dst=BRIDGE) / TCP(sport=next(Asker.ports), dport=9, flags=flags,
                                                seq=1, options=list(options)) / payload)
        with crafted.Capture(lab, "balancer") as capture:
            send_ip(lab, "balancer", packet)
            capture.find(lambda p: TCP in p and p[IP].src == BRIDGE and p[TCP].flags.R and
                         p[TCP].dport == packet[TCP].sport, "a reset of the bridge's host")

    before = lab.counters("bridge1")
    answered("S", b"")
    answered("S", bytes(88))
    answered("S", b"l3\x01\x01" + bytes(84))
    answered("S", b"l3\x01\x05" + bytes(40))
    answered("S", b"l3\x01\x05" + bytes(84), [("MSS", 1460)])
    answered("A", b"l3\x01\x05" + bytes(84))
    after = lab.counters("bridge1")
    assert after["packets"] == before["packets"]
