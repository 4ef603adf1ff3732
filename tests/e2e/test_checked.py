# SPDX-License-Identifier: GPL-2.0-or-later
"""Every packet on both sides of a bridge, held against its counterpart by tests/checker."""

import contextlib
import hashlib
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

import crafted
from conftest import FILES, TOP, VIP, Lab, wait_until
from peers import Repair, relayed
from support import route_metric, scale_of_server, scales_of, window_scale
from test_protocols import BEHAVIOURS, WWW, Client
from test_wraparound import before_wrap, connect_with, sequence
from test_wraparound import upload as upload_with

BUILD = pathlib.Path(os.environ.get("L3DSR_BUILD", TOP)).resolve()
CHECKER = TOP / "tests/checker/check-splice"
BRIDGE, SERVER = "192.168.33.20", "192.168.33.30"
GROUP = 7
MARK = b"the last packet of this capture"
MARK_PORT = 9

TO_SERVER, TO_CLIENT = "to-server", "to-client"

# The kernel's data plane translates at the last priority there is: what is registered before it
# comes behind it.
INSIDE = f"""
chain input {{
    type filter hook input priority 2147483647
    ip daddr {SERVER} tcp dport 80 log group {GROUP} queue-threshold 1
    udp dport {MARK_PORT} log group {GROUP} queue-threshold 1
}}
chain output {{
    type filter hook output priority -400
    ip saddr {SERVER} tcp sport 80 log group {GROUP} queue-threshold 1
}}
"""

# In the switch: one packet of fifty comes twice, to the client and to the balancer.
TWICE = """
chain to_client {
    type filter hook ingress device cable0 priority 0
    meta protocol ip numgen random mod 50 0 dup to "client"
}
chain from_client {
    type filter hook ingress device cable1 priority 0
    meta protocol ip numgen random mod 50 0 dup to "balancer"
}
"""


class Capture:
    """Both sides of the bridge of backend1."""

    def __init__(self, lab, directory):
        self.lab = lab
        self.files = [directory / "outside.pcap", directory / "inside.pcap"]
        self.logs = [file.with_suffix(".log") for file in self.files]
        self.processes = []

    def start(self):
        for device, file, log in zip(("eth0", f"nflog:{GROUP}"), self.files, self.logs):
            with open(log, "wb") as errors:
                self.processes.append(self.lab.popen(
                    "backend1", "nice", "-n", -15, "tcpdump", "-Z", "root", "-i", device, "-s", 0, "-U",
                    "--immediate-mode", "-B", 16384, "-w", file, stderr=errors))
        for log in self.logs:
            wait_until(lambda: "listening on" in log.read_text(), what="a capture")

    def quiet(self):
        """Nobody has a connection any more, and no packet is on its way through a daemon."""
        def no_connections(host):
            return not self.lab.exec(host, "ss", "-Htan", "state", "connected", "exclude",
                                     "time-wait", "( sport = :80 or dport = :80 )").stdout

        def no_packets(name):
            counters = self.lab.counters(name)
            return counters["packets"] == counters["verdicts"]

        wait_until(lambda: all(map(no_connections, ("client", "backend1"))), timeout=10,
                   what="the end of all connections")
        wait_until(lambda: all(map(no_packets, ("balancer", "bridge1"))), what="empty queues")

    def finish(self):
        """End the captures behind the last packet, which one sent now marks in both."""
        self.quiet()
        with crafted.inside(self.lab, "balancer"), \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(MARK, (BRIDGE, MARK_PORT))
        for file in self.files:
            wait_until(lambda: MARK in file.read_bytes(), what=f"the marker in {file.name}")
        self.stop(signal.SIGINT)
        for log in self.logs:
            assert "\n0 packets dropped by kernel" in log.read_text()

    def stop(self, how):
        for process in self.processes:
            process.send_signal(how)
            process.wait(timeout=10)
        self.processes = []

    def check(self):
        """Run the checker; returns what it counted, by (what, field)."""
        done = subprocess.run([CHECKER, *self.files], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout[:5000] + done.stderr
        counts = {(what, field): int(number) for what, field, number
                  in re.findall(r"^([a-z -]+): (.+) (\d+)$", done.stdout, re.M)}
        # The daemon gives each packet back with its checksum complete; the kernel leaves it to the
        # device, as it always does.
        assert os.environ["L3DSR_DATA_PLANE"] == "kernel" or \
            ("outside to-client", "TCP checksum unfinished") not in counts
        assert ("connections", "direct") not in counts
        assert ("not checked inside", "other addresses") not in counts
        for direction in TO_SERVER, TO_CLIENT:
            # A daemon keeps the order; the kernel lets packets on two processors overtake each other.
            assert os.environ["L3DSR_DATA_PLANE"] == "kernel" or \
                counts[direction, "changed places"] == 0
            assert counts[direction, "seq"] == counts[direction, "packets"]
        for file in self.files:  # those of a test that failed stay
            file.unlink()
        return counts


def tracks(lab, host):
    """Does connection tracking look at the packets of a host?"""
    with crafted.inside(lab, host), \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
        marker.sendto(b"", ("127.0.0.1", MARK_PORT))
    return bool(lab.exec(host, "conntrack", "-D", "-p", "udp", "--dport", MARK_PORT,
                         check=False).stdout)


def log_behind_the_kernel(lab):
    """The rules of the captures, and the bridge's behind them."""
    assert tracks(lab, "backend1")
    lab.exec("backend1", "nft", "delete", "table", "inet", "l3dsr_bridge")
    wait_until(lambda: not tracks(lab, "backend1"), what="the end of connection tracking")
    lab.exec("backend1", "nft", "-f", "-", input=f"table inet checker {{ {INSIDE} }}")
    lab.exec("backend1", BUILD / "lab/load-ruleset", TOP / "nft/bridge.nft")
    wait_until(lambda: "its sets are filled again" in lab.log("bridge1"), what="the sets")


@pytest.fixture(scope="module")
def strict_lab(data_plane, tmp_path_factory):
    """One packet is one packet, and all of them go to backend1."""
    lab = Lab()
    config = tmp_path_factory.mktemp("checked") / "balancer.conf"
    text = re.sub(r"(\"cache1\".*),\n.*\"cache2\".*", r"\1", crafted.template("balancer"))
    assert "cache2" not in text
    config.write_text(text)
    lab.up("--offload", "off", config)
    log_behind_the_kernel(lab)
    yield lab
    lab.finish()


@pytest.fixture
def capture(strict_lab, tmp_path):
    """A capture of what the test does; it calls finish() and check()."""
    capture = Capture(strict_lab, tmp_path)
    try:
        capture.start()
        yield capture
    finally:
        capture.stop(signal.SIGKILL)


def download(lab, size):
    """The first bytes of a file, and whether they are right."""
    with open(FILES / "100M.bin", "rb") as file:
        expected = hashlib.sha256(file.read(size)).hexdigest()
    assert lab.sha256("/files/100M.bin", "--range", f"0-{size - 1}") == expected


def upload(lab, directory, size, method="PUT"):
    """Send a file, and see that the web server has it."""
    name = f"checked-{method}"
    data = os.urandom(size)
    source = directory / name
    source.write_bytes(data)
    path = {"PUT": "upload", "POST": "post"}[method]
    answer = lab.curl(f"/{path}/{name}", "-X", method, "-T", source)
    assert answer.status in (200, 201, 204)
    stored = lab.state / "backend1/upload" / name
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(data).digest()
    stored.unlink()


def test_small_requests(strict_lab, capture, tmp_path):
    with crafted.connect(strict_lab) as sock:
        for number in range(20):
            assert crafted.ask(sock, f"/page/{number}").backend == "backend1"
    with crafted.connect(strict_lab) as sock:
        sock.sendall(crafted.request("/page/half", "Connection: close"))
        sock.shutdown(socket.SHUT_WR)
        how, data = crafted.how_it_ends(sock)
        assert how == "fin" and data.startswith(b"HTTP/1.1 200 ")
    download(strict_lab, 1_000_000)
    upload(strict_lab, tmp_path, 1_000_000, "POST")
    for number in range(10):
        assert crafted.fetch(strict_lab, f"/page/{number}").status == 200
    capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == counts["handshakes", "isn_b of the record"] == 14
    # An offer that has waited is repeated.
    assert counts["handshakes", "SYN"] >= 14
    # The first packet of a client that is far has no timestamps; on a machine that stands still for a
    # moment somebody is.
    far = 14 - counts["handshakes", "ts_b of the record"]
    assert 0 <= far < 14
    # 1 MB each way is some 690 segments.
    assert min(counts[direction, "packets"] for direction in (TO_SERVER, TO_CLIENT)) > 700
    assert counts[TO_SERVER, "TSecr"] == counts[TO_SERVER, "packets"] - far


def test_far_client(strict_lab, capture):
    """Its first packet has no timestamps, and the bridge sends a SYN of its own."""
    with relayed(strict_lab, "delay", 100):
        download(strict_lab, 1_000_000)
        capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == counts["excused inside", "SYN of the bridge's own"] == 1
    assert ("handshakes", "ts_b of the record") not in counts
    assert counts[TO_SERVER, "TSecr"] == counts[TO_SERVER, "packets"] - 1


def in_switch(lab, *command, **options):
    """It is no host of the lab: what stands there is between the hosts."""
    subprocess.run(["ip", "netns", "exec", f"l3dsr-{lab.name}-switch", *command], check=True,
                   text=True, **options)


@contextlib.contextmanager
def lossy(lab):
    """2 % of the packets are lost, and 2 % come twice."""
    lab.impair("loss", 2)
    try:
        in_switch(lab, "nft", "-f", "-", input=f"table netdev twice {{\n{TWICE}\n}}\n")
        try:
            yield
        finally:
            in_switch(lab, "nft", "delete", "table", "netdev", "twice")
    finally:
        lab.impair("off")


def test_loss(strict_lab, capture, tmp_path):
    with lossy(strict_lab):
        download(strict_lab, 5_000_000)
        upload(strict_lab, tmp_path, 5_000_000)
        capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == 2
    assert counts[TO_CLIENT, "packets"] > 3450 and counts[TO_SERVER, "packets"] > 3450
    for direction in TO_SERVER, TO_CLIENT:
        assert counts[direction, "SACK blocks"] > 50
        assert counts[direction, "D-SACK blocks"] > 5


CLIENTS = {
    "no_timestamps": {"tcp_timestamps": 0},
    "no_sack": {"tcp_sack": 0},
    "no_scale": {"tcp_window_scaling": 0},
    "nothing": {"tcp_timestamps": 0, "tcp_sack": 0, "tcp_window_scaling": 0},
}
SCALES = {
    "2_at_the_balancer": ("balancer", 2),
    "2_at_the_server": ("backend1", 2),
    "14_at_the_balancer": ("balancer", 14),
    "none_at_the_server": ("backend1", None),
}


def transfers(lab, capture, directory, settings):
    """A download and an upload under settings of the network.

    Returns the counts, and the window scales that balancer and web server tell.
    """
    with settings:
        download(lab, 1_000_000)
        upload(lab, directory, 1_000_000)
        capture.finish()
        counts = capture.check()
        with crafted.connect(lab) as sock:
            assert crafted.ask(sock, "/page/1").status == 200
            scales = {"balancer": scales_of(sock)[0], "backend1": scale_of_server(lab, sock)}
    assert counts["connections", "spliced"] == 2
    assert counts[TO_CLIENT, "packets"] > 690 and counts[TO_SERVER, "packets"] > 690
    return counts, scales


@pytest.mark.parametrize("client", CLIENTS)
def test_clients(strict_lab, capture, tmp_path, client):
    counts, _ = transfers(strict_lab, capture, tmp_path,
                          crafted.sysctls(strict_lab, "client", **CLIENTS[client]))
    without = client in ("no_timestamps", "nothing")
    for direction in TO_SERVER, TO_CLIENT:
        with_timestamps = counts.get((direction, "TSval"), 0)
        if without:
            assert with_timestamps == 0
        else:
            # But for the first packets of two clients that are far.
            hidden = counts[direction, "packets"] - with_timestamps
            assert 0 <= hidden <= (2 if direction == TO_SERVER else 0)


@pytest.mark.parametrize("scale", SCALES)
def test_window_scales(strict_lab, capture, tmp_path, scale):
    host, shift = SCALES[scale]
    counts, scales = transfers(strict_lab, capture, tmp_path,
                               window_scale(strict_lab, host, shift))
    assert scales[host] == shift
    # All windows of the web server but those of handshakes, which are not among the packets.
    assert counts[TO_CLIENT, "window rescaled"] == counts[TO_CLIENT, "packets"]
    assert counts[TO_SERVER, "window rescaled"] == \
        (counts[TO_SERVER, "packets"] if scale == "none_at_the_server" else 0)
    if scale in ("2_at_the_server", "none_at_the_server"):
        assert counts[TO_CLIENT, "window clamped or rounded"] > 100


def test_reset_by_the_client(strict_lab, capture):
    for _ in range(3):
        sock = crafted.connect(strict_lab)
        sock.sendall(crafted.request("/files/100M.bin"))
        assert sock.recv(300_000)
        crafted.reset_close(sock)
    capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == 3
    assert counts[TO_CLIENT, "packets"] > 20


def workers_of_nginx(lab):
    master = (lab.state / "nginx-backend1.pid").read_text().strip()
    with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as children:
        return {int(pid) for pid in children.read().split()}


def test_reset_by_the_server(strict_lab, capture):
    """Its process dies with bytes that it has not read."""
    worker, = workers_of_nginx(strict_lab)
    with crafted.connect(strict_lab) as sock:
        # Now the connection is that worker's, and not in the queue of the listening socket.
        assert crafted.ask(sock, "/page/1").status == 200
        sock.sendall(crafted.request("/upload/never", "Content-Length: 1000000", method="PUT"))
        peer = f"192.168.33.1:{sock.getsockname()[1]}"
        os.kill(worker, signal.SIGSTOP)
        sock.sendall(bytes(10_000))
        wait_until(lambda: re.search(rf"^ESTAB +[1-9]\d* .*{re.escape(peer)}", strict_lab.exec(
            "backend1", "ss", "-Htan").stdout, re.M), what="bytes that nobody reads")
        os.kill(worker, signal.SIGKILL)
        assert crafted.how_it_ends(sock) == ("reset", b"")
    wait_until(lambda: workers_of_nginx(strict_lab) - {worker}, what="another worker of nginx")
    capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == 1
    # 10,000 bytes are seven segments.
    assert counts[TO_SERVER, "packets"] > 8


# What other tests do, under the checker

def test_recorded_behaviours(strict_lab, capture):
    """The programs of clients of which nginx is the web server."""
    programs = [program for port, program in BEHAVIOURS.values() if port == WWW]
    for program in programs:
        client = Client(strict_lab, VIP, WWW)
        program(client)
        client.close()
    capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == len(programs) >= 20


def test_numbers_that_wrap(strict_lab, capture):
    """Those of the client, in the midst of an upload."""
    body = os.urandom(300_000)
    with connect_with(strict_lab, before_wrap(100_000)) as sock:
        begin = sequence(sock, Repair.SEND)
        upload_with(strict_lab, sock, body)
        assert sequence(sock, Repair.SEND) < begin
    capture.finish()
    counts = capture.check()
    assert counts["connections", "spliced"] == 1
    assert counts[TO_SERVER, "packets"] > 200


@contextlib.contextmanager
def counting(lab, host, *rules):
    """Counters on a host, one for each `TYPE: MATCH`; yields a function that reads them."""
    names = "abcd"[:len(rules)]
    text = "".join(f"counter {name} {{ }}\n" for name in names)
    for name, rule in zip(names, rules):
        where, match = rule.split(": ", 1)
        text += f"chain {name} {{ type filter hook {where}; {match} counter name {name}; }}\n"
    with crafted.nft(lab, host, text, "inet counting"):
        yield lambda: [crafted.nft_packets(lab, host, name, "inet counting") for name in names]


def test_segments_of_536_bytes(strict_lab, capture):
    """All that come are as large as the client has asked for, and no larger."""
    whole = 20 + 32 + 536 - 12  # the MSS counts the timestamps (RFC 6691)
    with route_metric(strict_lab, "client", "advmss", 536), \
            counting(strict_lab, "client", f"input priority 0: ip saddr {VIP} ip length > {whole}",
                     f"input priority 0: ip saddr {VIP} ip length {whole}") as counted:
        download(strict_lab, 300_000)
        larger, equal = counted()
        capture.finish()
    capture.check()
    assert larger == 0
    assert equal >= 300_000 // 536


MARKED = "output priority -450: %s ip ecn set %s"


def test_ecn_bits(strict_lab, capture, tmp_path):
    """Whatever somebody on the way has written into them comes to the other end."""
    from_client, from_server = f"ip daddr {VIP} tcp dport 80", f"ip saddr {SERVER} tcp sport 80"
    with counting(strict_lab, "client", MARKED % (from_client, "ect0"),
                  f"input priority 0: ip saddr {VIP} ip ecn ce",
                  f"input priority 0: ip saddr {VIP} ip ecn != ce") as at_client, \
            counting(strict_lab, "backend1", MARKED % (from_server, "ce"),
                     f"input priority 0: ip daddr {SERVER} ip ecn ect0",
                     f"input priority 0: ip daddr {SERVER} ip ecn != ect0 tcp flags != syn") \
            as at_server:
        download(strict_lab, 100_000)
        upload(strict_lab, tmp_path, 100_000)
        capture.finish()
        sent, came, other = at_client()
        answered, arrived, changed = at_server()
    counts = capture.check()
    assert counts[TO_SERVER, "ecn"] == counts[TO_SERVER, "packets"] > 70
    assert counts[TO_CLIENT, "ecn"] == counts[TO_CLIENT, "packets"] > 70
    assert min(sent, arrived, answered, came) > 70
    # The SYN-ACKs that the client sees are the balancer's.
    assert (other, changed) == (2, 0)
