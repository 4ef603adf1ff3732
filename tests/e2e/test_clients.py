# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that say nothing, too much, or something else; that vanish, crash and come again."""

import re
import struct
import time

import pytest

import crafted
from conftest import SERVERS, VIP, wait_until
from raw import kernel_counters
from support import ACK, RST, SYN, CraftedTcp

HALF = b"GET /page/ha"
REST = b"lf HTTP/1.1\r\nHost: www\r\n\r\n"
BINARY = bytes(range(128, 256)) * 4
CLIENT_HELLO = bytes.fromhex(
    "16030100c8010000c40303" + "5a" * 32 + "20" + "a5" * 32 +
    "0006130113021303" + "01000075") + bytes(117)

FALLBACK = 'index = 1;\n\t\tfallback = "reset";'


def balancer(**changes):
    """The configuration with a short time for requests; keys of limits, or fallback."""
    text = crafted.replaced(crafted.template("balancer"), "request_ms = 2000;",
                            f"request_ms = {changes.pop('request_ms', 400)};")
    if changes.pop("fallback", "source") == "reset":
        text = crafted.replaced(text, "index = 1;", FALLBACK)
    if changes:
        text += "limits = { %s };\n" % " ".join(f"{key} = {value};"
                                                for key, value in changes.items())
    return text


def nothing_left(lab):
    """The balancer holds nothing, and no socket of its kernel waits for anybody."""
    def empty():
        counters = lab.counters("balancer")
        return counters["sockets_now"] == counters["requests_now"] == 0 and \
            counters["packets"] == counters["verdicts"]

    wait_until(empty, what="empty tables")
    wait_until(lambda: not lab.exec("balancer", "ss", "-Htan", "state", "close-wait").stdout,
               what="the end of sockets in CLOSE-WAIT")


def test_a_silent_client_is_sent_away(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path, balancer=balancer())
    with crafted.connect(own_lab) as sock:
        begin = time.monotonic()
        assert crafted.how_it_ends(sock) == ("fin", b"")
        assert 0.3 < time.monotonic() - begin < 1.5
    assert own_lab.counters("balancer")["sockets_closed"] == 1
    nothing_left(own_lab)


# What is sent, and the counter that says what was wrong with it.
ODD = {
    "binary": (BINARY, "requests_not_recognised"),
    "client_hello": (CLIENT_HELLO, "requests_not_recognised"),
    "no_newline": (b"A" * 20000, "requests_not_recognised"),
    "endless_target": (b"GET /" + b"a" * 20000, "requests_too_long"),
    "half_and_fin": (HALF, "requests_not_recognised"),
}


def send_all(sock, data):
    """All of it, unless the other side ends the connection in between."""
    try:
        sock.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        pass


@pytest.fixture(scope="module", params=["source", "reset"])
def odd_lab(data_plane, request, tmp_path_factory):
    """A lab whose service has that fallback, and the fallback."""
    text = balancer(fallback=request.param, request_bytes=8192)
    with crafted.running(tmp_path_factory.mktemp("lab"), balancer=text) as lab:
        yield lab, request.param


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_request(odd_lab, odd):
    lab, fallback = odd_lab
    data, counter = ODD[odd]
    before = lab.counters("balancer")
    with crafted.connect(lab) as sock:
        send_all(sock, data)
        if odd == "half_and_fin":
            sock.shutdown(1)
        if fallback == "reset":
            assert crafted.how_it_ends(sock) == ("reset", b"")
        elif odd == "half_and_fin":
            assert crafted.how_it_ends(sock) == ("fin", b"")
        else:
            # Its answer may be followed by a reset, because it does not read the rest.
            assert re.match(rb"HTTP/1.1 4\d\d ", crafted.how_it_ends(sock)[1])
    crafted.counted(lab, "balancer", before, **{counter: 1, f"fallback_{fallback}": 1})
    nothing_left(lab)


def test_half_a_request(odd_lab):
    """In time it is a request like any other; too late, the fallback decides."""
    lab, fallback = odd_lab
    before = lab.counters("balancer")
    with crafted.connect(lab) as sock:
        sock.sendall(HALF)
        crafted.counted(lab, "balancer", before, held=1)
        sock.sendall(REST)
        assert crafted.response(sock).status == 200
    crafted.counted(lab, "balancer", before, requests=1)
    with crafted.connect(lab) as sock:
        sock.sendall(HALF)
        crafted.counted(lab, "balancer", before, requests_timed_out=1,
                        **{f"fallback_{fallback}": 1})
        if fallback == "reset":
            assert crafted.how_it_ends(sock) == ("reset", b"")
        else:
            sock.sendall(REST)
            assert crafted.response(sock).status == 200
    nothing_left(lab)


@pytest.mark.parametrize("headers", [b"X-Long: " + b"a" * 40000, b"X: y\r\n" * 20000])
def test_endless_headers_are_for_the_web_server(odd_lab, headers):
    """The path is all that the balancer wants to know."""
    lab, _ = odd_lab
    before = lab.counters("balancer")
    with crafted.connect(lab) as sock:
        send_all(sock, b"GET /page/1 HTTP/1.1\r\n" + headers)
        assert re.match(rb"HTTP/1.1 4\d\d ", crafted.how_it_ends(sock)[1])
    crafted.counted(lab, "balancer", before, requests=1, accepted=1)
    nothing_left(lab)


@pytest.mark.parametrize("odd_lab", ["source"], indirect=True)
def test_one_client_has_one_fallback(odd_lab):
    """Without a key the client's address is the key: one client, one backend."""
    lab, _ = odd_lab
    seen = {}
    for number in range(101, 121):
        for _ in range(2):
            with crafted.connect(lab, source=(f"192.168.33.{number}", 0)) as sock:
                sock.sendall(b"?\r\n\r\n")
                backend, = re.findall(rb"X-Backend: (\w+)", crafted.how_it_ends(sock)[1])
                assert seen.setdefault(number, backend) == backend
    assert set(seen.values()) == {b"backend1", b"backend2"}


def test_requests_are_bounded(own_lab, tmp_path):
    """Snooping, and no bare ACK: there is no socket to be evicted before the request."""
    # Time enough for the five on a busy machine, before the first of the eight is over.
    text = balancer(requests=8, request_ms=5000, fallback="reset") + 'handshake = "snoop";\n'
    crafted.up(own_lab, tmp_path, balancer=text)
    socks = []
    for _ in range(8):
        socks.append(crafted.connect(own_lab))
        socks[-1].sendall(HALF)
    wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 8)
    for _ in range(5):
        with CraftedTcp(own_lab) as tcp:
            tcp.seq = 1000
            tcp.send(flags=SYN, ack=0, options=struct.pack("!BBH", 2, 4, 1460))
            tcp.ack = tcp.expect(SYN | ACK).seq + 1
            tcp.send(crafted.request("/page/1"))
            assert tcp.expect(RST).seq == tcp.ack
    crafted.counted(own_lab, "balancer", {}, requests_refused=5)
    assert own_lab.log("balancer").count("limits.requests are held") == 1
    for sock in socks:
        assert crafted.how_it_ends(sock) == ("reset", b"")
        sock.close()
    assert crafted.fetch(own_lab, "/page/1").status == 200
    assert own_lab.counters("balancer")["requests_timed_out"] == 8
    nothing_left(own_lab)


def test_silent_clients_cannot_keep_others_out(own_lab, tmp_path):
    """The oldest of them go when the table is full."""
    crafted.up(own_lab, tmp_path, balancer=balancer(requests=8, request_ms=60000))
    socks = []
    for number in range(40):
        socks.append(crafted.connect(own_lab))
        assert crafted.fetch(own_lab, f"/page/{number}").status == 200
    wait_until(lambda: own_lab.counters("balancer")["sockets_evicted"] >= 32, what="room for all")
    assert own_lab.counters("balancer")["sockets_now"] <= 8
    for sock in socks[:32]:
        assert crafted.how_it_ends(sock) == ("fin", b"")
    assert crafted.ask(socks[-1], "/page/late").status == 200
    for sock in socks:
        sock.close()
    nothing_left(own_lab)


def test_silent_clients_cannot_cut_off_a_request(own_lab, tmp_path):
    """A connection that has sent half of its request is not evicted in favour of silent ones."""
    crafted.up(own_lab, tmp_path, balancer=balancer(requests=8, request_ms=60000))
    with crafted.connect(own_lab) as slow:
        slow.sendall(HALF)
        wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 1)
        silent = [crafted.connect(own_lab) for _ in range(20)]
        wait_until(lambda: own_lab.counters("balancer").get("sockets_evicted", 0) >= 12)
        slow.sendall(REST)
        assert crafted.response(slow).status == 200
    for sock in silent:
        sock.close()
    nothing_left(own_lab)


def test_handshakes_that_are_forgotten(own_lab, tmp_path):
    """The table of what was seen in passing is bounded; who fell out of it is known by its socket."""
    crafted.up(own_lab, tmp_path, balancer=balancer(request_ms=60000, handshakes=4) +
               'handshake = "snoop";\n')
    socks = [crafted.connect(own_lab) for _ in range(20)]
    counters = own_lab.counters("balancer")
    assert (counters["handshakes"], counters["handshakes_now"]) == (20, 4)
    assert counters["handshakes_evicted"] == 16
    assert own_lab.log("balancer").count("limits.handshakes wait for a request") == 1
    for number, sock in enumerate(socks):
        assert crafted.ask(sock, f"/page/{number}").status == 200
        sock.close()
    counters = own_lab.counters("balancer")
    assert (counters["handshake_by_socket"], counters["handshake_by_snoop"]) == (16, 4)
    assert counters["accepted"] == 20
    nothing_left(own_lab)


@pytest.mark.quiet
@pytest.mark.parametrize("leave", ["fin", "reset"])
def test_clients_that_come_and_go(own_lab, leave):
    """Without a word: what is left of them is taken away long before timeouts.request_ms."""
    own_lab.up()
    begin = time.monotonic()
    for _ in range(50):
        sock = crafted.connect(own_lab)
        if leave == "reset":
            crafted.reset_close(sock)
        sock.close()
    nothing_left(own_lab)
    assert time.monotonic() - begin < 1.5
    assert not own_lab.exec("balancer", "ss", "-Htn").stdout


def keep_open(lab, port):
    sock = crafted.connect(lab, source=(crafted.CLIENT, port))
    answer = crafted.ask(sock, f"/page/{port}")
    assert (answer.status, answer.seen) == (200, f"{crafted.CLIENT}:{port}")
    return sock


def end_by_server(lab, port):
    with crafted.connect(lab, source=(crafted.CLIENT, port)) as sock:
        assert crafted.ask(sock, f"/page/{port}", "Connection: close").status == 200
        assert crafted.how_it_ends(sock) == ("fin", b"")


def end_by_fin(lab, port):
    keep_open(lab, port).close()


def end_by_reset(lab, port):
    crafted.reset_close(keep_open(lab, port))


def left_behind(lab):
    """States of the web servers' sockets, and of the connections that their kernels translate."""
    sockets = [state for backend in SERVERS
               for state in crafted.server_connections(lab, backend, 7777)]
    tracked = [line.split()[3] for backend in SERVERS
               for line in lab.exec(backend, "conntrack", "-L", "-p", "tcp", "--sport",
                                    7777).stdout.splitlines()]
    return sockets, tracked


@pytest.mark.parametrize("end, sockets, tracked", [
    (end_by_server, ["TIME-WAIT"], ["TIME_WAIT"]),
    (end_by_fin, [], ["TIME_WAIT"]),
    (end_by_reset, [], ["CLOSE"]),
])
def test_a_port_is_used_again(own_lab, data_plane, end, sockets, tracked):
    """At once and many times over, with what the ones before have left on the web server's host.

    The client keeps no TIME-WAIT, so that it can.
    """
    own_lab.up()
    before = kernel_counters(own_lab, "client")["TcpExtTCPSynRetrans"]
    with crafted.sysctls(own_lab, "client", tcp_max_tw_buckets=0):
        for _ in range(12):
            end(own_lab, 7777)
            # Until its FIN is acknowledged the client's kernel has the port itself.
            wait_until(lambda: not own_lab.exec("client", "ss", "-Htan", "sport", "=",
                                                ":7777").stdout, what="the free port")
            wait_until(lambda: left_behind(own_lab) == (
                sockets, tracked if data_plane == "kernel" else []))
    assert kernel_counters(own_lab, "client")["TcpExtTCPSynRetrans"] == before
    counters = own_lab.counters("balancer")
    assert counters["accepted"] == 12
    assert counters["flows_reused"] == 11
    assert counters["flows_now"] <= 1
    assert own_lab.counters("bridge1").get("flows_now", 0) + \
        own_lab.counters("bridge2").get("flows_now", 0) <= 2


def crash_silent(sock):
    pass


def crash_in_request(sock):
    sock.sendall(HALF)


def crash_idle(sock):
    assert crafted.ask(sock, "/page/1").status == 200


def crash_in_download(sock):
    sock.sendall(crafted.request("/files/100M.bin"))
    assert sock.recv(100000)


def crash_in_upload(sock):
    sock.sendall(crafted.request("/upload/never", "Content-Length: 1000000", method="PUT"))
    sock.sendall(bytes(100000))


@pytest.mark.parametrize("crash", [crash_silent, crash_in_request, crash_idle, crash_in_download,
                                   crash_in_upload])
def test_a_port_is_used_again_after_a_crash(own_lab, crash):
    """The client vanishes without a word, and comes again from the same port."""
    own_lab.up()
    sock = crafted.connect(own_lab, source=(crafted.CLIENT, 7777))
    crash(sock)
    vanish = "chain in { type filter hook input priority 0; tcp dport 7777 drop; }\n" \
             "chain out { type filter hook output priority 0; tcp sport 7777 drop; }"
    with crafted.nft(own_lab, "client", vanish):
        crafted.reset_close(sock)
    answer = crafted.fetch(own_lab, "/page/again", source=(crafted.CLIENT, 7777))
    assert (answer.status, answer.seen) == (200, f"{crafted.CLIENT}:7777")
    assert answer.seconds < 2.5
    nothing_left(own_lab)


def test_many_clients_crash(own_lab):
    """Connections whose other end is gone are forgotten by everybody, with or without new ones."""
    own_lab.up()
    socks = [keep_open(own_lab, 7000 + number) for number in range(20)]
    vanish = "chain out { type filter hook output priority 0; tcp sport 7000-7100 drop; }"
    with crafted.nft(own_lab, "client", vanish):
        for sock in socks:
            crafted.reset_close(sock)
    for number in range(20):
        assert crafted.fetch(own_lab, "/page/1", source=(crafted.CLIENT, 7000 + number),
                             timeout=5).status == 200
    assert own_lab.counters("balancer")["accepted"] == 40


SECOND_VIP = "192.168.33.11"


def with_second_vip(name):
    text = crafted.template(name)
    body = text[text.index("services = (") + len("services = ("):text.rindex(");")].strip()
    second = body.replace('"www"', '"second"').replace(VIP, SECOND_VIP) \
        .replace("index = 1;", "index = 2;")
    assert second.count(SECOND_VIP) == 1
    return text.replace(body, f"{body},\n\t{second}")


def test_two_vips_and_one_client_port(own_lab, tmp_path):
    """The web server cannot tell them apart by the client's port: it sees another one."""
    crafted.up(own_lab, tmp_path, **{name: with_second_vip(name)
                                     for name in ("balancer", "bridge1", "bridge2")})
    own_lab.exec("balancer", "ip", "address", "add", f"{SECOND_VIP}/24", "dev", "eth0")
    source = (crafted.CLIENT, 7777)
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab, source=source) as first, \
            crafted.connect(own_lab, source=source, vip=SECOND_VIP) as second:
        for _ in range(3):
            answers = [crafted.ask(sock, path) for sock in (first, second)]
            assert [answer.backend for answer in answers] == ["backend1"] * 2
            assert answers[0].seen == f"{crafted.CLIENT}:7777"
            assert re.fullmatch(rf"{crafted.CLIENT}:\d+", answers[1].seen)
            assert answers[1].seen != answers[0].seen
        counters = own_lab.counters("bridge1")
        assert counters["port_changed"] == 1
        wait_until(lambda: all(own_lab.web_log("backend1").count(f'{answer.seen} "GET {path} ') == 3
                               for answer in answers), what="both ports in the web server's log")
    assert own_lab.counters("balancer")["accepted"] == own_lab.counters("bridge1")["spliced"] + \
        own_lab.counters("bridge2").get("spliced", 0)
