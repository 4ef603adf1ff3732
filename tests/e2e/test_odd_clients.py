# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that stop reading, read or write slowly, have large packets, or windows of other scales."""

import contextlib
import hashlib
import itertools
import socket
import subprocess
import threading
import time

import pytest

import crafted
from conftest import FILES, HOSTS, SERVERS, VIP
from peers import Servers, answer_header, read_request, relayed
from support import scale_of_server, scales_of, window_scale

pytestmark = pytest.mark.plain

SIZE = 5000000

ALL_SCALES = (2, 7, 10, 14)


@pytest.fixture(scope="module")
def body():
    with open(FILES / "100M.bin", "rb") as file:
        return file.read(SIZE)


def digest(data):
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def scales(lab, **shifts):
    """The window scales that the kernels of hosts tell."""
    with contextlib.ExitStack() as stack:
        for host, shift in shifts.items():
            stack.enter_context(window_scale(lab, host, shift))
        yield


def request_download(sock):
    sock.sendall(crafted.request("/files/100M.bin", f"Range: bytes=0-{SIZE - 1}"))


def request_upload(sock, size=SIZE):
    sock.sendall(crafted.request("/upload/odd", f"Content-Length: {size}", method="PUT"))


def stored(lab, name="odd"):
    """The hash of what was uploaded, which is gone then."""
    path, = [path for backend in SERVERS
             if (path := lab.state / backend / "upload" / name).exists()]
    data = path.read_bytes()
    path.unlink()
    return digest(data)


# Windows that close

@contextlib.contextmanager
def zero_windows(lab, host, side):
    """Counts windows of 0: told by the client itself, or by the VIP as the client sees it."""
    hook, match = {"output": ("output", f"ip daddr {VIP}"),
                   "input": ("input", f"ip saddr {VIP}")}[side]
    rules = f"""counter zero {{ }}
        chain c {{
            type filter hook {hook} priority 0
            {match} tcp flags & (syn | rst) == 0 tcp window 0 counter name zero
        }}"""
    with crafted.nft(lab, host, rules):
        yield lambda: crafted.nft_packets(lab, host, "zero")


def test_client_that_stops_reading(lab, body):
    """Its window closes, and the web server waits; it opens, and the rest comes."""
    with zero_windows(lab, "client", "output") as told, crafted.connect(lab) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        request_download(sock)
        # Two: the one that closes it, and what a probe of the web server is answered with.
        crafted.wait_until(lambda: told() >= 2, what="the closed window")
        begin = time.monotonic()
        answer = crafted.response(sock)
        assert time.monotonic() - begin < 5
    assert (answer.status, digest(answer.body)) == (206, digest(body))


class StoppingServer:
    """Reads nothing of an upload until it may, then all of it."""

    def __init__(self, buffer=None, size=SIZE):
        self.go_on = threading.Event()
        self.buffer = buffer
        self.size = size

    def prepare(self, listener):
        if self.buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)

    def serve(self, sock):
        _, data = read_request(sock)
        assert self.go_on.wait(20)
        while len(data) < self.size:
            piece = sock.recv(1 << 20)
            assert piece, f"the end came after {len(data)} bytes"
            data += piece
        sock.sendall(answer_header(0))
        return digest(data)


def upload_in_thread(sock, body):
    thread = threading.Thread(target=sock.sendall, args=(body,))
    thread.start()
    return thread


@pytest.mark.parametrize("balancer, server", [(10, 10), (10, 2), (2, 10), (7, 10), (14, 10)])
def test_server_that_stops_reading(own_lab, body, balancer, server):
    """Also where the window is rescaled: one that is open there must not stay closed here."""
    own_lab.up("--no-web")
    web = StoppingServer(buffer=65536 if balancer == 10 else None)
    with scales(own_lab, balancer=balancer, backend1=server, backend2=server), \
            Servers(own_lab, web.serve, web.prepare) as servers, \
            zero_windows(own_lab, "client", "input") as told, crafted.connect(own_lab) as sock:
        request_upload(sock)
        thread = upload_in_thread(sock, body)
        crafted.wait_until(lambda: told() >= 2, what="the closed window")
        begin = time.monotonic()
        web.go_on.set()
        assert servers.result() == digest(body)
        assert crafted.response(sock).status == 200
        # A probe may have to come first, and waits for twice as long as the last one.
        assert time.monotonic() - begin < 5
        thread.join()


def test_server_with_a_small_buffer(own_lab, body):
    """Its window is smaller than one unit of what the client was told, and still it is open."""
    own_lab.up("--no-web")
    web = StoppingServer(buffer=8192, size=100000)
    web.go_on.set()
    with scales(own_lab, balancer=14), Servers(own_lab, web.serve, web.prepare) as servers, \
            crafted.connect(own_lab) as sock:
        request_upload(sock, size=web.size)
        sock.sendall(body[:web.size])
        assert servers.result(20) == digest(body[:web.size])
        assert crafted.response(sock).status == 200


# Slow peers

def test_slow_reader(lab, body):
    """2 MB a second, in small pieces from a small buffer."""
    with crafted.connect(lab) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        request_download(sock)
        data = b""
        begin = time.monotonic()
        while len(data) < 2000000:
            data += sock.recv(20000)
            time.sleep(max(0, len(data) / 2e6 - (time.monotonic() - begin)))
    header, _, content = data.partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 206 ")
    assert content == body[:len(content)]


def test_slow_writer(lab):
    """A request byte by byte, and its body as well."""
    body = b"slow and steady" * 10
    with crafted.connect(lab) as sock:
        for octet in crafted.request("/upload/slow", f"Content-Length: {len(body)}",
                                     method="PUT") + body:
            sock.sendall(bytes([octet]))
            time.sleep(0.005)
        assert crafted.response(sock).status == 201
    assert stored(lab, "slow") == digest(body)


def test_slow_server(own_lab):
    """An answer byte by byte, to several clients at once."""
    body = bytes(range(200))

    def serve(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_request(sock)
        for octet in answer_header(len(body)) + body:
            sock.sendall(bytes([octet]))
            time.sleep(0.005)

    own_lab.up("--no-web")
    with Servers(own_lab, serve):
        answers = crafted.fetch_all(own_lab, [f"/slow/{number}" for number in range(10)])
    assert [answer.body for answer in answers.values()] == [body] * 10


# Large packets

@contextlib.contextmanager
def long_packets(lab, host):
    """Counts packets of more than 8,000 bytes that arrive on a host as they are on the wire."""
    rules = """counter long { }
        chain c {
            type filter hook prerouting priority -500
            ip length 8001-9000 counter name long
        }"""
    with crafted.nft(lab, host, rules):
        yield lambda: crafted.nft_packets(lab, host, "long")


def set_mtu(lab, mtu, hosts):
    """On both ends of the cables of these hosts, and in the switch."""
    switch = f"l3dsr-{lab.name}-switch"
    for device in ("cable0", "cable1", *hosts):
        subprocess.run(["ip", "-n", switch, "link", "set", device, "mtu", str(mtu)], check=True)
    for host in hosts:
        lab.exec(host, "ip", "link", "set", "eth0", "mtu", mtu)


@pytest.mark.parametrize("hosts, jumbo", [(HOSTS, True), (["client"], False),
                                          (["client", "backend1", "backend2"], True)],
                         ids=["everywhere", "client", "client-backends"])
def test_mtu_9000(own_lab, body, hosts, jumbo):
    """Where both ends of the answer's way have it the answer uses it, and nothing breaks anywhere.

    The balancer tells the client what to send, so it must not have a larger MTU than its backends.
    """
    own_lab.up("--offload", "off")
    set_mtu(own_lab, 9000, hosts)
    with long_packets(own_lab, "client") as told:
        answer = crafted.fetch(own_lab, "/files/100M.bin", f"Range: bytes=0-{SIZE - 1}")
        assert (answer.status, digest(answer.body)) == (206, digest(body))
        assert (told() > 100) == jumbo
    with contextlib.ExitStack() as stack:
        counts = [stack.enter_context(long_packets(own_lab, backend)) for backend in SERVERS]
        with crafted.connect(own_lab) as sock:
            request_upload(sock)
            sock.sendall(body)
            assert crafted.response(sock).status == 201
        assert stored(own_lab) == digest(body)
        assert (sum(told() for told in counts) > 100) == (hosts == HOSTS)


# Windows of other scales: no faster than the smaller one allows, and not much slower. Ten times as slow
# is noticed.

FACTOR, SLACK = 3, 0.5
SHORT = {(2, 14), (14, 2), (10, 7), (2, 10)}
SCALES = [pytest.param(*pair, marks=() if pair in SHORT else pytest.mark.long)
          for pair in itertools.permutations(ALL_SCALES, 2)]


def timed(lab, vip, expected, transfer):
    """The seconds of a transfer; `expected` are the scales of peer, client and web server."""
    begin = time.monotonic()
    with crafted.connect(lab, vip=vip, timeout=30) as sock:
        transfer(lab, sock)
        seconds = time.monotonic() - begin
        assert (*scales_of(sock), scale_of_server(lab, sock)) == expected
    return seconds


def uploading(body):
    def transfer(lab, sock):
        request_upload(sock)
        sock.sendall(body)
        assert crafted.response(sock).status == 201
        assert stored(lab) == digest(body)
    return transfer


def downloading(body):
    def transfer(_, sock):
        request_download(sock)
        answer = crafted.response(sock)
        assert (answer.status, digest(answer.body)) == (206, digest(body))
    return transfer


def assert_as_fast(steered, direct):
    print(f"{steered:.3f} s, directly {direct:.3f} s")
    assert steered <= FACTOR * direct + SLACK


@pytest.mark.quiet
@pytest.mark.parametrize("balancer, server", SCALES)
def test_other_scales(lab, body, balancer, server):
    """On a network with a round trip of 10 ms, compared with a web server of the smaller scale."""
    smaller = min(balancer, server)
    both = (uploading(body), downloading(body))
    with relayed(lab, "delay", 5):
        with scales(lab, backend1=smaller, backend2=smaller):
            direct = [timed(lab, SERVERS["backend1"], (smaller, 10, smaller), transfer)
                      for transfer in both]
        with scales(lab, balancer=balancer, backend1=server, backend2=server):
            steered = [timed(lab, VIP, (balancer, 10, server), transfer) for transfer in both]
    for times in zip(steered, direct):
        assert_as_fast(*times)


@pytest.mark.parametrize("client, balancer, server", [
    (2, 14, 7), pytest.param(14, 2, 10, marks=pytest.mark.long),
    pytest.param(7, 10, 14, marks=pytest.mark.long),
    pytest.param(10, 7, 2, marks=pytest.mark.long)])
def test_download_with_other_scales(lab, body, client, balancer, server):
    """The client's own scale is all that counts."""
    with relayed(lab, "delay", 5), scales(lab, client=client):
        direct = timed(lab, SERVERS["backend1"], (10, client, 10), downloading(body))
        with scales(lab, balancer=balancer, backend1=server, backend2=server):
            steered = timed(lab, VIP, (balancer, client, server), downloading(body))
    assert_as_fast(steered, direct)
