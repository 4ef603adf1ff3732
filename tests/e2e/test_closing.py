# SPDX-License-Identifier: GPL-2.0-or-later
"""The ends of connections: halves, both at once, by reset, by silence; and late beginnings."""

import contextlib
import errno
import hashlib
import os
import select
import socket
import struct
import threading
import time

import pytest

import crafted
from conftest import DAEMONS, VIP, wait_until
from peers import Servers, answer_header, nothing_left, read_all, read_request, relayed
from support import ACK, RST, SYN, CraftedTcp, build_segment, paused

CLOSING_S = 1
IDLE_S = 2
AT_ONCE = 0.15

CHUNK = 20000
CHUNKS = 30
CONTENT = os.urandom(CHUNK) * CHUNKS

# States of the kernel: a FIN came, our own is not sent; or it is sent and not acknowledged.
CLOSE_WAIT, CLOSING = 8, 11


def tcp_state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def short(name, idle_s=IDLE_S, closing_s=CLOSING_S):
    """A daemon's configuration with short times for connections."""
    text = crafted.replaced(crafted.template(name), "closing_s = 5;", f"closing_s = {closing_s};")
    return crafted.replaced(text, "idle_s = 60;", f"idle_s = {idle_s};")


def short_up(lab, directory, *arguments, open_ms=1000):
    """Bring up a lab with short times."""
    files = []
    for name in DAEMONS:
        files.append(directory / f"{name}.conf")
        files[-1].write_text(short(name).replace("open_ms = 1000;", f"open_ms = {open_ms};"))
    lab.up(*arguments, *files)


@pytest.fixture
def short_lab(own_lab, tmp_path):
    """A lab with short times and without web servers."""
    short_up(own_lab, tmp_path, "--no-web")
    return own_lab


def send_slowly(sock):
    """CONTENT, over three times the closing timeout."""
    pause = 3 * CLOSING_S / CHUNKS
    for begin in range(0, len(CONTENT), CHUNK):
        sock.sendall(CONTENT[begin:begin + CHUNK])
        time.sleep(pause)


def assert_content(data):
    assert len(data) == len(CONTENT)
    assert hashlib.sha256(data).digest() == hashlib.sha256(CONTENT).digest()


# One side says FIN, the other one goes on

@pytest.mark.everywhere
def test_half_closed_download(short_lab):
    """The client's acknowledgements keep what it has closed alive."""
    def serve(sock):
        _, rest = read_request(sock)
        assert rest + read_all(sock) == b""
        sock.sendall(answer_header(len(CONTENT)))
        send_slowly(sock)

    with Servers(short_lab, serve) as servers:
        with crafted.connect(short_lab) as sock:
            sock.sendall(crafted.request("/slow"))
            sock.shutdown(socket.SHUT_WR)
            data = read_all(sock)
        servers.result()
    assert_content(data.partition(b"\r\n\r\n")[2])
    nothing_left(short_lab)


def test_half_closed_upload(short_lab):
    """The server has said all it has to say, and its FIN; it goes on to read."""
    def serve(sock):
        _, rest = read_request(sock)
        sock.sendall(answer_header())
        sock.shutdown(socket.SHUT_WR)
        return rest + read_all(sock)

    with Servers(short_lab, serve) as servers:
        with crafted.connect(short_lab) as sock:
            sock.sendall(crafted.request("/upload", f"Content-Length: {len(CONTENT)}",
                                         method="PUT"))
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")
            send_slowly(sock)
        assert_content(servers.result())
    nothing_left(short_lab)


def test_close_by_the_server_first(short_lab):
    """The client takes longer than the closing timeout to say FIN itself; nobody is reset."""
    def serve(sock):
        read_request(sock)
        sock.sendall(answer_header())
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with Servers(short_lab, serve) as servers:
        with crafted.connect(short_lab) as sock:
            sock.sendall(crafted.request("/first"))
            assert read_all(sock).startswith(b"HTTP/1.1 200 ")
            # Longer than the closing timeout, shorter than the idle one.
            time.sleep((CLOSING_S + IDLE_S) / 2)
            assert tcp_state(sock) == CLOSE_WAIT
        assert servers.result() == b""
    nothing_left(short_lab)


@pytest.mark.everywhere
def test_simultaneous_close(short_lab):
    """Both FINs are on the way at the same time: each side goes through CLOSING."""
    ready = threading.Barrier(2)
    states = []

    def close(sock):
        ready.wait(10)
        sock.shutdown(socket.SHUT_WR)
        # Until the other FIN is there the state is FIN-WAIT-1.
        assert read_all(sock) == b""
        states.append(tcp_state(sock))

    def serve(sock):
        read_request(sock)
        sock.sendall(answer_header(0))
        close(sock)

    with relayed(short_lab, "delay", 200), Servers(short_lab, serve) as servers:
        with crafted.connect(short_lab) as sock:
            sock.sendall(crafted.request("/together"))
            assert crafted.response(sock).status == 200
            close(sock)
        servers.result()
    assert states == [CLOSING, CLOSING]
    nothing_left(short_lab)


# Resets

def reset_within(sock, begin):
    """Wait for the reset of the other side; it must come at once."""
    with pytest.raises(ConnectionResetError):
        read_all(sock)
    assert time.monotonic() - begin() < AT_ONCE


@pytest.mark.quiet
@pytest.mark.parametrize("when", ["idle", "download"])
def test_reset_by_the_client(short_lab, when):
    begin = []

    def serve(sock):
        read_request(sock)
        if when == "idle":
            sock.sendall(answer_header(0))
            return reset_within(sock, lambda: begin[0])
        sock.sendall(answer_header())
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                sock.sendall(CONTENT)
        return time.monotonic() - begin[0]

    with Servers(short_lab, serve) as servers:
        sock = crafted.connect(short_lab)
        sock.sendall(crafted.request("/reset"))
        assert sock.recv(100)
        begin.append(time.monotonic())
        crafted.reset_close(sock)
        seconds = servers.result()
        assert when == "idle" or seconds < AT_ONCE
    nothing_left(short_lab)


@pytest.mark.quiet
@pytest.mark.parametrize("when", ["before_answer", "idle", "download", "upload"])
def test_reset_by_the_server(short_lab, when):
    """The client sees it at once."""
    go_on, begin = threading.Event(), []

    def serve(sock):
        _, rest = read_request(sock)
        if when in ("idle", "download"):
            sock.sendall(answer_header(0 if when == "idle" else 1 << 30))
        if when == "download":
            sock.sendall(CONTENT)
        if when == "upload" and not rest:
            assert sock.recv(CHUNK)
        assert go_on.wait(10)
        begin.append(time.monotonic())
        crafted.reset_close(sock)

    with Servers(short_lab, serve) as servers:
        with crafted.connect(short_lab) as sock:
            length = ["Content-Length: 1000000000"] if when == "upload" else []
            sock.sendall(crafted.request("/reset", *length))
            if when in ("idle", "download"):
                assert sock.recv(100)
            if when == "upload":
                sock.sendall(CONTENT[:CHUNK])
            go_on.set()
            reset_within(sock, lambda: begin[0])
        servers.result()
    nothing_left(short_lab)


# Silence

def keep_alive(sock):
    """A probe a second; given up after two that are not answered."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1),
                          (socket.TCP_KEEPCNT, 2)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


@pytest.mark.parametrize("side", ["client", "server"])
def test_keepalive_probes(short_lab, side):
    """They are answered, and a connection that is idle for longer than idle_s lives by them."""
    seconds = IDLE_S + 2

    def serve(sock):
        if side == "server":
            keep_alive(sock)
        for _ in range(2):
            read_request(sock)
            sock.sendall(answer_header(0))

    counted = """counter probes { }
        chain c {
            type filter hook output priority -500
            %s 80 tcp flags == ack counter name probes
        }""" % ("tcp dport" if side == "client" else "tcp sport")
    with Servers(short_lab, serve), contextlib.ExitStack() as stack:
        hosts = ["client"] if side == "client" else ["backend1", "backend2"]
        for host in hosts:
            stack.enter_context(crafted.nft(short_lab, host, counted))
        with crafted.connect(short_lab) as sock:
            if side == "client":
                keep_alive(sock)
            assert crafted.ask(sock, "/1").status == 200

            def count():
                return sum(crafted.nft_packets(short_lab, host, "probes") for host in hosts)

            before = count()
            assert not select.select([sock], [], [], seconds)[0]
            assert seconds - 2 <= count() - before <= seconds + 1
            assert crafted.ask(sock, "/2").status == 200
    nothing_left(short_lab)


def test_keepalive_finds_a_client_that_is_gone(short_lab):
    def serve(sock):
        keep_alive(sock)
        read_request(sock)
        sock.sendall(answer_header(0))
        with pytest.raises(OSError) as caught:
            sock.recv(1)
        return caught.value.errno

    with Servers(short_lab, serve) as servers:
        sock = crafted.connect(short_lab)
        assert crafted.ask(sock, "/1").status == 200
        port = sock.getsockname()[1]
        with crafted.nft(short_lab, "client", "chain c { type filter hook input priority 0; "
                         f"tcp dport {port} drop; }}"):
            assert servers.result() == errno.ETIMEDOUT
        crafted.reset_close(sock)
    nothing_left(short_lab)


def forgotten(lab, **expected):
    """Wait until neither daemon has a flow, and hold what both bridges together have counted."""
    def counted():
        counters = [lab.counters(name) for name in DAEMONS]
        total = {key: sum(c.get(key, 0) for c in counters) for key in ("flows_now", *expected)}
        return total["flows_now"] == 0 and total

    total = wait_until(counted, what="empty tables")
    assert {key: total[key] for key in expected} == expected


@pytest.mark.everywhere
@pytest.mark.only("userspace")
def test_an_ended_connection_is_forgotten_soon(own_lab, tmp_path):
    """Whatever idle_s is."""
    crafted.up(own_lab, tmp_path, **{name: short(name, idle_s=60) for name in DAEMONS})
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, "/page/1", "Connection: close").status == 200
        assert crafted.how_it_ends(sock) == ("fin", b"")
    forgotten(own_lab, flows_ended=1, splices_ended=1, flows_idle=0, splices_idle=0)


@pytest.mark.everywhere
@pytest.mark.only("userspace")
def test_an_idle_connection_is_forgotten(own_lab, tmp_path):
    """Whatever closing_s is; its next request is answered with a reset."""
    crafted.up(own_lab, tmp_path, **{name: short(name, idle_s=1, closing_s=60)
                                     for name in DAEMONS})
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        forgotten(own_lab, flows_ended=0, splices_ended=0, flows_idle=1, splices_idle=1)
        sock.sendall(crafted.request("/page/2"))
        assert crafted.how_it_ends(sock) == ("reset", b"")


def test_end_that_nobody_acknowledges(own_lab, tmp_path):
    """The web server repeats its FIN. That is not the client's, so the connection is not over for closing_s."""
    crafted.up(own_lab, tmp_path, **{
        name: crafted.replaced(crafted.template(name), "closing_s = 5;", f"closing_s = {CLOSING_S};")
        for name in DAEMONS})
    with CraftedTcp(own_lab) as tcp:
        tcp.connect(isn=1000)
        tcp.send(crafted.request("/page/1", "Connection: close"))
        last, pause = time.monotonic(), 0
        # The bridge looks every closing_s.
        while pause < 2 * CLOSING_S + 0.5:
            segment = tcp.receive(timeout=10)
            assert segment, f"nothing more came after a pause of {pause:.1f} s"
            assert not segment.flags & RST
            now = time.monotonic()
            last, pause = now, now - last
        assert segment.payload.endswith(b"/page/1\n")
        tcp.reset()


# SYNs that come twice

MSS = struct.pack("!BBH", 2, 4, 1460)


def first_page(tcp, syn_ack, path):
    """Complete the handshake, and ask."""
    tcp.ack = syn_ack.seq + 1
    tcp.send(flags=ACK)
    tcp.send(crafted.request(path))
    assert tcp.read(lambda data: f"{path}\n".encode() in data).startswith(b"HTTP/1.1 200 ")


def begin(tcp, isn, path):
    """A connection without other options, and its first page. Returns the SYN."""
    tcp.seq = isn
    syn = tcp.send(flags=SYN, ack=0, options=MSS)
    first_page(tcp, tcp.expect(SYN | ACK), path)
    return syn


def test_syn_repeated_with_the_same_number(lab):
    """One connection, whichever SYN-ACK the client answers."""
    before = lab.counters("balancer")
    with CraftedTcp(lab) as tcp:
        tcp.seq = 1000
        syn = tcp.send(flags=SYN, ack=0, options=MSS)
        first = tcp.expect(SYN | ACK)
        tcp.resend(syn)
        second = tcp.expect(SYN | ACK)
        assert (first.seq, first.ack) == (second.seq, second.ack)
        first_page(tcp, first, "/page/1")
        # Late: the connection is steered by now. The balancer's kernel takes it for the begin of
        # another one, which the client's challenge does not confirm.
        tcp.resend(syn)
        other = tcp.expect(SYN | ACK)
        assert other.seq != first.seq
        tcp.send(flags=ACK)
        tcp.send(crafted.request("/page/2"))
        assert tcp.read(lambda data: b"/page/2\n" in data).startswith(b"HTTP/1.1 200 ")
        tcp.reset()
    crafted.counted(lab, "balancer", before, accepted=1, flows_reused=0)


def test_syn_repeated_with_another_number(lab):
    """A client that begins anew before its first handshake is over."""
    with CraftedTcp(lab) as tcp:
        tcp.seq = 1000
        tcp.send(flags=SYN, ack=0, options=MSS)
        first = tcp.expect(SYN | ACK)
        assert first.ack == 1001
        tcp.seq = 0x40000000
        syn = tcp.send(flags=SYN, ack=0, options=MSS)
        # What acknowledges the old SYN is answered as RFC 9293, 3.10.7.3 says.
        old = tcp.expect(ACK)
        assert old.ack == 1001
        tcp.send(flags=RST, seq=old.ack, ack=0)

        def begun_anew():
            """As a client does that gets no answer, but sooner: the SYN may overtake the RST."""
            tcp.resend(syn)
            while segment := tcp.receive(0.2):
                if segment.flags & (SYN | ACK) == SYN | ACK and segment.ack == 0x40000001:
                    return segment
            return None

        first_page(tcp, wait_until(begun_anew, what="an answer to the second SYN"), "/page/1")
        tcp.reset()


@pytest.mark.parametrize("answered", [True, False])
def test_port_used_again_behind_a_late_syn(lab, answered):
    """
    The balancer's kernel still waits for an answer to the SYN that came late: it says so, and has said so
    before the new SYN comes, or could not yet.
    """
    before = lab.counters("balancer")
    with CraftedTcp(lab) as tcp:
        syn = begin(tcp, 1000, "/page/1")
        with contextlib.nullcontext() if answered else paused(lab.pid("balancer")):
            tcp.resend(syn)
            if answered:
                tcp.expect(SYN | ACK)
                tcp.send(flags=ACK)
            tcp.seq = 0x40000000
            syn = tcp.send(flags=SYN, ack=0, options=MSS)

        def begun_anew():
            """As a client does that waits for a SYN-ACK: what acknowledges anything else is reset."""
            tcp.resend(syn)
            while segment := tcp.receive(0.6):
                if segment.flags & (SYN | ACK) == SYN | ACK and segment.ack == 0x40000001:
                    return segment
                if segment.flags & (ACK | RST) == ACK:
                    assert segment.ack == 1001
                    tcp.send(flags=RST, seq=segment.ack, ack=0)
            return None

        first_page(tcp, wait_until(begun_anew, what="an answer to the new SYN"), "/page/2")
        tcp.reset()
    crafted.counted(lab, "balancer", before, accepted=2, flows_reused=1)


def test_port_used_again_before_a_late_syn(lab):
    """The SYN that comes late, or from somebody else, does not end the handshake that is in progress."""
    before = lab.counters("balancer")
    with CraftedTcp(lab) as tcp:
        late = begin(tcp, 1000, "/page/1")
        tcp.seq = 0x40000000
        tcp.send(flags=SYN, ack=0, options=MSS)
        answer = tcp.expect(SYN | ACK)
        tcp.resend(late)
        # It says that it waits for the new one's ACK.
        assert tcp.expect(ACK).ack == 0x40000001
        first_page(tcp, answer, "/page/2")
        tcp.reset()
    crafted.counted(lab, "balancer", before, accepted=2, flows_reused=1)


def test_port_used_again_without_an_ack(lab):
    """The request completes the handshake. It comes twice before a bridge has answered, and counts once."""
    before = lab.counters("balancer")
    with CraftedTcp(lab) as tcp:
        tcp.connect(isn=1000)
        tcp.send(crafted.request("/page/1"))
        assert tcp.read(lambda data: b"/page/1\n" in data).startswith(b"HTTP/1.1 200 ")
        tcp.seq = 0x40000000
        tcp.send(flags=SYN, ack=0, options=MSS)
        tcp.timestamps = False
        tcp.ack = tcp.expect(SYN | ACK).seq + 1
        with paused(lab.pid("balancer")):
            tcp.resend(tcp.send(crafted.request("/page/2")))
        tcp.read(lambda data: b"/page/2\n" in data)
        tcp.reset()
    crafted.counted(lab, "balancer", before, accepted=2, flows_reused=1, drop_held_duplicate=1)


@pytest.mark.only("kernel")
def test_port_used_again_with_a_doubled_request(lab):
    """The copy has waited for the daemon since before the handover: it does not go the way of the old one."""
    paths = [crafted.path_of(lab, backend) for backend in ("backend1", "backend2")]
    before = lab.counters("balancer")
    with CraftedTcp(lab) as tcp, crafted.nft(lab, "backend1", f"""
            counter astray {{ }}
            chain prerouting {{
                type filter hook prerouting priority -400
                tcp sport {tcp.port} tcp sequence >= 0x40000000 counter name astray
            }}"""):
        tcp.connect(isn=1000)
        tcp.send(crafted.request(paths[0]))
        tcp.read(lambda data: data.endswith(f"{paths[0]}\n".encode()))
        tcp.seq = 0x40000000
        tcp.send(flags=SYN, ack=0, options=MSS)
        tcp.timestamps = False
        tcp.ack = tcp.expect(SYN | ACK).seq + 1
        with paused(lab.pid("balancer")):
            request = tcp.send(crafted.request(paths[1]))
            # Many batches of something else, in which the bridge answers.
            for number in range(2000):
                tcp.resend(build_segment(tcp.address, VIP, 1000 + number, 80, 1, 0, RST, 0, b"", b""))
            tcp.resend(request)
        tcp.read(lambda data: data.endswith(f"{paths[1]}\n".encode()))
        crafted.counted(lab, "balancer", before, open_sent=2, accepted=2)
        tcp.reset()
        assert crafted.nft_packets(lab, "backend1", "astray") == 0


def test_syn_that_is_taken_back(lab):
    """A client that leaves before the answer refuses that; the connection before it is not concerned."""
    before = lab.counters("balancer")
    with CraftedTcp(lab) as tcp:
        tcp.connect(isn=1000)
        tcp.send(crafted.request("/page/1"))
        assert tcp.read(lambda data: b"/page/1\n" in data).startswith(b"HTTP/1.1 200 ")
        tcp.send(flags=SYN, seq=0x40000000, ack=0, options=MSS)
        assert tcp.expect(SYN | ACK).ack == 0x40000001

        def half_open():
            return lab.exec("balancer", "ss", "-Htan", "state", "syn-recv",
                            f"dport = {tcp.port}").stdout

        assert half_open()
        tcp.send(flags=RST, seq=0x40000001, ack=0)
        wait_until(lambda: not half_open(), what="the end of the handshake")
        tcp.send(crafted.request("/page/2"))
        assert tcp.read(lambda data: b"/page/2\n" in data).startswith(b"HTTP/1.1 200 ")
        tcp.reset()
    crafted.counted(lab, "balancer", before, accepted=1, flows_reused=0)


# Backends that are late

# In front of the bridge's own rules. The record has no TCP options before it, and its type is its
# fourth byte.
EARLY = """chain out {
        type filter hook output priority -500
        tcp sport 80 tcp flags & (syn | ack) == (syn | ack) drop
    }"""
ABORTS = """counter aborts { }
    chain in {
        type filter hook prerouting priority -500
        tcp flags == syn tcp doff 5 ip length 128 @th,184,8 2 counter name aborts drop
    }"""


def assert_other_backend(lab, answer):
    assert (answer.status, answer.backend) == (200, "backend2")
    assert 0.3 < answer.seconds < 0.9
    port = answer.local.split(":")[1]
    wait_until(lambda: not crafted.server_connections(lab, "backend1", port),
               what="the end of the late connection")


@pytest.mark.quiet
def test_bridge_that_is_late(own_lab, tmp_path):
    """It finds the offer and its end in the queue, and opens nothing that stays open."""
    short_up(own_lab, tmp_path)
    path = crafted.path_of(own_lab, "backend1")
    before = own_lab.counters("bridge1")
    with crafted.connect(own_lab) as sock:
        with paused(own_lab.pid("bridge1")):
            begin = time.monotonic()
            answer = crafted.ask(sock, path)
            answer.seconds = time.monotonic() - begin
        assert_other_backend(own_lab, answer)
        # The connection goes on with the backend that it has.
        assert crafted.ask(sock, path).backend == "backend2"
    crafted.counted(own_lab, "bridge1", before, opens=1, aborts=1)
    nothing_left(own_lab)


@pytest.mark.quiet
def test_web_server_that_is_late(own_lab, tmp_path):
    """Its SYN-ACK comes when the other backend has the connection, and is answered with a reset.

    The kernel repeats it after a second. The bridge, which the ABORT did not reach, has given up by
    itself before.
    """
    short_up(own_lab, tmp_path, open_ms=700)
    path = crafted.path_of(own_lab, "backend1")
    before = own_lab.counters("bridge1")
    with crafted.nft(own_lab, "backend1", ABORTS, "inet abort"):
        with crafted.nft(own_lab, "backend1", EARLY):
            answer = crafted.fetch(own_lab, path)
        assert_other_backend(own_lab, answer)
        assert crafted.nft_packets(own_lab, "backend1", "aborts", "inet abort") == 1
    crafted.counted(own_lab, "bridge1", before, opens=1, opens_refused=1, injected=1)
    nothing_left(own_lab)


def test_web_server_that_is_late_for_a_patient_bridge(own_lab, tmp_path):
    """The ABORT was lost, and the bridge takes the connection: it is told once more."""
    crafted.up(own_lab, tmp_path, bridge1=crafted.replaced(
        crafted.template("bridge1"), "open_ms = 1000;", "open_ms = 3000;"))
    path = crafted.path_of(own_lab, "backend1")
    wait_until(lambda: own_lab.counters("bridge1")["flows_now"] == 0, 15, "an empty table")
    before = {name: own_lab.counters(name) for name in ("balancer", "bridge1")}
    with crafted.nft(own_lab, "backend1", EARLY), \
            crafted.nft(own_lab, "backend1", ABORTS, "inet abort"):
        answer = crafted.fetch(own_lab, path)
        assert crafted.nft_packets(own_lab, "backend1", "aborts", "inet abort") == 1
    assert_other_backend(own_lab, answer)
    crafted.counted(own_lab, "bridge1", before["bridge1"], opens=1, spliced=1, aborts=1)
    crafted.counted(own_lab, "balancer", before["balancer"], abort_sent=1, abort_repeated=1,
                    answers_late=1)
    nothing_left(own_lab)
