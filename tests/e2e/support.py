# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of transfers, requests, routing and load share, beside crafted.py.

CraftedTcp      a TCP client of our own: sends what it is told to, segment by segment
lost, idle ...  what the lab has counted
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import select
import signal
import socket
import struct
import subprocess
import time

import pytest

import crafted
from conftest import TOP, VIP, wait_until
from crafted import CLIENT

CLIENTS = [CLIENT] + [f"192.168.33.{number}" for number in range(101, 121)]
BRIDGE_OF = {"backend1": "bridge1", "backend2": "bridge2"}


def sanitized():
    """Were the programs built with sanitizers? They are several times slower then."""
    build = pathlib.Path(os.environ.get("L3DSR_BUILD", TOP))
    return b"__asan_init" in (build / "l3dsr-balancer").read_bytes()


def backends_of(lab, paths, source=CLIENT):
    """Who serves each of the paths, each on a connection of its own."""
    found = {}
    for path in paths:
        answer = crafted.fetch(lab, path, "Connection: close", source=(source, 0))
        assert answer.status == 200
        found[path] = answer.backend
    return found


def sha256_of_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def lost(lab):
    """Packets that lab/impair has dropped so far: "to_client" and "from_client"."""
    done = subprocess.run(["ip", "netns", "exec", f"l3dsr-{lab.name}-switch", "nft", "-j", "list",
                           "table", "bridge", "impair"], capture_output=True, check=True)
    return {item["counter"]["name"]: item["counter"]["packets"]
            for item in json.loads(done.stdout)["nftables"] if "counter" in item}


def packets_sent(lab, host):
    """Packets that the interface of a host has sent; one with offloads may be many on the wire."""
    link, = json.loads(lab.exec(host, "ip", "-s", "-j", "link", "show", "dev", "eth0").stdout)
    return link["stats64"]["tx"]["packets"]


def increase(lab, name, before):
    """How far each counter of a daemon has gone on; those that never counted are not told."""
    after = lab.counters(name)
    return {key: value - before.get(key, 0) for key, value in after.items()}


def stopped(pid):
    """Do all threads of a process stand still?"""
    states = [task.read_text().rsplit(")", 1)[1].split()[0]
              for task in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state == "T" for state in states)


@contextlib.contextmanager
def paused(*pids):
    """These processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: all(map(stopped, pids)), what="the stop of all threads")
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# Window scales. A kernel takes the largest of tcp_rmem and rmem_max, unless the route says less.

SCALE_BY_ROUTE = {0: 65535, 2: 131072, 7: 4194304}
SCALE_BY_MEMORY = {10: 33554432, 14: 536870912}


@contextlib.contextmanager
def route_metric(lab, host, name, value):
    """A metric of the only route of a host, without which it is again at the end."""
    route, = lab.exec(host, "ip", "route", "show", "192.168.33.0/24").stdout.splitlines()
    lab.exec(host, "ip", "route", "change", *route.split(), name, value)
    try:
        yield
    finally:
        lab.exec(host, "ip", "route", "change", *route.split())


def window_scale(lab, host, shift):
    """The window scale that the kernel of a host tells; None: it does without."""
    if shift is None:
        return crafted.sysctls(lab, host, tcp_window_scaling=0)
    if shift in SCALE_BY_ROUTE:
        return route_metric(lab, host, "window", SCALE_BY_ROUTE[shift])
    return crafted.sysctls(lab, host, tcp_rmem=f"4096 131072 {SCALE_BY_MEMORY[shift]}")


def scales_of(sock):
    """The window scales that its peer and a client's socket itself have told."""
    scales = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 7)[6]
    return scales & 15, scales >> 4


def scale_of_server(lab, sock):
    """The one that the web server has told for a client's connection, or None."""
    port = sock.getsockname()[1]
    for backend in BRIDGE_OF:
        told = lab.exec(backend, "ss", "-Htni", "sport", "=", ":80", "and", "dport", "=",
                        f":{port}").stdout
        if told:
            found = re.search(r"\bwscale:\d+,(\d+)", told)
            return found and int(found[1])
    raise AssertionError(f"no web server has a connection from port {port}")


# TCP by hand.

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SEQUENCE = 1 << 32
OPTION_END, OPTION_NOP, OPTION_MSS, OPTION_WSCALE, OPTION_SACK_PERMITTED, OPTION_TIMESTAMPS = (
    0, 1, 2, 3, 4, 8)
# Below what the kernel of the lab chooses by itself.
CRAFTED_PORTS = itertools.cycle(range(2000, 10000))


def checksum(data):
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def build_segment(source, destination, sport, dport, seq, ack, flags, window=65535, options=b"",
                  payload=b"", tos=0):
    """A whole IPv4 packet. `options` is padded to whole words."""
    options += bytes([OPTION_END]) * (-len(options) % 4)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!HHIIBBHHH", sport, dport, seq % SEQUENCE, ack % SEQUENCE,
                         (5 + len(options) // 4) << 4, flags, window, 0, 0) + options
    length = len(header) + len(payload)
    pseudo = addresses + struct.pack("!HH", socket.IPPROTO_TCP, length)
    total = checksum(pseudo + header + payload)
    header = header[:16] + struct.pack("!H", total) + header[18:]
    # The kernel fills in the identification and the checksum of the IP header (raw(7)).
    ip = struct.pack("!BBHHHBBH", 0x45, tos, 20 + length, 0, 0x4000, 64, socket.IPPROTO_TCP, 0)
    return ip + addresses + header + payload


@dataclasses.dataclass
class Segment:
    """A TCP segment that came; `options` by their kind."""

    source: str
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    options: dict
    payload: bytes

    @classmethod
    def parse(cls, packet):
        """None if it is not TCP over IPv4."""
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return None
        packet = packet[:struct.unpack_from("!H", packet, 2)[0]]
        tcp = packet[(packet[0] & 15) * 4:]
        sport, dport, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", tcp)
        data = (offset >> 4) * 4
        return cls(socket.inet_ntoa(packet[12:16]), sport, dport, seq, ack, flags, window,
                   cls.parse_options(tcp[20:data]), tcp[data:])

    @staticmethod
    def parse_options(octets):
        options = {}
        while octets and octets[0] != OPTION_END:
            length = 1 if octets[0] == OPTION_NOP else octets[1]
            options[octets[0]] = octets[2:length]
            octets = octets[length:]
        return options


class CraftedTcp:
    """A TCP client that sends what it is told to, to be used in a `with` statement.

    The client host's kernel does not see what is sent to its port, so it says nothing. Nothing is
    retransmitted or acknowledged but by the methods below. `seq` is the next byte to send and `ack`
    the next byte that is expected; a segment with an explicit `seq` does not move it.
    """

    def __init__(self, lab, address=CLIENT, port=None, to=(VIP, 80)):
        self.lab = lab
        self.address = address
        self.port = port or next(CRAFTED_PORTS)
        self.to = to
        self.table = f"crafted_tcp_{self.port}"
        self.seq = self.ack = 0
        self.timestamps = False
        self.tsecr = 0
        with crafted.inside(lab, "client"):
            self.sink = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            # What comes in is read here before the rule below drops it.
            self.tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)

    def __enter__(self):
        self.tap.setsockopt(socket.SOL_SOCKET, crafted.SO_RCVBUFFORCE, 8 << 20)
        self.tap.bind(("eth0", 0x0800))
        # Of its own name, so that several clients can be there at once.
        self.lab.exec("client", "nft", "-f", "-", input=f"""
            table inet {self.table} {{
                chain prerouting {{
                    type filter hook prerouting priority -400
                    ip daddr {self.address} tcp dport {self.port} drop
                }}
            }}""")
        return self

    def __exit__(self, *_):
        self.lab.exec("client", "nft", "delete", "table", "inet", self.table)
        self.sink.close()
        self.tap.close()

    def tsval(self):
        return int(time.monotonic() * 1000) % SEQUENCE

    def send(self, payload=b"", flags=ACK | PSH, seq=None, ack=None, options=None, window=65535,
             tos=0):
        """Send a segment; returns the bytes of the packet, for resend()."""
        if options is None:
            options = b""
            if self.timestamps:
                options = struct.pack("!BBBBII", OPTION_NOP, OPTION_NOP, OPTION_TIMESTAMPS, 10,
                                      self.tsval(), self.tsecr)
        packet = build_segment(self.address, self.to[0], self.port, self.to[1],
                               self.seq if seq is None else seq, self.ack if ack is None else ack,
                               flags, window, options, payload, tos)
        if seq is None:
            self.seq += len(payload) + bool(flags & SYN) + bool(flags & FIN)
            self.seq %= SEQUENCE
        self.resend(packet)
        return packet

    def resend(self, packet):
        """Send a packet that send() returned once more, bit by bit the same."""
        self.sink.sendto(packet, (self.to[0], 0))

    def receive(self, timeout=5):
        """The next segment for this connection, or None when none came in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.tap], [], [], left)[0]:
                break
            packet, origin = self.tap.recvfrom(65536)
            segment = Segment.parse(packet)
            if (origin[2] != socket.PACKET_OUTGOING and segment and segment.dport == self.port
                    and (segment.source, segment.sport) == self.to):
                if OPTION_TIMESTAMPS in segment.options:
                    self.tsecr, = struct.unpack_from("!I", segment.options[OPTION_TIMESTAMPS])
                return segment
        return None

    def expect(self, flags, timeout=5):
        """The next segment that has all of these flags; what comes before it is ignored."""
        deadline = time.monotonic() + timeout
        while segment := self.receive(max(0, deadline - time.monotonic())):
            if segment.flags & flags == flags:
                return segment
        pytest.fail(f"no segment with the flags {flags:#x} within {timeout} s")

    def connect(self, isn=None, mss=1460, wscale=7, sack=True, timestamps=True, window=65535):
        """The handshake; None leaves an option out. Returns the SYN-ACK."""
        self.seq = random.getrandbits(32) if isn is None else isn
        options = struct.pack("!BBH", OPTION_MSS, 4, mss) if mss else b""
        if sack:
            options += bytes([OPTION_SACK_PERMITTED, 2])
        if timestamps:
            options += struct.pack("!BBII", OPTION_TIMESTAMPS, 10, self.tsval(), 0)
        if wscale is not None:
            options += bytes([OPTION_WSCALE, 3, wscale])
        self.send(flags=SYN, ack=0, options=options, window=window)
        answer = self.expect(SYN | ACK)
        assert answer.ack == self.seq
        self.ack = (answer.seq + 1) % SEQUENCE
        self.timestamps = timestamps and OPTION_TIMESTAMPS in answer.options
        self.send(flags=ACK)
        return answer

    def read(self, until, timeout=5):
        """Acknowledge data in its order until until(data) is true, and return it.

        Overlaps are cut off, gaps are waited for, so that the peer has to repeat what is missing.
        """
        data = b""
        deadline = time.monotonic() + timeout
        while not until(data):
            segment = self.receive(max(0, deadline - time.monotonic()))
            assert segment, f"not all came within {timeout} s: {data[-200:]!r}"
            assert not segment.flags & RST, f"reset after {data[-200:]!r}"
            if not segment.payload:
                continue
            old = (self.ack - segment.seq) % SEQUENCE
            if old < len(segment.payload):
                data += segment.payload[old:]
                self.ack = (self.ack + len(segment.payload) - old) % SEQUENCE
            self.send(flags=ACK)
        return data

    def reset(self):
        """End the connection as a client that was killed does."""
        self.send(flags=RST | ACK)
