# SPDX-License-Identifier: GPL-2.0-or-later
"""Protocols in which the server speaks first: connections are handed over with the client's ACK."""

import concurrent.futures
import contextlib
import socket
import struct
import time

import pytest

import crafted
from conftest import SERVERS, VIP
from crafted import CLIENT
from peers import Servers, losing, read_all, relayed

PORT = 25
SERVICE = """
	{
		name = "mail"; address = "192.168.33.10"; port = 25; index = 1; protocol = "tcp";
		speaks = "server"; pool = "caches";
	},
"""


def configurations(settings=""):
    texts = {"balancer": settings + crafted.replaced(crafted.template("balancer"), "services = (",
                                                     f"services = ({SERVICE}")}
    for number, name in enumerate(("bridge1", "bridge2")):
        server = list(SERVERS.values())[number]
        texts[name] = crafted.replaced(crafted.template(name), "services = (", f"""services = (
            {{ name = "mail"; index = 1; vip = "{VIP}"; port = {PORT}; server = "{server}";
               server_port = {PORT}; }},""")
    return texts


def mail(sock):
    """A server with the manners of SMTP; returns whom it has served, and with what."""
    peer = sock.getpeername()
    with contextlib.suppress(ConnectionResetError):
        sock.sendall(b"220 mail\r\n")
        said = b""
        while not said.endswith(b"QUIT\r\n"):
            piece = sock.recv(4096)
            if not piece:
                break
            said += piece
        sock.sendall(b"221 " + said.replace(b"\r\n", b" ") + b"\r\n")
        return peer, said
    return peer, None


@pytest.fixture(scope="module", params=["snoop", "socket"])
def mail_lab(request, data_plane, tmp_path_factory):
    directory = tmp_path_factory.mktemp("mail")
    texts = configurations(f'handshake = "{request.param}";\n')
    with crafted.running(directory, **texts) as lab:
        yield lab


@pytest.fixture
def servers(mail_lab):
    with Servers(mail_lab, mail, port=PORT) as running:
        yield running


def new_socket(lab, source=(CLIENT, 0), timeout=20):
    with crafted.inside(lab, "client"):
        sock = socket.socket()
    sock.settimeout(timeout)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(source)
    return sock


def connect(lab, source=(CLIENT, 0), timeout=20):
    sock = new_socket(lab, source, timeout)
    sock.connect((VIP, PORT))
    return sock


def talk(sock):
    """What both say; the client waits for its turn."""
    assert sock.recv(100) == b"220 mail\r\n"
    sock.sendall(b"EHLO me\r\n")
    sock.sendall(b"QUIT\r\n")
    assert read_all(sock) == b"221 EHLO me QUIT \r\n"


def tcp_statistic(lab, host, name):
    """A number of /proc/net/netstat."""
    lines = lab.exec(host, "cat", "/proc/net/netstat").stdout.splitlines()
    names, values = ([line.split() for line in lines if line.startswith("TcpExt:")])
    return int(values[names.index(name)])


def test_greeting(mail_lab, servers):
    before = mail_lab.counters("balancer")
    rejected = [tcp_statistic(mail_lab, host, "TSEcrRejected") for host in SERVERS]
    begin = time.monotonic()
    for _ in range(20):
        with connect(mail_lab) as sock:
            talk(sock)
            assert servers.result() == (sock.getsockname(), b"EHLO me\r\nQUIT\r\n")
    # The web server's kernel takes it amiss if what the ACK echoes is one tick off.
    assert time.monotonic() - begin < 10
    assert [tcp_statistic(mail_lab, host, "TSEcrRejected") for host in SERVERS] == rejected
    crafted.counted(mail_lab, "balancer", before, accepted=20, requests=20, handshake_by_snoop=20,
                    handshake_by_socket=0, ack_completed=20, ack_asked_for=0)


def test_a_client_that_does_not_wait(mail_lab, servers):
    """Its words are held behind the ACK, and so is its FIN."""
    with connect(mail_lab) as sock:
        sock.sendall(b"EHLO me\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"220 mail\r\n221 EHLO me \r\n"
    with connect(mail_lab) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"220 mail\r\n221 \r\n"


def test_lost_ack(mail_lab, servers):
    """The kernel repeats its SYN-ACK, and the client its ACK."""
    with losing(mail_lab, "ack"):
        begin = time.monotonic()
        with connect(mail_lab) as sock:
            talk(sock)
        assert 0.9 < time.monotonic() - begin < 2


def test_lost_behind_the_balancer(mail_lab, servers):
    """The web server repeats its SYN-ACK, the bridge sends that on, and the client repeats its ACK."""
    lose = """counter lost { }
        chain lose {
            type filter hook prerouting priority -500
            ip dscp 1 tcp flags == ack tcp dport 25 limit rate 1/hour burst 1 packets \\
                counter name lost drop
        }"""
    with contextlib.ExitStack() as stack:
        for backend in SERVERS:
            stack.enter_context(crafted.nft(mail_lab, backend, lose))
        before = [mail_lab.counters(name).get("syn_acks_passed", 0) for name in ("bridge1", "bridge2")]
        begin = time.monotonic()
        with connect(mail_lab) as sock:
            talk(sock)
        assert 0.9 < time.monotonic() - begin < 2
        assert sum(crafted.nft_packets(mail_lab, backend, "lost") for backend in SERVERS) == 1
        after = [mail_lab.counters(name).get("syn_acks_passed", 0) for name in ("bridge1", "bridge2")]
        assert sum(after) - sum(before) == 1


def greeted(lab, count):
    """That many clients at once, as patient as TCP is.

    Of those with a loss of 10 % every 200th waits for the SYN-ACK of the seventh second, as it would for that of a
    server without a balancer, and every 5,000th for that of the 31st.
    """
    sources = [f"192.168.33.{101 + number % 20}" for number in range(count)]
    with concurrent.futures.ThreadPoolExecutor(count) as pool:

        def one(source):
            with connect(lab, (source, 0), timeout=100) as sock:
                talk(sock)

        list(pool.map(one, sources))


@pytest.mark.parametrize("settings", [("delay", 3), ("delay", 20, "loss", 10), ("delay", 160)],
                         ids=["near", "lossy", "far"])
def test_networks(mail_lab, servers, settings):
    """Over a way of some milliseconds, a bad one, and one that is so long that the web server's kernel
    shall not measure it."""
    with relayed(mail_lab, *settings):
        greeted(mail_lab, 20)


def test_the_same_port_again(mail_lab, servers):
    """While its last connection is still closing, and after one that was reset."""
    source = new_socket(mail_lab).getsockname()
    for reset in (True, False, True, True):
        with connect(mail_lab, source) as sock:
            talk(sock)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if not reset:
            source = (source[0], source[1] + 1)


def test_syn_cookies(mail_lab, servers):
    with crafted.sysctls(mail_lab, "balancer", tcp_syncookies=2):
        greeted(mail_lab, 10)


def test_nobody_serves(mail_lab):
    """Both web servers refuse: so does the VIP."""
    before = mail_lab.counters("balancer")
    with new_socket(mail_lab) as sock, pytest.raises(ConnectionResetError):
        sock.connect((VIP, PORT))  # may have come back before the reset
        sock.recv(1)
    crafted.counted(mail_lab, "balancer", before, open_refused=2, no_backend=1)


def test_forgotten_handshakes(own_lab, tmp_path):
    """More SYNs than there is room for: what is not known any more is asked for."""
    crafted.up(own_lab, tmp_path, **configurations("limits = { handshakes = 1; };\n"))
    with Servers(own_lab, mail, port=PORT), relayed(own_lab, "delay", 50):
        greeted(own_lab, 10)
    counters = own_lab.counters("balancer")
    assert counters["accepted"] == 10
    assert counters["ack_asked_for"] >= 1
    assert counters["ack_asked_for"] == counters["handshake_by_socket"]
