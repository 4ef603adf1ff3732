# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections on both sides of a bridge: what each packet must have become on the other side."""

import dataclasses
import socket
import struct
from typing import NamedTuple, Optional

from capture import ACK, RST, SYN, Segment, find_options, option_value

WORD = 1 << 32
OPTION_WSCALE, WSCALE_MOST = 3, 14

MAGIC, VERSION = 0x6c33, 1
OPEN, ABORT, ASK = 1, 2, 5
RECORD = struct.Struct(">HBBHH QBBH 16sII HBB BBH 16sI")
RECORD_LENGTH = RECORD.size + 16  # the MAC, which is not checked: the bridge believed it
HAS_WSCALE, HAS_TIMESTAMPS = 1, 4


class Endpoint(NamedTuple):
    address: bytes
    port: int

    def __str__(self):
        return f"{socket.inet_ntoa(self.address)}:{self.port}"


class Record(NamedTuple):
    """What src/lib/handoff.h says a record says, as far as the translation needs it."""

    type: int
    id: int
    options: int
    vip: Endpoint
    isn_b: int
    ts_b: int
    wscale: int
    index: int


def record_of(segment):
    """The record in a SYN, or None."""
    data = segment.payload
    if segment.flags & (SYN | ACK) != SYN or len(data) != RECORD_LENGTH:
        return None
    (magic, version, kind, _, length, number, family, options, port, vip, isn_b, ts_b, _, wscale,
     index, *_) = RECORD.unpack_from(data)
    if (magic, version, length, family) != (MAGIC, VERSION, RECORD_LENGTH, 4) or \
            kind not in (OPEN, ABORT, ASK):
        return None
    return Record(kind, number, options, Endpoint(vip[:4], port), isn_b, ts_b, wscale, index)


def wscale_of(segment):
    """The window scale that a SYN offers, or None."""
    value = option_value(segment.options, OPTION_WSCALE, 3)
    return None if value is None else min(value[0], WSCALE_MOST)


def timestamps_of(segment):
    """(TSval, TSecr) or None"""
    at, _, _ = find_options(segment.options)
    return None if at is None else struct.unpack_from(">II", segment.options, at)


def rescale(window, shift, to):
    """Rounded down, but not to nothing if it takes a segment; no more than the field holds."""
    return min(max(window << shift >> to, window << shift >= 1460), 0xffff)


def patch(options, changes):
    """Add to the 32-bit fields at some offsets; changes is [(offset, what)]."""
    changed = bytearray(options)
    for at, delta in changes:
        value = int.from_bytes(options[at:at + 4], "big")
        changed[at:at + 4] = ((value + delta) % WORD).to_bytes(4, "big")
    return bytes(changed)


@dataclasses.dataclass
class Connection:
    """One connection of a client with the VIP, from its OPEN on.

    `outside` and `inside` hold what has to be compared, in the order of the captures: packets to
    the server, and to the client. A direct connection, of a client with the web server itself, has
    no OPEN; its packets may not be changed at all.
    """

    client: Endpoint
    vip: Endpoint
    server: Optional[Endpoint] = None
    server_side_port: int = 0
    direct: bool = False
    id: int = 0
    isn_c: int = 0
    isn_b: int = 0
    ts_b: int = 0
    options: int = 0
    client_wscale: int = 0
    balancer_wscale: int = 0
    isn_n: Optional[int] = None
    ts_n: Optional[int] = None
    server_wscale: Optional[int] = None
    aborted: bool = False
    answers_to_old: set = dataclasses.field(default_factory=set)
    outside: tuple = dataclasses.field(default_factory=lambda: ([], []))
    inside: tuple = dataclasses.field(default_factory=lambda: ([], []))

    @classmethod
    def offered(cls, client, segment, record):
        scaled = record.options & HAS_WSCALE
        return cls(client, record.vip, id=record.id, isn_c=segment.seq, isn_b=record.isn_b,
                   ts_b=record.ts_b, options=record.options,
                   client_wscale=(wscale_of(segment) or 0) if scaled else 0,
                   balancer_wscale=min(record.wscale, WSCALE_MOST) if scaled else 0)

    def __str__(self):
        return f"{self.client} -> {self.vip}"

    def opened(self, server, port):
        """The bridge has sent the SYN on."""
        self.server, self.server_side_port = server, port

    def note(self, segment, excuse):
        """What an excused packet tells about the connection."""
        if excuse == "SYN-ACK":
            self.answered(segment)
        elif excuse == "answer for an older connection":
            self.answers_to_old.add(segment.ack)

    def answered(self, segment):
        """The first SYN-ACK of the web server counts."""
        if self.isn_n is not None or segment.ack != (self.isn_c + 1) % WORD:
            return
        self.isn_n = segment.seq
        self.server_wscale = wscale_of(segment)
        timestamps = timestamps_of(segment)
        self.ts_n = timestamps and timestamps[0]

    @property
    def used(self):
        """Did it carry anything?"""
        return bool(self.outside[0] or self.outside[1])

    @property
    def seq_delta(self):
        return 0 if self.direct else self.isn_b - self.isn_n

    @property
    def ts_delta(self):
        """None when timestamps are not translated."""
        if self.direct or not self.options & HAS_TIMESTAMPS or self.ts_n is None:
            return None
        return self.ts_n - self.ts_b

    @property
    def scales(self):
        """((the client's, what the web server takes it for), (the server's, what was told))"""
        if self.direct:
            return (0, 0), (0, 0)
        agreed = self.options & HAS_WSCALE and self.server_wscale is not None
        return ((self.client_wscale, self.client_wscale if agreed else 0),
                (self.server_wscale if agreed else 0, self.balancer_wscale))

    def translators(self):
        """Two functions, each from a Segment to what it has to be on the other side."""
        if self.direct:
            return (lambda segment: segment,) * 2
        seq_delta, ts_delta = self.seq_delta, self.ts_delta
        (client_shift, client_told), (server_shift, server_told) = self.scales

        def window(segment, shift, told):
            if shift == told or segment.flags & SYN:
                return segment.window
            return rescale(segment.window, shift, told)

        def to_server(segment):
            options, ack = segment.options, segment.ack
            if segment.flags & ACK:
                ack = (ack - seq_delta) % WORD
                timestamps, sack, edges = find_options(options)
                changes = [(sack + 4 * edge, -seq_delta) for edge in range(edges)]
                if timestamps is not None and ts_delta is not None:
                    changes.append((timestamps + 4, ts_delta))
                options = patch(options, changes)
            return segment._replace(
                dscp=0, destination=self.server.address, source_port=self.server_side_port,
                destination_port=self.server.port, ack=ack, options=options,
                window=window(segment, client_shift, client_told))

        def to_client(segment):
            options = segment.options
            timestamps, _, _ = find_options(options)
            if timestamps is not None and ts_delta is not None:
                options = patch(options, [(timestamps, -ts_delta)])
            return segment._replace(
                source=self.vip.address, source_port=self.vip.port,
                destination_port=self.client.port, seq=(segment.seq + seq_delta) % WORD,
                options=options, window=window(segment, server_shift, server_told))

        return to_server, to_client

    def syn(self, carrier):
        """What the SYN around a record has to be on its way to the web server."""
        return carrier._replace(
            dscp=0, length=carrier.length - len(carrier.payload), payload=b"",
            destination=self.server.address, source_port=self.server_side_port,
            destination_port=self.server.port)

    def repeats_syn(self, segment):
        """Is it the bare SYN by which the bridge keeps the web server from measuring the handshake?"""
        return self.isn_n is not None and segment.seq == self.isn_c and \
            not segment.options and not segment.payload

    def excused(self, segment, from_server):
        """The name of a packet inside that has no counterpart by its nature, or None."""
        if from_server:
            if segment.flags & (SYN | ACK) == SYN | ACK:
                return "SYN-ACK"
            if self.isn_n is None and self.server is not None and not self.direct:
                if segment.flags & RST:
                    return "refusal"
                return "answer for an older connection"
            return None
        if segment.flags & (RST | ACK) == RST:
            if segment.seq in self.answers_to_old:
                return "reset of an older connection"
            if (self.aborted or not self.used) and segment.seq == (self.isn_c + 1) % WORD:
                return "reset of an offer that was taken back"
        return None


def field_names():
    return [name.replace("_", " ") for name in Segment._fields]
