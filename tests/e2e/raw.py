# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that no kernel would send, and what kernels count."""

import json
import socket
import struct

import crafted
from crafted import CLIENT
from support import checksum

ETH_P_IP = 0x0800


def kernel_counters(lab, host):
    """All counters of a host's network stack, by the names of nstat(8)."""
    # Neither read nor write its history file, which all hosts would share.
    return json.loads(lab.exec(host, "nstat", "-a", "-s", "-z", "-j").stdout)["kernel"]


class RawSender:
    """Sends whole IP packets to a host, bit by bit as they are, at its end of the cable.

    At any other place the switch would be before it, whose kernel drops impossible IP headers.
    """

    def __init__(self, lab, to):
        link, = json.loads(lab.exec(to, "ip", "-j", "link", "show", "dev", "eth0").stdout)
        self.address = (to, ETH_P_IP, 0, 0, bytes.fromhex(link["address"].replace(":", "")))
        with crafted.inside(lab, "switch"):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *packets):
        for packet in packets:
            self.socket.sendto(packet, self.address)


def ipv4(payload, source=CLIENT, destination=crafted.VIP, protocol=socket.IPPROTO_TCP, dscp=0,
         version=4, words=None, length=None, fragment=0x4000, ident=1, ttl=64, options=b"",
         check=None):
    """An IPv4 packet; what is not given is as it should be."""
    if words is None:
        words = 5 + len(options) // 4
    if length is None:
        length = 20 + len(options) + len(payload)
    header = struct.pack("!BBHHHBBH", version << 4 | words, dscp << 2, length, ident, fragment, ttl,
                         protocol, 0)
    header += socket.inet_aton(source) + socket.inet_aton(destination) + options
    if check is None:
        check = checksum(header)
    return header[:10] + struct.pack("!H", check) + header[12:] + payload


def tcp(payload=b"", source=CLIENT, destination=crafted.VIP, sport=1000, dport=80, seq=1, ack=0,
        flags=0x10, words=None, window=65535, options=b"", check=None):
    """A TCP segment with its checksum; `options` come in whole words."""
    if words is None:
        words = 5 + len(options) // 4
    header = struct.pack("!HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, words << 4, flags,
                         window, 0, 0)
    segment = header + options + payload
    if check is None:
        pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + \
            struct.pack("!HH", socket.IPPROTO_TCP, len(segment))
        check = checksum(pseudo + segment)
    return segment[:16] + struct.pack("!H", check) + segment[18:]


def icmp(kind, code, rest, payload, damage=0):
    """An ICMP message; `damage` is what its checksum is wrong by."""
    message = struct.pack("!BBHI", kind, code, 0, rest) + payload
    check = (checksum(message) + damage) % 65535
    return message[:2] + struct.pack("!H", check) + message[4:]
