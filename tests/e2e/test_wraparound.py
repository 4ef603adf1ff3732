# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequence numbers and timestamps that begin anew at 0 in the middle of a transfer.

The client's first number is set in its socket before it connects. That of a listening kernel
(balancer, web server) is a hash of addresses and ports plus a clock of 64 ns: it is asked for some
ports, and the connection is made from one of them when its time has come. Timestamps are moved
forward in the sockets.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import struct
import termios
import time

import pytest

import crafted
from conftest import FILES, SERVERS, VIP, wait_until
from crafted import CLIENT
from peers import Repair, Servers, answer_header, read_all, read_request, relayed
from support import SEQUENCE, CraftedTcp

SIZE = 5000000
MARGIN = SIZE // 2  # of the first number before the wrap: 160 ms of the clock
PORTS = 150	    # one of them has its time every 1.8 s
ATTEMPTS = 8

# Of a timestamp before its wrap, in ms; and what is sent meanwhile, over a longer time.
TS_MARGIN = 200
CHUNK = 20000
CHUNKS = 50
PAUSE = 0.012


@pytest.fixture(scope="module")
def body():
    with open(FILES / "100M.bin", "rb") as file:
        return file.read(SIZE)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def before_wrap(distance):
    return SEQUENCE - distance


def connect_with(lab, isn, vip=VIP):
    """A connection of the client with this first sequence number."""
    with crafted.inside(lab, "client"):
        sock = socket.socket()
    sock.settimeout(20)
    sock.bind((CLIENT, 0))
    with Repair(sock) as repair:
        repair.set_sequence(Repair.SEND, isn)
    sock.connect((vip, 80))
    assert sequence(sock, Repair.SEND) == (isn + 1) % SEQUENCE
    return sock


def sequence(sock, queue):
    with Repair(sock) as repair:
        return repair.sequence(queue)


# The client's numbers

def upload(lab, sock, body):
    sock.sendall(crafted.request("/upload/wrapped", f"Content-Length: {len(body)}", method="PUT"))
    sock.sendall(body)
    assert crafted.response(sock).status == 201
    stored, = lab.state.glob("backend*/upload/wrapped")
    assert digest(stored.read_bytes()) == digest(body)
    stored.unlink()


@pytest.mark.parametrize("loss", [0, 1], ids=["all", "lossy"])
def test_upload_through_the_wrap(lab, body, loss):
    """With loss there are SACK blocks around it as well."""
    with relayed(lab, "loss", loss) as told, connect_with(lab, before_wrap(MARGIN)) as sock:
        begin = sequence(sock, Repair.SEND)
        upload(lab, sock, body)
        end = sequence(sock, Repair.SEND)
    assert end < begin
    assert (end - begin) % SEQUENCE > SIZE
    assert (told["from_client", "lost"] > 0) == bool(loss)


# 1: the SYN has the last number, the request begins with 0; 2: its second byte has 0; 20: another
# one; 60: it stands before the wrap, and the next request behind it.
@pytest.mark.everywhere
@pytest.mark.parametrize("distance", [1, 2, 20, 60])
@pytest.mark.parametrize("pieces", [1, 7])
def test_request_through_the_wrap(lab, distance, pieces):
    """What is held of a request is put in order on both sides of the wrap."""
    with connect_with(lab, before_wrap(distance)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(3):
            data = crafted.request(f"/page/wrapped-{number}")
            size = -(-len(data) // pieces)
            for begin in range(0, len(data), size):
                sock.sendall(data[begin:begin + size])
            assert crafted.response(sock).text.split()[2] == f"/page/wrapped-{number}"
        assert sequence(sock, Repair.SEND) < 1000


# The numbers of balancer and web server

def clock():
    """What a kernel adds to the hash (secure_tcp_seq())."""
    return (time.time_ns() >> 6) % SEQUENCE


def first_numbers(lab, address):
    """For some ports of the client, the first number that a host would use now, less the clock."""
    found = {}
    for port in range(20000, 20000 + PORTS):
        with crafted.connect(lab, source=(CLIENT, port), vip=address) as sock:
            found[port] = (sequence(sock, Repair.RECEIVE) - 1 - clock()) % SEQUENCE
            crafted.reset_close(sock)
    return found


def port_in_time(found):
    """Wait until a connection from a port would begin at MARGIN before the wrap, and return it."""
    while True:
        ahead = {port: (before_wrap(MARGIN) - number - clock()) % SEQUENCE
                 for port, number in found.items()}
        port = min(ahead, key=ahead.get)
        seconds = ahead[port] * 64e-9
        # A moment too late is a whole round of the clock ahead.
        if seconds < 60:
            time.sleep(seconds)
            del found[port]
            return port


class Sender:
    """A web server that sends the body, and notes its own sequence numbers."""

    def __init__(self, body):
        self.body = body

    def serve(self, sock):
        """Returns its address, and the numbers before and after."""
        try:
            read_request(sock)
        except AssertionError:
            return None  # a connection that asked for the first number only
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise
            return None
        begin = sequence(sock, Repair.SEND)
        sock.sendall(answer_header(len(self.body)) + self.body)
        read_all(sock)
        # Its own FIN is not counted yet.
        return sock.getsockname()[0], begin, sequence(sock, Repair.SEND)


def next_result(servers):
    while not (result := servers.result()):
        pass
    return result


def path_to(lab, servers, address):
    """A path that is served at this address."""
    for number in range(64):
        path = f"/wrapped/{number}"
        crafted.fetch(lab, path)
        if next_result(servers)[0] == address:
            return path
    raise AssertionError(f"none of 64 paths is served by {address}")


@pytest.mark.parametrize("loss", [0, 1], ids=["all", "lossy"])
@pytest.mark.parametrize("whose", ["balancer", "server"])
def test_download_through_the_wrap(own_lab, body, whose, loss):
    """The number that the client sees wraps (the balancer's), or the one behind the bridge."""
    own_lab.up("--no-web")
    server = SERVERS["backend1"]
    length = len(answer_header(SIZE)) + SIZE
    with Servers(own_lab, Sender(body).serve) as servers:
        path = path_to(own_lab, servers, server)
        found = first_numbers(own_lab, VIP if whose == "balancer" else server)
        for _ in range(ATTEMPTS):
            with relayed(own_lab, "loss", loss) as told:
                with crafted.connect(own_lab, source=(CLIENT, port_in_time(found)),
                                     timeout=20) as sock:
                    begin = sequence(sock, Repair.RECEIVE)
                    answer = crafted.ask(sock, path)
                    end = sequence(sock, Repair.RECEIVE)
            assert digest(answer.body) == digest(body)
            _, server_begin, server_end = next_result(servers)
            for first, last in ((begin, end), (server_begin, server_end)):
                assert (last - first) % SEQUENCE == length
            assert (told["to_client", "lost"] > 0) == bool(loss)
            wrapped = end < begin if whose == "balancer" else server_end < server_begin
            if wrapped:
                return
        pytest.fail(f"no connection of {ATTEMPTS} has begun in time")


# Timestamps

def unacknowledged(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def move_timestamps(sock, between):
    """Move a socket's clock to TS_MARGIN before its wrap, in two steps, with data in between.

    The other side takes less than half of the circle for a step forward (RFC 7323, 5.2).
    """
    wait_until(lambda: not unacknowledged(sock), what="the last acknowledgement")
    with Repair(sock) as repair:
        now = repair.timestamp()
        repair.set_timestamp((now + (before_wrap(TS_MARGIN) - now) // 2) % SEQUENCE)
    sock.sendall(between)
    wait_until(lambda: not unacknowledged(sock), what="the acknowledgement in between")
    with Repair(sock) as repair:
        repair.set_timestamp(before_wrap(TS_MARGIN))


def timestamp(sock):
    with Repair(sock) as repair:
        return repair.timestamp()


def send_through_wrap(sock, content):
    """Send it, not too fast, while the timestamps of the socket wrap."""
    move_timestamps(sock, content[:1])
    begin = timestamp(sock)
    for start in range(1, len(content), CHUNK):
        sock.sendall(content[start:start + CHUNK])
        time.sleep(PAUSE)
    assert begin > SEQUENCE - 2 * TS_MARGIN
    assert timestamp(sock) < 30000


@contextlib.contextmanager
def nothing_rejected(lab):
    """No kernel rejects a timestamp as an old one, or as one that it did not send."""
    hosts = ("client", "balancer", "backend1", "backend2")

    def rejected():
        text = [lab.exec(host, "nstat", "-asz", "TcpExtPAWS*", "TcpExtTSEcrRejected").stdout
                for host in hosts]
        assert all("PAWSEstab" in found for found in text)
        return text

    before = rejected()
    yield
    assert rejected() == before


@pytest.mark.parametrize("whose", ["client", "server"])
def test_timestamps_wrap(own_lab, whose):
    """In both ways of the data, in a connection that is asked before and afterwards."""
    content = os.urandom(CHUNK) * CHUNKS
    own_lab.up("--no-web")

    def serve(sock):
        """Three requests, of which the second one wraps."""
        read_request(sock)
        sock.sendall(answer_header(0))
        _, received = read_request(sock)
        if whose == "server":
            sock.sendall(answer_header(len(content)))
            send_through_wrap(sock, content)
        else:
            while len(received) < len(content):
                piece = sock.recv(1 << 20)
                assert piece
                received += piece
            sock.sendall(answer_header(0))
        read_request(sock)
        sock.sendall(answer_header(0))
        return received

    with nothing_rejected(own_lab), Servers(own_lab, serve) as servers:
        with crafted.connect(own_lab) as sock:
            assert crafted.ask(sock, "/before").status == 200
            begin = time.monotonic()
            if whose == "server":
                assert crafted.ask(sock, "/wrapped").body == content
            else:
                sock.sendall(crafted.request("/wrapped", f"Content-Length: {len(content)}",
                                             method="PUT"))
                send_through_wrap(sock, content)
                assert crafted.response(sock).status == 200
            assert time.monotonic() - begin < 3
            assert crafted.ask(sock, "/after").status == 200
        received = servers.result()
    assert whose == "server" or received == content


class EarlyClock(CraftedTcp):
    """A client whose timestamps go on by one for each segment, through the wrap."""

    def __init__(self, lab, before):
        super().__init__(lab)
        self.clock = before_wrap(before)

    def tsval(self):
        self.clock = (self.clock + 1) % SEQUENCE
        return self.clock


# How many segments before the wrap: the SYN (1), its ACK, the request, later ones.
@pytest.mark.everywhere
@pytest.mark.parametrize("before", [1, 2, 3, 4, 8])
def test_everything_wraps_at_the_begin(lab, body, before):
    """Sequence number and timestamp of the client, from the handshake on."""
    size = 300000
    with EarlyClock(lab, before + 1) as tcp:
        tcp.connect(isn=before_wrap(10))
        tcp.send(crafted.request("/files/100M.bin", f"Range: bytes=0-{size - 1}"))
        assert tcp.seq < 1000
        data = tcp.read(lambda data: len(data.partition(b"\r\n\r\n")[2]) == size)
        assert data.startswith(b"HTTP/1.1 206 ")
        assert data.partition(b"\r\n\r\n")[2] == body[:size]
        tcp.send(crafted.request("/page/after"))
        assert b"/page/after\n" in tcp.read(lambda data: b"/page/after\n" in data)
        assert tcp.clock < 10000
        tcp.reset()
