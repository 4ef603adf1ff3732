# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests of every shape: cut up, out of order, repeated, long, pipelined; and what is seen."""

import hashlib
import itertools
import random
import socket
import threading
import time

import pytest

import crafted
from conftest import FILES, SERVERS, VIP, sha256_of, wait_until
from raw import kernel_counters
from support import (ACK, BRIDGE_OF, CLIENTS, FIN, PSH, CraftedTcp, backends_of, increase, paused,
                     route_metric)

pytestmark = pytest.mark.everywhere

NAMES = [f"/page/name-{number}" for number in range(8)]
CLOSE = "Connection: close"


def assert_page(answer, path):
    """The answer is the page, and the web server saw the client's own address and port."""
    assert answer.status == 200
    assert answer.text == f"{answer.backend} {answer.local} {path}\n"


def test_a_hundred_requests_over_one_connection(lab):
    before = lab.counters("balancer")
    answer = lab.curl("/page/keep-[1-100]")
    lines = [line.split() for line in answer.text.splitlines()]
    assert [uri for _, _, uri in lines] == [f"/page/keep-{number}" for number in range(1, 101)]
    (backend, seen), = {(backend, seen) for backend, seen, _ in lines}
    assert seen == answer.local
    wait_until(lambda: sum(line.startswith(f'{seen} "GET /page/keep-')
                           for line in lab.web_log(backend).splitlines()) == 100)
    grown = increase(lab, "balancer", before)
    assert (grown["requests"], grown["accepted"]) == (1, 1)


@pytest.mark.parametrize("sack, length, pause_ms", [(1, 60, 0), (1, 1000, 0), (1, 400, 1), (1, 300, 3),
                                                    (1, 150, 5), (1, 40, 25), (0, 60, 0), (0, 300, 0)])
def test_a_client_that_types(own_lab, sack, length, pause_ms):
    """Each byte at once, as far as the congestion window goes: the rest waits in the client's kernel.

    Without SACK it has until its retransmission timeout, which is no matter of how slow the machine is here.
    """
    own_lab.up()
    path = "/page/" + "t" * (length - 40)
    text = crafted.request(path)
    with crafted.sysctls(own_lab, "client", tcp_sack=sack), \
            route_metric(own_lab, "client", "rto_min", "200ms" if sack else "1500ms"), \
            crafted.connect(own_lab) as sock:
        begin = time.monotonic()
        for number, octet in enumerate(text):
            sock.sendall(bytes([octet]))
            # The pauses of the client are what is tried here.
            time.sleep(max(0, begin + (number + 1) * pause_ms / 1000 - time.monotonic()))
        assert_page(crafted.response(sock), path)
    counters = own_lab.counters("balancer")
    assert counters["requests"] == 1
    assert counters["held"] >= 8
    assert "requests_timed_out" not in counters


def test_a_client_that_takes_one_byte(lab):
    """What it says of itself does not make the balancer send a packet for each byte."""
    before = lab.counters("balancer")
    with CraftedTcp(lab) as client:
        client.connect(mss=1, sack=False)
        text = crafted.request("/page/" + "x" * 6000, CLOSE)
        for begin in range(0, len(text), 1400):
            client.send(text[begin:begin + 1400])
        client.read(lambda data: b"HTTP/1.1 200 " in data)
        client.reset()
    grown = increase(lab, "balancer", before)
    assert grown["requests"] == 1
    assert 1 <= grown["window_opened"] <= len(text) // 536


def test_single_bytes_of_a_kernel_that_does_not_wait_for_an_ack(lab):
    """Each byte in a packet of its own, whatever a congestion window would say."""
    text = crafted.request("/page/crafted", CLOSE)
    with CraftedTcp(lab) as client:
        client.connect()
        for octet in text:
            client.send(bytes([octet]))
        data = client.read(lambda data: data.endswith(b" /page/crafted\n"))
        client.reset()
    assert data.startswith(b"HTTP/1.1 200 ")
    assert f" {client.address}:{client.port} /page/crafted\n".encode() in data


def shuffled(count):
    order = list(range(count))
    random.Random(1).shuffle(order)
    return order


@pytest.mark.parametrize("timestamps", [True, False], ids=["timestamps", "plain"])
@pytest.mark.parametrize("isn", [1000, 0xfffffffa], ids=["far", "wraps"])
@pytest.mark.parametrize("order", [[1, 0], [2, 1, 0], shuffled(12)], ids=len)
def test_packets_in_the_wrong_order(lab, order, isn, timestamps):
    """The whole request in so many packets."""
    text = crafted.request("/page/disorder", CLOSE)
    size = -(-len(text) // len(order))
    before = lab.counters("balancer")
    with CraftedTcp(lab) as client:
        client.connect(isn=isn, timestamps=timestamps)
        begin = client.seq
        # As repeated packets are: the later one is sent, the younger its timestamp, which decides
        # what the web server takes for old (RFC 7323, 5.3) when it comes in another order.
        clock = itertools.count(client.tsval(), 10)
        client.tsval = lambda: next(clock) % (1 << 32)
        for number in order:
            client.send(text[number * size:(number + 1) * size], seq=begin + number * size)
        client.seq = (begin + len(text)) % (1 << 32)
        data = client.read(lambda data: data.endswith(b" /page/disorder\n"))
        client.reset()
    assert data.startswith(b"HTTP/1.1 200 ")
    assert data.count(b"HTTP/1.1") == 1
    assert increase(lab, "balancer", before)["requests"] == 1


def test_half_a_request_is_sent_twice(lab):
    """The first half is held, so that its repetition is one of held data."""
    text = crafted.request("/page/twice", CLOSE)
    before = lab.counters("balancer")
    with CraftedTcp(lab) as client:
        client.connect()
        half = client.send(text[:12])
        client.resend(half)
        client.send(text[12:])
        data = client.read(lambda data: data.endswith(b" /page/twice\n"))
        client.reset()
    assert data.count(b"HTTP/1.1 200 ") == 1
    grown = increase(lab, "balancer", before)
    assert grown["drop_held_duplicate"] == 1
    assert grown["requests"] == 1


def test_a_whole_request_is_sent_three_times(lab):
    """Whatever the repetitions meet, held or steered, there is one answer."""
    text = crafted.request("/page/thrice")
    with CraftedTcp(lab) as client:
        client.connect()
        whole = client.send(text)
        client.resend(whole)
        client.resend(whole)
        data = client.read(lambda data: data.endswith(b" /page/thrice\n"))
        # One more answer would stand before this one.
        client.send(crafted.request("/page/last"))
        data += client.read(lambda data: data.endswith(b" /page/last\n"))
        client.reset()
    assert data.count(b"HTTP/1.1 200 ") == 2


def test_a_request_is_sent_again_while_it_is_offered(own_lab):
    """The bridge stands still, so the offer is open until the other one gets it."""
    own_lab.up()
    path = NAMES[0]
    backend = crafted.fetch(own_lab, path).backend
    before = own_lab.counters("balancer")
    with CraftedTcp(own_lab) as client, paused(own_lab.pid(BRIDGE_OF[backend])):
        client.connect()
        whole = client.send(crafted.request(path))
        client.resend(whole)
        data = client.read(lambda data: data.endswith(f" {path}\n".encode()))
        client.send(crafted.request("/page/last"))
        data += client.read(lambda data: data.endswith(b" /page/last\n"))
        client.reset()
    other, = set(SERVERS) - {backend}
    assert data.count(b"HTTP/1.1 200 ") == 2
    assert data.count(f"{other} {client.address}:{client.port} ".encode()) == 2
    grown = increase(own_lab, "balancer", before)
    assert grown["drop_held_duplicate"] == 1
    assert grown["open_silent"] == 1


def test_twelve_kilobytes_of_headers(lab):
    headers = [f"X-Filler-{number}: " + "y" * 1000 for number in range(12)]
    with crafted.connect(lab) as sock:
        sock.sendall(crafted.request("/page/headers", *headers))
        assert_page(crafted.response(sock), "/page/headers")


# Length of the target, and how long a segment may be. A client sends ten segments at once.
LONG = {"within": (12000, None), "beyond": (16100, None), "small_segments": (12000, 536)}


@pytest.mark.quiet
@pytest.mark.parametrize("offload", ["on", "off"])
@pytest.mark.parametrize("case", LONG)
def test_long_target(own_lab, case, offload):
    """It must be held as a whole, even if the client waits for an acknowledgement on the way."""
    length, maxseg = LONG[case]
    own_lab.up("--offload", offload)
    path = "/page/" + "x" * (length - 6)
    with crafted.inside(own_lab, "client"):
        sock = socket.socket()
    with sock:
        sock.settimeout(10)
        if maxseg:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, maxseg)
        sock.connect((VIP, 80))
        begin = time.monotonic()
        sock.sendall(crafted.request(path))
        assert_page(crafted.response(sock), path)
        # The client's kernel repeats after 200 ms at the earliest.
        assert time.monotonic() - begin < 0.2
    counters = own_lab.counters("balancer")
    assert counters["requests"] == 1
    assert "fallback_source" not in counters
    if case != "within":
        assert counters["window_opened"] >= 1


def test_what_was_held_is_not_overtaken(own_lab):
    """By what the client says to the first of it, which has a newer timestamp (RFC 7323, 5.3).

    Whether the client is fast enough is a matter of chance, hence ten of them.
    """
    def repeated():
        return own_lab.counters("balancer").get("open_retransmitted", 0)

    own_lab.up("--offload", "off")
    for number in range(10):
        path = f"/page/{number}" + "x" * 16100
        with crafted.connect(own_lab) as sock:
            with paused(*(own_lab.pid(bridge) for bridge in BRIDGE_OF.values())):
                before = repeated()
                sock.sendall(crafted.request(path))
                # By then the client's clock is some 20 ms further.
                wait_until(lambda: repeated() > before, what="a repeated offer")
            assert_page(crafted.response(sock), path)
    assert own_lab.counters("balancer")["held"] >= 10 * 12
    assert not any(kernel_counters(own_lab, backend)["TcpExtPAWSEstab"] for backend in SERVERS)


def test_head(lab):
    with crafted.connect(lab) as sock:
        sock.sendall(crafted.request("/files/1M.bin", method="HEAD"))
        answer = crafted.response(sock, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        # No body follows: what comes next is the next answer.
        sock.sendall(crafted.request("/page/behind-head"))
        assert_page(crafted.response(sock), "/page/behind-head")
    headers = lab.curl("/files/1M.bin", "--head").text.lower()
    assert "content-length: 1000000\r\n" in headers


def body_of(length):
    return random.Random(length).randbytes(length)


def stored(lab, name):
    file, = lab.state.glob(f"backend*/upload/{name}")
    data = file.read_bytes()
    file.unlink()
    return data


def test_a_body_in_the_packet_of_its_header(lab):
    body = body_of(600)
    with CraftedTcp(lab) as client:
        client.connect()
        client.send(crafted.request("/post/small.bin", "Content-Length: 600", CLOSE,
                                    method="POST") + body)
        client.read(lambda data: data.startswith(b"HTTP/1.1 201 ") and b"\r\n\r\n" in data)
        client.reset()
    assert stored(lab, "small.bin") == body


@pytest.mark.parametrize("length", [1, 5000, 300000])
def test_a_body_right_behind_its_header(lab, length):
    body = body_of(length)
    with crafted.connect(lab) as sock:
        sock.sendall(crafted.request("/post/body.bin", f"Content-Length: {length}", CLOSE,
                                     method="POST") + body)
        assert crafted.response(sock).status == 201
    assert stored(lab, "body.bin") == body


def test_pipelined_requests(lab):
    paths = [f"/page/pipe-{number}" for number in range(20)]
    with crafted.connect(lab) as sock:
        sock.sendall(b"".join(crafted.request(path) for path in paths[:-1]) +
                     crafted.request(paths[-1], CLOSE))
        how, data = crafted.how_it_ends(sock)
        local = "{}:{}".format(*sock.getsockname())
    assert how == "fin"
    pages = [line.split() for line in data.decode().splitlines() if line.startswith("backend")]
    assert [page[1:] for page in pages] == [[local, path] for path in paths]
    assert len({page[0] for page in pages}) == 1


def test_absolute_form(lab):
    """The key is the path, however the target is written (RFC 9112, 3.2)."""
    served = backends_of(lab, NAMES)
    assert set(served.values()) == set(SERVERS)
    for path, backend in served.items():
        answer = lab.curl("/ignored", "--request-target", f"http://www.example{path}?query")
        assert_page(answer, path)
        assert answer.backend == backend


def test_the_web_server_sees_the_client(lab):
    seen = set()
    for source in CLIENTS:
        answer = lab.curl("/page/who", "--interface", source)
        assert answer.local.split(":")[0] == source
        assert_page(answer, "/page/who")
        wait_until(lambda: f'{answer.local} "GET /page/who HTTP/1.1" 200 '
                   in lab.web_log(answer.backend))
        seen.add(answer.backend)
    assert len(seen) == 1


def test_half_close_behind_the_request(lab):
    for path in NAMES:
        with crafted.connect(lab) as sock:
            sock.sendall(crafted.request(path))
            sock.shutdown(socket.SHUT_WR)
            assert_page(crafted.response(sock), path)
            assert sock.recv(1) == b""


def test_fin_in_the_packet_of_the_request(lab):
    with CraftedTcp(lab) as client:
        client.connect()
        client.send(crafted.request("/page/fin"), flags=ACK | PSH | FIN)
        data = client.read(lambda data: data.endswith(b" /page/fin\n"))
        client.expect(FIN)
        client.ack += 1
        client.send(flags=ACK)
    assert data.startswith(b"HTTP/1.1 200 ")


def serve_slowly(listener, pieces):
    """A web server for one connection: reads to the end, then answers piece by piece."""
    sock, _ = listener.accept()
    with sock:
        while sock.recv(65536):
            pass
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(0.1)


def test_a_long_answer_to_a_half_closed_connection(own_lab, tmp_path):
    """Longer than a closing connection is kept: the client's acknowledgements keep it alive."""
    template = crafted.template
    crafted.up(own_lab, tmp_path, **{name: crafted.replaced(template(name), "closing_s = 5;",
                                                            "closing_s = 1;")
                                     for name in ("balancer", "bridge1", "bridge2")})
    path = NAMES[0]
    backend = crafted.fetch(own_lab, path).backend
    crafted.stop_nginx(own_lab, backend)
    with crafted.inside(own_lab, backend):
        listener = socket.socket()
    answer = body_of(1000000)
    pieces = [answer[at:at + 40000] for at in range(0, len(answer), 40000)]
    with listener:
        listener.settimeout(10)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((SERVERS[backend], 80))
        listener.listen()
        server = threading.Thread(target=serve_slowly, args=(listener, pieces))
        server.start()
        try:
            with crafted.connect(own_lab) as sock:
                sock.sendall(crafted.request(path))
                sock.shutdown(socket.SHUT_WR)
                assert crafted.how_it_ends(sock) == ("fin", answer)
        finally:
            server.join()


def test_requests_behind_a_large_answer(lab):
    """The connection goes on after 100 MB as before."""
    with crafted.connect(lab) as sock:
        sock.sendall(crafted.request("/files/100M.bin"))
        answer = crafted.response(sock)
        assert hashlib.sha256(answer.body).hexdigest() == sha256_of("100M.bin")
        body = (FILES / "1M.bin").read_bytes()
        sock.sendall(crafted.request("/upload/behind.bin", f"Content-Length: {len(body)}",
                                     method="PUT") + body)
        assert crafted.response(sock).status == 201
        sock.sendall(crafted.request("/page/behind"))
        assert_page(crafted.response(sock), "/page/behind")
    assert stored(lab, "behind.bin") == body
