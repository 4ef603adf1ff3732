# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients, packets and handoff messages made by hand, and things that tests break on purpose.

The handoff messages are built and read here after the picture in src/lib/handoff.h alone, so that
they hold what the picture says against what the programs do.
"""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import http.client
import os
import pathlib
import random
import signal
import socket
import struct
import time

from scapy.layers.inet import IP, TCP

from conftest import TOP, VIP, Answer, Lab, wait_until

CLIENT = "192.168.33.1"
BRIDGES = {"backend1": "192.168.33.20", "backend2": "192.168.33.21"}
ANSWER_PORT = 6303

CLONE_NEWNET = 0x40000000
ETH_P_IP, ETH_P_ALL = 0x0800, 0x0003
LIBC = ctypes.CDLL(None, use_errno=True)


# Hosts

def enter(namespace):
    """Move this thread into the network namespace that is open as a file descriptor."""
    if LIBC.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(lab, host):
    """Sockets that are made here belong to a host of the lab, and stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/run/netns/l3dsr-{lab.name}-{host}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


@contextlib.contextmanager
def sysctls(lab, host, **values):
    """Settings below net.ipv4 on a host, as they were before at the end."""
    names = {f"net.ipv4.{name}": str(value) for name, value in values.items()}
    before = {name: lab.exec(host, "sysctl", "-n", name).stdout.strip() for name in names}

    def write(settings):
        for name, value in settings.items():
            lab.exec(host, "sysctl", "-qw", f"{name}={value}")

    write(names)
    try:
        yield
    finally:
        write(before)


@contextlib.contextmanager
def nft(lab, host, rules, table="inet crafted"):
    """A table of rules on a host, gone again at the end."""
    lab.exec(host, "nft", "-f", "-", input=f"table {table} {{\n{rules}\n}}\n")
    try:
        yield
    finally:
        lab.exec(host, "nft", "delete", "table", *table.split())


def nft_packets(lab, host, counter, table="inet crafted"):
    """What a named counter of that table has counted."""
    text = lab.exec(host, "nft", "list", "counter", *table.split(), counter).stdout
    return int(text.split("packets")[1].split()[0])


def alive(pid):
    """Does the process run? One that nobody has waited for yet does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def stop_nginx(lab, backend):
    pid = int((lab.state / f"nginx-{backend}.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), what=f"the end of nginx on {backend}")


def start_nginx(lab, backend):
    directory = lab.state / backend
    lab.exec(backend, "env", f"L3DSR_LAB_MEMBER={lab.name}:nginx", "nginx", "-p", directory,
             "-e", directory / "error.log", "-c", lab.state / f"nginx-{backend}.conf")


def template(name):
    """The text of a daemon's configuration as lab/up makes it, before the lab is up."""
    number = name[-1]
    if name == "balancer":
        return (TOP / "lab/conf/balancer.conf.in").read_text()
    text = (TOP / "lab/conf/bridge.conf.in").read_text()
    return (text.replace("@BRIDGE@", BRIDGES[f"backend{number}"])
            .replace("@SERVER@", f"192.168.33.3{int(number) - 1}"))


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new)


def up(lab, directory, *arguments, **texts):
    """Bring up a lab, some of its daemons with a configuration of the test's own."""
    files = []
    for name, text in texts.items():
        files.append(directory / f"{name}.conf")
        files[-1].write_text(text)
    lab.up(*arguments, *files)


@contextlib.contextmanager
def running(directory, **texts):
    """A lab with such configurations for several tests, judged at its end as own_lab is."""
    lab = Lab()
    try:
        up(lab, directory, **texts)
        yield lab
        wrong = lab.stop_daemons() + lab.sanitizer_reports()
    finally:
        lab.down()
    assert not wrong


# Clients

def connect(lab, source=(CLIENT, 0), vip=VIP, timeout=10, port=80):
    """A connection of the client host to the VIP."""
    with inside(lab, "client"):
        sock = socket.socket()
    try:
        sock.settimeout(timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(source)
        sock.connect((vip, port))
    except BaseException:
        sock.close()
        raise
    return sock


def request(path, *headers, method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "Host: www", *headers, "", ""]
    return "\r\n".join(lines).encode()


def response(sock, method="GET"):
    """Read one response; returns an Answer without its time."""
    reader = http.client.HTTPResponse(sock, method=method)
    reader.begin()
    return Answer(reader.status, reader.read(), "{}:{}".format(*sock.getsockname()), 0)


def ask(sock, path, *headers):
    """A request on a connection, and its answer."""
    sock.sendall(request(path, *headers))
    return response(sock)


def fetch(lab, path, *headers, **options):
    """A request on a connection of its own."""
    begin = time.monotonic()
    with connect(lab, **options) as sock:
        answer = ask(sock, path, *headers)
    answer.seconds = time.monotonic() - begin
    return answer


def fetch_all(lab, paths, at_once=10, **options):
    """An answer for each path, by path."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return dict(zip(paths, pool.map(lambda path: fetch(lab, path, **options), paths)))


def path_of(lab, backend):
    """A path that the balancer gives to that backend."""
    for number in range(64):
        path = f"/page/of-{number}"
        if fetch(lab, path).backend == backend:
            return path
    raise AssertionError(f"none of 64 paths is served by {backend}")


def reset_close(sock):
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def how_it_ends(sock):
    """Read until the other side ends the connection: "fin" or "reset"; and what came before."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except OSError as error:
        if error.errno != errno.ECONNRESET:
            raise
        return "reset", data
    return "fin", data


# Packets

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/socket.h, linux/if_packet.h


class Capture:
    """What goes through the interface of a host from now on, both ways; all of it, or the test fails."""

    BUFFER = 64 << 20

    def __init__(self, lab, host):
        with inside(lab, host):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, self.BUFFER)
            self.socket.bind(("eth0", ETH_P_ALL))
        self.socket.setblocking(False)
        self.seen = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def packets(self):
        """All IPv4 packets so far."""
        while True:
            try:
                data, address = self.socket.recvfrom(65536)
            except BlockingIOError:
                _, lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET,
                                                                     PACKET_STATISTICS, 8))
                assert not lost
                return self.seen
            if address[1] == ETH_P_IP:
                self.seen.append(IP(data))

    def find(self, predicate, what="a packet"):
        """Wait for the first packet of which that is true."""
        return wait_until(lambda: next((p for p in self.packets() if predicate(p)), None),
                          what=what)


def tcp_option(packet, name):
    """The value of a TCP option, True for one that has none, None without it."""
    for found, value in packet[TCP].options:
        if found == name:
            return value if value not in (None, b"") else True
    return None


def is_syn(packet):
    return TCP in packet and packet[TCP].flags & 0x17 == 0x02


def is_syn_ack(packet):
    return TCP in packet and packet[TCP].flags & 0x17 == 0x12


def send_ip(lab, host, packet):
    """Send a packet from a host, whatever its source says."""
    with inside(lab, host):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.sendto(bytes(packet), (packet.dst, 0))


# Handoff messages

MAGIC, VERSION = 0x6c33, 1
OPEN, ABORT, ACCEPTED, REFUSED = 1, 2, 3, 4
WSCALE, SACK, TIMESTAMPS = 1, 2, 4
REASON_NONE, REASON_RESET, REASON_SILENT, REASON_OPTIONS, REASON_SERVICE, REASON_FULL = range(6)

RECORD = struct.Struct(">HBBHH QBBH 16sII HBB BBH 16sI")
ANSWER = struct.Struct(">HBBHH QBBH")
CARRIER = struct.Struct(">B16s B16s HHI")
MAC_LEN = 16


@dataclasses.dataclass
class Key:
    id: int
    secret: bytes

    def mac(self, text):
        return hashlib.blake2b(text, key=self.secret, digest_size=MAC_LEN).digest()


def lab_key(lab):
    number, digits = (lab.state / "handoff.key").read_text().split()
    return Key(int(number), bytes.fromhex(digits))


def wide(address):
    return socket.inet_aton(address) + bytes(12)


def narrow(family, octets):
    assert family == 4 and octets[4:] == bytes(12)
    return socket.inet_ntoa(octets[:4])


def carrier_of(packet):
    """What the MAC covers of the packet around a record."""
    return CARRIER.pack(4, wide(packet.src), 4, wide(packet.dst), packet[TCP].sport,
                        packet[TCP].dport, packet[TCP].seq)


@dataclasses.dataclass
class Record:
    """An OPEN or ABORT. The fields of the second half are for those who want them wrong."""

    id: int
    isn_b: int
    ts_b: int
    answer: tuple
    type: int = OPEN
    vip: tuple = (VIP, 80)
    options: int = WSCALE | SACK | TIMESTAMPS
    mss: int = 1460
    wscale: int = 10
    index: int = 1
    magic: int = MAGIC
    version: int = VERSION
    length: int = RECORD.size + MAC_LEN
    family: int = 4
    key_id: int = None
    rtt_us: int = 0

    def encode(self, key, packet):
        """Its bytes, signed for the packet that carries it."""
        body = RECORD.pack(
            self.magic, self.version, self.type, self.key_id or key.id, self.length, self.id,
            self.family, self.options, self.vip[1], wide(self.vip[0]), self.isn_b, self.ts_b,
            self.mss, self.wscale, self.index, 4, 0, self.answer[1], wide(self.answer[0]), self.rtt_us)
        return body + key.mac(body + carrier_of(packet))

    @classmethod
    def decode(cls, key, packet):
        """From a captured packet; asserts that it is authentic and well-formed."""
        data = bytes(packet[TCP].payload)
        assert len(data) == RECORD.size + MAC_LEN
        body = data[:RECORD.size]
        assert data[RECORD.size:] == key.mac(body + carrier_of(packet))
        (magic, version, kind, key_id, length, number, family, options, port, vip, isn_b, ts_b,
         mss, wscale, index, answer_family, zero, answer_port, answer, rtt_us) = RECORD.unpack(body)
        assert (magic, version, key_id, length) == (MAGIC, VERSION, key.id, len(data))
        assert zero == 0
        return cls(number, isn_b, ts_b, (narrow(answer_family, answer), answer_port), kind,
                   (narrow(family, vip), port), options, mss, wscale, index, rtt_us=rtt_us)


@dataclasses.dataclass
class Told:
    """An ACCEPTED or REFUSED."""

    type: int
    id: int
    reason: int = REASON_NONE
    wscale: int = 0
    magic: int = MAGIC
    version: int = VERSION
    length: int = ANSWER.size + MAC_LEN
    key_id: int = None

    def encode(self, key):
        body = ANSWER.pack(self.magic, self.version, self.type, self.key_id or key.id, self.length,
                           self.id, self.reason, self.wscale, 0)
        return body + key.mac(body)

    @classmethod
    def decode(cls, key, data):
        assert len(data) == ANSWER.size + MAC_LEN
        body = data[:ANSWER.size]
        assert data[ANSWER.size:] == key.mac(body)
        magic, version, kind, key_id, length, number, reason, wscale, zero = ANSWER.unpack(body)
        assert (magic, version, key_id, length) == (MAGIC, VERSION, key.id, len(data))
        assert zero == 0
        return cls(kind, number, reason, wscale)


class Offer:
    """A connection of a client that the test, in place of a balancer, offers to a bridge."""

    ports = iter(range(3000, 9000))

    def __init__(self, lab, backend="backend1", key=None, **fields):
        self.lab = lab
        self.key = key or lab_key(lab)
        self.bridge = BRIDGES[backend]
        self.client = ("192.168.33.120", next(self.ports))
        self.isn_c, self.tsval = random.getrandbits(32), random.getrandbits(31)
        with inside(lab, "balancer"):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((VIP, 0))
        self.record = Record(id=random.getrandbits(64), isn_b=random.getrandbits(32),
                             ts_b=random.getrandbits(32), answer=self.socket.getsockname(),
                             **fields)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def packet(self, flags, seq, ack=0, dscp=1, options=(), **fields):
        """As a balancer sends it: from the client to the bridge, with the index."""
        return (IP(src=self.client[0], dst=self.bridge, tos=dscp << 2) /
                TCP(sport=self.client[1], dport=80, flags=flags, seq=seq, ack=ack, window=64240,
                    options=list(options), **fields))

    def syn(self, dscp=1):
        options = [("MSS", 1460)]
        if self.record.options & SACK:
            options.append(("SAckOK", b""))
        if self.record.options & TIMESTAMPS:
            options.append(("Timestamp", (self.tsval, 0)))
        if self.record.options & WSCALE:
            options += [("NOP", None), ("WScale", 7)]
        return self.packet("S", self.isn_c, dscp=dscp, options=options)

    def carried(self, change=None, dscp=1, **fields):
        """The SYN with its record; `change` gets the record's bytes and returns others."""
        syn = self.syn(dscp)
        data = dataclasses.replace(self.record, **fields).encode(self.key, syn)
        return syn / (change(data) if change else data)

    def send(self, host="balancer", **options):
        send_ip(self.lab, host, self.carried(**options))

    def told(self, timeout=5):
        """The next answer of the bridge, which must come from its own address."""
        self.socket.settimeout(timeout)
        data, source = self.socket.recvfrom(1500)
        assert source[0] == self.bridge
        return Told.decode(self.key, data)

    def told_nothing(self):
        """No answer has come, now that the bridge has counted what was sent."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1500) is None
        except BlockingIOError:
            return True


def server_connections(lab, backend, port):
    """States of the web server's sockets whose peer has that port."""
    text = lab.exec(backend, "ss", "-Htan", "sport", "=", ":80", "and", "dport", "=",
                    f":{port}").stdout
    return [line.split()[0] for line in text.splitlines()]


def counted(lab, name, before, **expected):
    """Wait until counters of a daemon have grown by that much since `before`; never by more."""
    def grown():
        now = lab.counters(name)
        change = {key: now.get(key, 0) - before.get(key, 0) for key in expected}
        for key, value in change.items():
            assert value <= expected[key], f"{key} grew by {value}"
        return change == expected

    wait_until(grown, what=f"the counters {expected} of {name}")
