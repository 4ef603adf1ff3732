# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files, and what their packets say.

Only what the checker needs, and fast enough for some 100,000 packets. A capture is what somebody
may have damaged: whatever stands in it, the worst that happens is BrokenCapture or Malformed.
"""

import struct
from typing import NamedTuple

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
PROTOCOL_TCP = 6
OPTION_END, OPTION_NOP, OPTION_SACK, OPTION_TIMESTAMPS = 0, 1, 5, 8

LINK_ETHERNET, LINK_RAW, LINK_NFLOG = 1, 101, 239
ETHERTYPE_IPV4 = b"\x08\x00"
NFULA_PAYLOAD = 9
RECORD_MOST = 1 << 18  # tcpdump's own largest

PCAP_MAGIC = {  # byte order, parts of a second
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}

IP_HEADER = struct.Struct(">BBHHHBBH4s4s")
TCP_HEADER = struct.Struct(">HHIIHHHH")


class BrokenCapture(Exception):
    """The file is not a capture, or ends too early, or holds only parts of packets."""


class Malformed(Exception):
    """An IPv4 packet of TCP that no receiver would take: a length does not fit, or a fragment."""


class Segment(NamedTuple):
    """All of a TCP segment in IPv4, but not its checksums. `flags` has the reserved bits."""

    header_length: int
    dscp: int
    ecn: int
    length: int
    id: int
    fragment: int
    ttl: int
    ip_options: bytes
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    seq: int
    ack: int
    data_offset: int
    flags: int
    window: int
    urgent: int
    options: bytes
    payload: bytes


class Seen(NamedTuple):
    """A segment in a capture. `tcp_checksum` is one of the names below."""

    number: int
    time: float
    segment: Segment
    ip_checksum: str
    tcp_checksum: str


RIGHT, UNFINISHED, WRONG = "right", "unfinished", "wrong"
# Of 65535 unfinished checksums one is right, by chance: nobody can tell what it was meant to be.
EITHER = "right or unfinished"


def frames(path):
    """Yield (number, time, link type, byte order, bytes) of each packet in a pcap file."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] not in PCAP_MAGIC:
        raise BrokenCapture(f"{path}: not a pcap file")
    if len(data) < 24:
        raise BrokenCapture(f"{path}: the file header is cut off")
    order, parts = PCAP_MAGIC[data[:4]]
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xffff
    if link not in LINKS:
        raise BrokenCapture(f"{path}: link type {link} is none of Ethernet, raw IP and NFLOG")
    head = struct.Struct(order + "IIII")
    at, number = 24, 0
    while at < len(data):
        number += 1
        if len(data) - at < head.size:
            raise BrokenCapture(f"{path}: ends within the header of packet {number}")
        seconds, fraction, length, original = head.unpack_from(data, at)
        at += head.size
        if length > RECORD_MOST or length > original:
            raise BrokenCapture(f"{path}: packet {number} has an impossible length")
        if length < original:
            raise BrokenCapture(f"{path}: only a part of packet {number} was captured")
        if len(data) - at < length:
            raise BrokenCapture(f"{path}: ends within packet {number}")
        yield number, seconds + fraction / parts, link, order, data[at:at + length]
        at += length


def from_ethernet(frame, _):
    return frame[14:] if frame[12:14] == ETHERTYPE_IPV4 else None


def from_raw(frame, _):
    return frame


def from_nflog(frame, order):
    """The payload among the attributes: length with this head, type; padded to four bytes."""
    at = 4
    while len(frame) - at >= 4:
        length, kind = struct.unpack_from(order + "HH", frame, at)
        if length < 4 or length > len(frame) - at:
            raise ValueError("an attribute of NFLOG has an impossible length")
        if kind == NFULA_PAYLOAD:
            return frame[at + 4:at + length]
        at += (length + 3) & ~3
    return None


LINKS = {LINK_ETHERNET: from_ethernet, LINK_RAW: from_raw, LINK_NFLOG: from_nflog}


def packets(path):
    """Yield (number, time, bytes from the IP header on, None if it is no IPv4)."""
    for number, time, link, order, frame in frames(path):
        try:
            ip = LINKS[link](frame, order)
        except ValueError as error:
            raise BrokenCapture(f"{path}: packet {number}: {error}") from error
        yield number, time, ip if ip and ip[0] >> 4 == 4 else None


def dissect(number, time, ip):
    """A Seen, or None when it is not TCP; raises Malformed."""
    if len(ip) < 20:
        raise Malformed("the IP header is cut off")
    (first, tos, length, ident, fragment, ttl, protocol, _, source,
     destination) = IP_HEADER.unpack_from(ip)
    if protocol != PROTOCOL_TCP:
        return None
    tcp_at = (first & 15) * 4
    if tcp_at < 20 or length < tcp_at or length > len(ip):
        raise Malformed("lengths in the IP header do not fit")
    if fragment & 0x3fff:
        raise Malformed("a fragment")
    if length < tcp_at + 20:
        raise Malformed("the TCP header is cut off")
    (source_port, destination_port, seq, ack, offset_flags, window, checksum,
     urgent) = TCP_HEADER.unpack_from(ip, tcp_at)
    data_offset = offset_flags >> 12
    payload_at = tcp_at + data_offset * 4
    if data_offset < 5 or payload_at > length:
        raise Malformed("the TCP data offset does not fit")
    segment = Segment(first & 15, tos >> 2, tos & 3, length, ident, fragment, ttl, ip[20:tcp_at],
                      source, destination, source_port, destination_port, seq, ack, data_offset,
                      offset_flags & 0xfff, window, urgent, ip[tcp_at + 20:payload_at],
                      ip[payload_at:length])
    return Seen(number, time, segment, RIGHT if ones_sum(ip[:tcp_at]) == 0 else WRONG,
                tcp_checksum(source + destination, ip[tcp_at:length], checksum))


def ones_sum(data):
    """The sum of 16-bit words in one's complement, 0 for both of its zeros.

    2^16 is 1 modulo 2^16 - 1, so that sum is the remainder of the bytes as one large number.
    """
    if len(data) & 1:
        data += b"\0"
    return int.from_bytes(data, "big") % 0xffff


def tcp_checksum(addresses, tcp, checksum):
    """RIGHT; UNFINISHED: only the pseudo header is in it, the interface does the rest; or WRONG."""
    pseudo = ones_sum(addresses) + PROTOCOL_TCP + len(tcp)
    right = (pseudo + ones_sum(tcp)) % 0xffff == 0
    if checksum % 0xffff == pseudo % 0xffff:
        return EITHER if right else UNFINISHED
    return RIGHT if right else WRONG


def option_list(options):
    """[(kind, offset, length)]; what stands behind END or a malformed option is one of kind None.

    As in Linux, a malformed option ends the list and what came before it is valid.
    """
    found = []
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == OPTION_NOP:
            length = 1
        elif kind == OPTION_END or at + 1 == len(options) or \
                not 2 <= options[at + 1] <= len(options) - at:
            found.append((None, at, len(options) - at))
            break
        else:
            length = options[at + 1]
        found.append((kind, at, length))
        at += length
    return found


def valid_length(kind, length):
    """Is it one that Linux believes? Asked for the options that are translated."""
    if kind == OPTION_TIMESTAMPS:
        return length == 10
    return kind == OPTION_SACK and length >= 10 and (length - 2) % 8 == 0


def find_options(options):
    """(offset of the timestamps or None, offset of the SACK edges or None, number of edges).

    Of several options of a kind the last one counts, as in Linux.
    """
    timestamps = sack = None
    edges = 0
    # All but handshakes, nearly always: two NOPs and the timestamps.
    if len(options) == 12 and options[:4] == b"\x01\x01\x08\x0a":
        return 4, None, 0
    for kind, at, length in option_list(options):
        if kind == OPTION_TIMESTAMPS and valid_length(kind, length):
            timestamps = at + 2
        elif kind == OPTION_SACK and valid_length(kind, length):
            sack, edges = at + 2, (length - 2) // 4
    return timestamps, sack, edges


def option_value(options, wanted, length):
    """The bytes of the last option of a kind that has that length, or None."""
    value = None
    for kind, at, found in option_list(options):
        if kind == wanted and found == length:
            value = options[at + 2:at + found]
    return value
