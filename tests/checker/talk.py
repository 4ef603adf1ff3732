# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of a bridge made byte by byte, and what the checker says of them."""

import collections
import importlib.machinery
import importlib.util
import pathlib
import re
import socket
import struct

PROGRAM = pathlib.Path(__file__).resolve().parent / "check-splice"


def load_program():
    loader = importlib.machinery.SourceFileLoader("check_splice", str(PROGRAM))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("check_splice", loader))
    loader.exec_module(module)
    return module


check_splice = load_program()

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
CLIENT, VIP = ("192.168.33.1", 4000), ("192.168.33.10", 80)
BRIDGE, SERVER = "192.168.33.20", ("192.168.33.30", 80)
NOP = b"\x01"
ETHERNET, RAW, NFLOG = 1, 101, 239
WSCALE, SACK, TIMESTAMPS = 1, 2, 4
OPEN, ABORT, ASK = 1, 2, 5
U32 = 2**32


# Packets

def word_sum(data):
    """The checksum of RFC 1071, the slow way."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def timestamps(value, echo):
    return b"\x08\x0a" + struct.pack(">II", value % U32, echo % U32)


def sack(*edges):
    return bytes([5, 2 + 4 * len(edges)]) + struct.pack(f">{len(edges)}I",
                                                        *(edge % U32 for edge in edges))


def packet(source, destination, **fields):
    """The fields of a packet; build() makes bytes of it."""
    return {"source": source, "destination": destination, "seq": 0, "ack": 0, "flags": ACK,
            "window": 500, "urgent": 0, "options": [], "payload": b"", "tos": 0, "ttl": 63,
            "id": 1, "fragment": 0x4000, "ip_checksum": 0, "tcp_checksum": "right", **fields}


def build(p):
    options = b"".join(p["options"])
    options += b"\0" * (-len(options) % 4)
    tcp = bytearray(struct.pack(">HHIIHHHH", p["source"][1], p["destination"][1], p["seq"] % U32,
                                p["ack"] % U32, (5 + len(options) // 4) << 12 | p["flags"],
                                p["window"], 0, p["urgent"]) + options + p["payload"])
    addresses = socket.inet_aton(p["source"][0]) + socket.inet_aton(p["destination"][0])
    pseudo = addresses + struct.pack(">HH", 6, len(tcp))
    checksum = word_sum(pseudo)
    if p["tcp_checksum"] != "unfinished":
        checksum = 0xffff - word_sum(pseudo + bytes(tcp))
    if p["tcp_checksum"] == "wrong":
        checksum ^= 0x0100
    tcp[16:18] = struct.pack(">H", checksum)
    head = struct.pack(">BBHHHBB", 0x45, p["tos"], 20 + len(tcp), p["id"], p["fragment"], p["ttl"],
                       6)
    checksum = 0xffff - word_sum(head + addresses) ^ p["ip_checksum"]
    return head + struct.pack(">H", checksum) + addresses + bytes(tcp)


# Captures

def frame(data, link, order):
    if link == ETHERNET:
        return bytes(12) + b"\x08\0" + data + bytes(max(0, 46 - len(data)))
    if link == NFLOG:
        head = struct.pack(order + "HHHBB", 8, 1, 0x0008, 1, 0)
        return struct.pack(">BBH", 2, 0, 7) + head + \
            struct.pack(order + "HH", 4 + len(data), 9) + data + bytes(-len(data) % 4)
    return data


def pcap(packets, link=RAW, order="<", magic=0xa1b2c3d4):
    pieces = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)]
    for number, data in enumerate(packets):
        data = frame(data, link, order)
        pieces += [struct.pack(order + "IIII", 1000, number, len(data), len(data)), data]
    return b"".join(pieces)


class Talk:
    """A connection, recorded on both sides of its bridge.

    Numbers of bytes are given as offsets from the handshakes. Each side is computed from its own
    handshake, not from the other side.
    """

    def __init__(self, isn_c=1000, isn_b=2000, isn_n=900_000, ts_c=50_000, ts_b=60_000,
                 ts_n=7_000_000, scales=(7, 7, 7), options=WSCALE | SACK | TIMESTAMPS, number=1,
                 client=CLIENT, server_side_port=None, told_isn_b=None, told_ts_b=None):
        self.isn_c, self.isn_b, self.isn_n = isn_c, isn_b, isn_n
        self.ts_c, self.ts_b, self.ts_n = ts_c, ts_b, ts_n
        self.scale_client, self.scale_balancer, self.scale_server = scales
        self.options, self.number, self.client = options, number, client
        self.inner = (client[0], server_side_port or client[1])
        self.told_isn_b = isn_b if told_isn_b is None else told_isn_b
        self.told_ts_b = ts_b if told_ts_b is None else told_ts_b
        self.outside, self.inside = [], []

    # Handshakes

    def syn_options(self, scale, value, echo):
        found = [b"\x02\x04\x05\xb4"]
        if self.options & SACK:
            found.append(b"\x04\x02")
        if self.options & TIMESTAMPS:
            found.append(timestamps(value, echo))
        if self.options & WSCALE and scale is not None:
            found += [NOP, bytes([3, 3, scale])]
        return found

    def record(self, kind=OPEN, isn=None):
        body = struct.pack(
            ">HBBHH QBBH 16sII HBB BBH 16sI", 0x6c33, 1, kind, 1, 88, self.number, 4, self.options,
            VIP[1], socket.inet_aton(VIP[0]) + bytes(12), self.told_isn_b % U32,
            self.told_ts_b % U32, 1460, self.scale_balancer, 1, 4, 0, 6303,
            socket.inet_aton(VIP[0]) + bytes(12), 0)
        self.outside.append(packet(
            self.client, (BRIDGE, VIP[1]), seq=self.isn_c if isn is None else isn, flags=SYN,
            options=self.syn_options(self.scale_client, self.ts_c, 0), tos=4, window=64240,
            payload=body + bytes(16)))

    def syn(self, isn=None, **changes):
        self.inside.append(packet(
            self.inner, SERVER, seq=self.isn_c if isn is None else isn, flags=SYN, window=64240,
            options=self.syn_options(self.scale_client, self.ts_c, 0), **changes))

    def syn_ack(self):
        self.inside.append(packet(
            SERVER, self.inner, seq=self.isn_n, ack=self.isn_c + 1, flags=SYN | ACK, window=65160,
            options=self.syn_options(self.scale_server, self.ts_n, self.ts_c), ttl=64,
            tcp_checksum="unfinished"))

    def handshake(self):
        self.record()
        self.syn()
        self.syn_ack()
        return self

    # The rest. `change` gets the fields of the packet that leaves the bridge.

    def option_bytes(self, value, echo, edges, others):
        found = list(others)
        if self.options & TIMESTAMPS:
            found += [NOP, NOP, timestamps(value, echo)]
        if edges:
            found += [NOP, NOP, sack(*edges)]
        return found

    def to_server(self, seq=1, ack=1, window=(500, 500), change=None, edges=(), others=(),
                  flags=ACK | PSH, tick=0, **fields):
        """window: outside and inside; edges and ack: from the server's initial number on"""
        def side(source, destination, isn, stamp, size, **more):
            return packet(source, destination, seq=self.isn_c + seq, flags=flags, window=size,
                          ack=isn + ack if flags & ACK else 0,
                          options=self.option_bytes(self.ts_c + tick, stamp + tick if flags & ACK
                                                    else 0, [isn + e for e in edges], others),
                          **{**more, **fields})
        self.outside.append(side(self.client, (BRIDGE, VIP[1]), self.isn_b, self.ts_b, window[0],
                                 tos=fields.pop("ecn", 0) | 4))
        fields["tos"] = self.outside[-1]["tos"] & 3
        self.inside.append(side(self.inner, SERVER, self.isn_n, self.ts_n, window[1]))
        if change:
            change(self.inside[-1])
        return self

    def to_client(self, seq=1, ack=1, window=(500, 500), change=None, edges=(), others=(),
                  flags=ACK | PSH, tick=0, **fields):
        """window: inside and outside; edges: from the client's initial number on"""
        def side(source, destination, isn, stamp, size, checksum):
            return packet(source, destination, seq=isn + seq, ack=self.isn_c + ack, flags=flags,
                          window=size, tcp_checksum=checksum, options=self.option_bytes(
                              stamp + tick, self.ts_c + tick, [self.isn_c + e for e in edges],
                              others), **{"ttl": 64, **fields})
        self.inside.append(side(SERVER, self.inner, self.isn_n, self.ts_n, window[0], "unfinished"))
        self.outside.append(side(VIP, self.client, self.isn_b, self.ts_b, window[1], "right"))
        if change:
            change(self.outside[-1])
        return self

    def exchange(self):
        """A request and its answer, and the end."""
        self.to_server(payload=b"GET / HTTP/1.1\r\n\r\n")
        self.to_client(ack=19, payload=b"HTTP/1.1 200 OK\r\n\r\nabc", tick=1)
        self.to_server(seq=19, ack=23, flags=ACK | FIN, tick=2)
        self.to_client(seq=23, ack=20, flags=ACK | FIN, tick=3)
        return self.to_server(seq=20, ack=24, flags=ACK, tick=4)


class Result:
    """What the checker said: exit status, counts, and how often which field was wrong."""

    def __init__(self, status, text, errors):
        self.status, self.text, self.errors = status, text, errors
        self.wrong = collections.Counter(re.findall(r"^violation: \S+ #\d+ \S+ \[[^]]*\] ([^:]+): ",
                                                    text, re.M))
        self.counts = {(what, field): int(number) for what, field, number
                       in re.findall(r"^([a-z -]+): (.+) (\d+)$", text, re.M)}


def checker(directory, capsys):
    """Returns check(TALK...) or check(outside=BYTES, inside=BYTES), which returns a Result."""
    def run(*talks, outside=None, inside=None, **form):
        files = []
        for side, data in (("outside", outside), ("inside", inside)):
            files.append(directory / f"{side}.pcap")
            if data is None:
                data = pcap([build(p) for talk in talks for p in getattr(talk, side)], **form)
            files[-1].write_bytes(data)
        capsys.readouterr()
        status = check_splice.main([str(file) for file in files])
        text, errors = capsys.readouterr()
        assert (status == 2) == bool(errors)
        return Result(status, text, errors)
    return run
