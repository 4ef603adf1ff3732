# SPDX-License-Identifier: GPL-2.0-or-later
"""What the TCP peers are told of each other: window scales, options, segment sizes, and resets."""

import errno
import hashlib
import time

import pytest
from scapy.layers.inet import TCP

import crafted
from conftest import FILES, SERVERS, VIP, wait_until
from support import increase, paused, route_metric, window_scale

SIZE = 6000000
CHUNK = 65536


@pytest.fixture(scope="module")
def body():
    """What is fetched and sent: the begin of a large file."""
    with open(FILES / "100M.bin", "rb") as file:
        return file.read(SIZE)


def download(lab, body):
    answer = crafted.fetch(lab, "/files/100M.bin", f"Range: bytes=0-{SIZE - 1}")
    assert answer.status == 206
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def upload(lab, body):
    name = "translated"
    with crafted.connect(lab) as sock:
        sock.sendall(crafted.request(f"/upload/{name}", f"Content-Length: {SIZE}", method="PUT"))
        sock.sendall(body)
        assert crafted.response(sock).status == 201
    stored, = [lab.state / backend / "upload" / name for backend in SERVERS
               if (lab.state / backend / "upload" / name).exists()]
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(body).digest()
    stored.unlink()


def both_ways(lab, body):
    download(lab, body)
    upload(lab, body)


def scales_differ(lab):
    return sum(lab.counters(name).get("scales_differ", 0) for name in ("bridge1", "bridge2"))


@pytest.mark.parametrize("server", [0, 2, 7, 10, None])
@pytest.mark.parametrize("balancer", [0, 2, 7, 10, None])
def test_window_scales(lab, body, balancer, server):
    with window_scale(lab, "balancer", balancer), window_scale(lab, "backend1", server), \
            window_scale(lab, "backend2", server):
        before = scales_differ(lab)
        with crafted.Capture(lab, "client") as capture:
            assert crafted.fetch(lab, "/page/1").status == 200
            syn_ack = capture.find(crafted.is_syn_ack)
        assert crafted.tcp_option(syn_ack, "WScale") == balancer
        both_ways(lab, body)
        # Without scaling towards the client there is none towards the web server; and without
        # scaling is the same as a scale of 0.
        differ = balancer is not None and balancer != (server or 0)
        assert scales_differ(lab) - before == (3 if differ else 0)


@pytest.mark.everywhere
@pytest.mark.parametrize("names", [["tcp_timestamps"], ["tcp_sack"], ["tcp_window_scaling"],
                                   ["tcp_timestamps", "tcp_sack"],
                                   ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"]])
@pytest.mark.parametrize("host", ["client", "balancer"])
def test_without_options(lab, body, host, names):
    """What one side does not do, the other one is not told of."""
    with crafted.sysctls(lab, host, **{name: 0 for name in names}):
        both_ways(lab, body)


@pytest.mark.parametrize("names", [["tcp_sack"], ["tcp_window_scaling"],
                                   ["tcp_sack", "tcp_window_scaling"]])
def test_web_server_without_options(lab, body, names):
    """The client was told of SACK and scaling already; it can live without either."""
    settings = {name: 0 for name in names}
    with crafted.sysctls(lab, "backend1", **settings), crafted.sysctls(lab, "backend2", **settings):
        both_ways(lab, body)


@pytest.mark.everywhere
def test_small_segments_to_the_client(lab, body):
    with route_metric(lab, "client", "advmss", 536):
        with crafted.Capture(lab, "balancer") as capture:
            assert crafted.fetch(lab, "/page/1").status == 200
            offer = capture.find(lambda p: crafted.is_syn(p) and p.dst != VIP)
        assert crafted.tcp_option(offer, "MSS") == 536
        both_ways(lab, body)


@pytest.mark.everywhere
def test_small_segments_from_the_client(lab, body):
    with route_metric(lab, "balancer", "advmss", 536):
        both_ways(lab, body)


def test_ecn_is_not_negotiated(lab, body):
    """The balancer's kernel must not agree for a web server that it does not know yet."""
    with crafted.sysctls(lab, "client", tcp_ecn=1):
        with crafted.Capture(lab, "client") as capture:
            assert crafted.fetch(lab, "/page/1").status == 200
            syn = capture.find(crafted.is_syn)
            syn_ack = capture.find(crafted.is_syn_ack)
        assert "E" in syn[TCP].flags and "C" in syn[TCP].flags
        assert "E" not in syn_ack[TCP].flags
        both_ways(lab, body)


def send_until_reset(sock):
    """Send until the connection is reset; returns the seconds that took."""
    begin = time.monotonic()
    try:
        while True:
            sock.sendall(bytes(CHUNK))
    except (ConnectionResetError, BrokenPipeError):
        return time.monotonic() - begin


def assert_reset(sock):
    """The next word of the client on this connection is answered with a reset, and soon."""
    begin = time.monotonic()
    sock.sendall(crafted.request("/page/again"))
    assert crafted.how_it_ends(sock) == ("reset", b"")
    assert time.monotonic() - begin < 1


@pytest.mark.everywhere
@pytest.mark.only("userspace")
@pytest.mark.parametrize("name", ["balancer", "bridge1"])
def test_a_restarted_daemon_resets_what_it_does_not_know(own_lab, name):
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as idle, crafted.connect(own_lab) as upload:
        assert crafted.ask(idle, path).status == 200
        assert crafted.ask(upload, path).status == 200
        upload.sendall(crafted.request("/upload/never", "Content-Length: 1000000000", method="PUT"))
        upload.sendall(bytes(1000000))
        own_lab.daemon("kill", name)
        own_lab.daemon("start", name)
        assert_reset(idle)
        assert send_until_reset(upload) < 3
    assert crafted.fetch(own_lab, path).backend == "backend1"


@pytest.mark.only("userspace")
def test_a_download_is_reset_when_the_balancer_forgot_it(own_lab):
    own_lab.up()
    with crafted.connect(own_lab) as sock:
        sock.sendall(crafted.request("/files/500M.bin"))
        assert len(sock.recv(CHUNK)) > 0
        own_lab.daemon("kill", "balancer")
        own_lab.daemon("start", "balancer")
        begin = time.monotonic()
        with pytest.raises(OSError) as caught:
            while sock.recv(CHUNK):
                pass
        assert caught.value.errno == errno.ECONNRESET
        assert time.monotonic() - begin < 3


@pytest.mark.everywhere
@pytest.mark.parametrize("flags, answered", [("A", True), ("PA", True), ("FA", True), ("R", False),
                                             ("RA", False), ("S", False), ("SA", False)])
def test_packets_of_unknown_connections(lab, flags, answered):
    """The reset has the number that the sender expects; no reset and no SYN is answered."""
    seq, ack = 0x12345678, 0x9abcdef0
    with crafted.Offer(lab) as offer, crafted.Capture(lab, "client") as capture:
        before = lab.counters("bridge1")
        crafted.send_ip(lab, "balancer", offer.packet(flags, seq, ack))
        if not answered:
            counter = "drop_no_record" if "S" in flags else "drop_unknown"
            crafted.counted(lab, "bridge1", before, **{counter: 1})
            assert lab.counters("bridge1").get("unknown_reset", 0) == before.get("unknown_reset", 0)
            return
        crafted.counted(lab, "bridge1", before, unknown_reset=1)
        reset = capture.find(lambda p: TCP in p and p[TCP].dport == offer.client[1])
        assert (reset.src, reset[TCP].sport, reset.dst) == (VIP, 80, offer.client[0])
        assert (reset[TCP].flags, reset[TCP].seq, reset[TCP].ack) == ("R", ack, 0)


def test_packets_are_received_and_answered_in_batches(lab):
    """All that has come while the daemon stood still, of one connection and so for one queue."""
    def waiting():
        lines = lab.exec("backend1", "cat", "/proc/net/netfilter/nfnetlink_queue").stdout
        return sum(int(line.split()[2]) for line in lines.splitlines())

    before = lab.counters("bridge1")
    with crafted.Offer(lab) as offer, paused(lab.pid("bridge1")):
        for number in range(64):
            crafted.send_ip(lab, "balancer", offer.packet("A", number, 1))
        wait_until(lambda: waiting() == 64, what="64 packets in the queue")
    crafted.counted(lab, "bridge1", before, unknown_reset=64)
    grown = increase(lab, "bridge1", before)
    assert grown["packets"] == grown["verdicts"] == 64
    assert grown["packet_batches"] <= 4
    assert grown["verdict_batches"] <= 16
