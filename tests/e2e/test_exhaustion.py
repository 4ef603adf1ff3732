# SPDX-License-Identifier: GPL-2.0-or-later
"""Something is used up: a clean refusal, a counter, one line in the log, and recovery."""

import contextlib
import errno
import os
import re
import resource
import select
import socket
import struct
import subprocess

import pytest

import crafted
from conftest import DAEMONS, VIP, sha256_of, wait_until
from flooding import memory_kb
from raw import kernel_counters
from support import ACK, BRIDGE_OF, RST, SYN, CraftedTcp, increase, paused
from test_daemons import command
from test_load import many_files
from test_reload import taken, with_second

# They take the machine for themselves, and the times of tests beside them would not hold.
pytestmark = pytest.mark.alone


def with_limits(name, text=None, **limits):
    """The configuration of a daemon of the lab with these limits."""
    settings = " ".join(f"{key} = {value};" for key, value in limits.items())
    return f"{text or crafted.template(name)}limits = {{ {settings} }};\n"


def patient():
    """The configuration of a balancer that waits longer for requests than clients for a SYN-ACK."""
    return crafted.replaced(crafted.template("balancer"), "request_ms = 2000;",
                            "request_ms = 60000;")


def connect_many(lab, count):
    """Connections under way, all at once; complete when they are writable."""
    sockets = []
    with crafted.inside(lab, "client"):
        for _ in range(count):
            sockets.append(socket.socket())
            sockets[-1].setblocking(False)
            assert sockets[-1].connect_ex((VIP, 80)) == errno.EINPROGRESS
    return sockets


def finish(sockets, timeout=20):
    """Wait until all are connected."""
    poller = select.poll()
    for sock in sockets:
        poller.register(sock, select.POLLOUT)
    wait_until(lambda: len(poller.poll(100)) == len(sockets), timeout, "all connections")
    for sock in sockets:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        sock.settimeout(20)


# File descriptors

@contextlib.contextmanager
def few_files(lab, name, spare):
    """A daemon may open no more than that many files beyond those that it has open."""
    pid = lab.pid(name)
    numbers = [int(number) for number in os.listdir(f"/proc/{pid}/fd")]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(numbers) + 1 + spare, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def evicted(lab, count):
    """The counters of the balancer, if it has closed that many silent connections early."""
    counters = lab.counters("balancer")
    return counters if counters.get("sockets_evicted", 0) >= count else None


def test_file_descriptors(own_lab, tmp_path):
    """The oldest silent connection makes room for a new one."""
    crafted.up(own_lab, tmp_path, balancer=patient())
    with contextlib.ExitStack() as stack:
        with few_files(own_lab, "balancer", 10):
            silent = [stack.enter_context(crafted.connect(own_lab)) for _ in range(60)]
            answers = [crafted.fetch(own_lab, f"/page/{number}") for number in range(40)]
            assert {answer.status for answer in answers} == {200}
            assert max(answer.seconds for answer in answers) < 0.9
            # Each failure makes room for one; the others wait in the kernel.
            counters = wait_until(lambda: evicted(own_lab, 50), what="room for all")
            assert counters["accept_failed"] >= 50
            assert counters["sockets_now"] <= 10
            assert crafted.how_it_ends(silent[0]) == ("fin", b"")
            assert crafted.ask(silent[-1], "/page/late").status == 200
        # There is room for everybody again.
        before = own_lab.counters("balancer")
        silent = [stack.enter_context(crafted.connect(own_lab)) for _ in range(60)]
        crafted.counted(own_lab, "balancer", before, sockets_accepted=60)
        crafted.counted(own_lab, "balancer", before, accept_failed=0, sockets_evicted=0)
    assert len(re.findall("warning: .*file descriptor", own_lab.log("balancer"))) == 1


# Flow tables

FLOWS = 8


def keep(lab, stack, path="/page/1", **options):
    """A connection that was handed over and stays."""
    sock = stack.enter_context(crafted.connect(lab, **options))
    assert crafted.ask(sock, path).status == 200
    return sock


def refused(lab, count):
    """That many connections, each of which is reset at its request."""
    for _ in range(count):
        with crafted.connect(lab) as sock:
            sock.sendall(crafted.request("/page/1"))
            assert crafted.how_it_ends(sock) == ("reset", b"")


def established(lab):
    """Connections that the web servers have."""
    return sum(len(lab.exec(backend, "ss", "-Htan", "state", "established", "sport", "=",
                            ":80").stdout.splitlines()) for backend in BRIDGE_OF)


@pytest.mark.only("userspace")
def test_flows_of_the_balancer(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path, balancer=with_limits("balancer", flows=FLOWS))
    with contextlib.ExitStack() as stack:
        kept = [keep(own_lab, stack) for _ in range(FLOWS)]
        before = own_lab.counters("balancer")
        refused(own_lab, 5)
        crafted.counted(own_lab, "balancer", before, flows_refused=5, accepted=0)
        assert own_lab.log("balancer").count("limits.flows are steered") == 1
        for sock in kept:
            assert crafted.ask(sock, "/page/1").status == 200
        # One that is closing makes room, and nothing else does.
        before = own_lab.counters("balancer")
        kept.pop().close()
        wait_until(lambda: established(own_lab) == FLOWS - 1, what="its end at the web server")
        kept.append(keep(own_lab, stack))
        crafted.counted(own_lab, "balancer", before, flows_ended=1, accepted=1)
        refused(own_lab, 1)
        for sock in kept:
            assert crafted.ask(sock, "/page/1").status == 200
            sock.close()
        kept = [keep(own_lab, stack) for _ in range(FLOWS)]
        assert own_lab.counters("balancer")["flows_now"] == FLOWS


@pytest.mark.only("userspace")
def test_flows_of_the_bridges(own_lab, tmp_path):
    """One that is full refuses, and the other one gets the connection; then nobody does.

    What the kernel translates is bounded by the kernel.
    """
    crafted.up(own_lab, tmp_path, **{name: with_limits(name, flows=FLOWS)
                                     for name in BRIDGE_OF.values()})
    path = crafted.path_of(own_lab, "backend1")
    wait_until(lambda: not any(own_lab.counters(name)["flows_now"] for name in BRIDGE_OF.values()),
               15, "empty tables")
    with contextlib.ExitStack() as stack:
        served = []
        for _ in range(2 * FLOWS):
            kept = stack.enter_context(crafted.connect(own_lab))
            served.append(crafted.ask(kept, path).backend)
        assert served == ["backend1"] * FLOWS + ["backend2"] * FLOWS
        before = own_lab.counters("balancer")
        assert before["open_refused"] == FLOWS
        assert own_lab.counters("bridge1")["drop_full"] == FLOWS
        refused(own_lab, 3)
        crafted.counted(own_lab, "balancer", before, no_backend=3, open_refused=6)
        for name in BRIDGE_OF.values():
            assert own_lab.log(name).count("limits.flows are spliced: offers are refused") == 1
        assert own_lab.log("balancer").count("no backend of pool caches") == 1
        assert crafted.ask(kept, path).backend == "backend2"
    # Both sides have closed, which makes room at once or after timeouts.closing_s.
    answer = wait_until(lambda: attempt(own_lab, path), 15, "room on the bridge")
    assert answer.backend == "backend1"


def attempt(lab, path):
    """An answer of the first backend, or None."""
    try:
        answer = crafted.fetch(lab, path)
    except ConnectionResetError:
        return None
    return answer if answer.backend == "backend1" else None


# What connection tracking has room for

CTNETLINK_NEW = 0x0100
REQUEST_CREATE = 0x0001 | 0x0400
SOMEBODY = 7000000  # a mark that is not the bridge's
BATCH = 200


def attribute(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def strangers_entry():
    """The message that makes an entry of connection tracking, and where its client's address is."""
    def words(source, destination, sport, dport):
        address = attribute(1, socket.inet_aton(source)) + \
            attribute(2, socket.inet_aton(destination))
        ports = attribute(1, b"\6") + attribute(2, struct.pack("!H", sport)) + \
            attribute(3, struct.pack("!H", dport))
        return attribute(1, address) + attribute(2, ports)

    tcp = attribute(1, attribute(1, b"\3"))  # established
    # Confirmed, with a reply, assured: what the kernel does not take out when there is no room.
    body = struct.pack("!BBH", socket.AF_INET, 0, 0) + \
        attribute(1, words("10.0.0.0", "11.0.0.1", 1, 2)) + \
        attribute(2, words("11.0.0.1", "10.0.0.0", 2, 1)) + \
        attribute(3, struct.pack("!I", 0xe)) + attribute(4, tcp) + \
        attribute(7, struct.pack("!I", 600)) + attribute(8, struct.pack("!I", SOMEBODY))
    message = struct.pack("IHHII", 16 + len(body), CTNETLINK_NEW, REQUEST_CREATE, 1, 0) + body
    place = socket.inet_aton("10.0.0.0")
    return message, message.index(place), message.rindex(place)


def tracked(lab, host):
    return int(lab.exec(host, "sysctl", "-n", "net.netfilter.nf_conntrack_count").stdout)


@contextlib.contextmanager
def full_of_strangers(lab, host):
    """Connection tracking of a host has as many entries as it may have."""
    most = int(lab.exec(host, "sysctl", "-n", "net.netfilter.nf_conntrack_max").stdout)
    message, first, second = strangers_entry()
    with crafted.inside(lab, host):
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    with netlink:
        for begin in range(0, most, BATCH):
            batch = bytearray(message * BATCH)
            for number in range(BATCH):
                address = struct.pack("!I", 0x0a000000 + begin + number)
                for place in (first, second):
                    place += number * len(message)
                    batch[place:place + 4] = address
            netlink.send(batch)
    assert tracked(lab, host) >= most
    try:
        yield
    finally:
        lab.exec(host, "conntrack", "-D", "-m", SOMEBODY)


@pytest.mark.plain
@pytest.mark.only("kernel")
def test_entries_of_connection_tracking(own_lab):
    """Offers are refused, and the other backend has room."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with contextlib.ExitStack() as stack:
        old = keep(own_lab, stack, path)
        with full_of_strangers(own_lab, "backend1"):
            before = own_lab.counters("bridge1")
            kept = [stack.enter_context(crafted.connect(own_lab)) for _ in range(5)]
            for sock in kept:
                assert crafted.ask(sock, path).backend == "backend2"
            crafted.counted(own_lab, "bridge1", before, opens=5, spliced=0, kernel_failed=5,
                            opens_refused=5)
            assert own_lab.log("bridge1").count("is nf_conntrack_max reached?") == 1
            assert crafted.ask(old, path).backend == "backend1"
        before = own_lab.counters("bridge1")
        assert crafted.fetch(own_lab, path).backend == "backend1"
        crafted.counted(own_lab, "bridge1", before, kernel_failed=0, kernel_spliced=1)
        assert crafted.ask(kept[0], path).backend == "backend2"


# Queues

def queues(lab, host, column):
    """The sum of a column of what the kernel tells of the queues."""
    text = lab.exec(host, "cat", "/proc/net/netfilter/nfnetlink_queue").stdout
    return sum(int(line.split()[column]) for line in text.splitlines())


def waiting(lab, host):
    """Packets without a verdict."""
    return queues(lab, host, 2)


def dropped_full(lab, host):
    """Packets that the kernel dropped because a queue was full."""
    return queues(lab, host, 5)


@pytest.mark.only("userspace")
def test_queue_length(own_lab, tmp_path):
    """While the daemon stands still, its queues fill up; what is lost, the clients repeat."""
    crafted.up(own_lab, tmp_path, balancer=with_limits("balancer", patient(), queue_length=4))
    with contextlib.ExitStack() as stack:
        with paused(own_lab.pid("balancer")):
            sockets = [stack.enter_context(sock) for sock in connect_many(own_lab, 60)]
            dropped = wait_until(lambda: dropped_full(own_lab, "balancer"))
            assert dropped >= 60 - 4 * 4
        wait_until(lambda: not waiting(own_lab, "balancer"), what="empty queues")
        assert crafted.fetch(own_lab, "/page/1").seconds < 0.9
        finish(sockets)
        for sock in sockets:
            assert crafted.ask(sock, "/page/1").status == 200
    counters = wait_until(lambda: (lambda c: c if c["queue_dropped_full"] else None)(
        own_lab.counters("balancer")), what="queue_dropped_full")
    assert counters["queue_dropped_full"] >= dropped
    assert counters["queue_dropped_undelivered"] == 0
    assert own_lab.log("balancer").count("packets because a queue was full") == 1


def test_queue_length_with_requests(own_lab, tmp_path):
    """The same with requests, which come to the daemon in either data plane."""
    crafted.up(own_lab, tmp_path, balancer=with_limits("balancer", patient(), queue_length=4))
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(crafted.connect(own_lab)) for _ in range(60)]
        with paused(own_lab.pid("balancer")):
            for number, sock in enumerate(sockets):
                sock.sendall(crafted.request(f"/page/{number}"))
            dropped = wait_until(lambda: dropped_full(own_lab, "balancer"))
            assert dropped >= 60 - 4 * 4
        for sock in sockets:
            assert crafted.response(sock).status == 200
    counters = wait_until(lambda: (lambda c: c if c["queue_dropped_full"] else None)(
        own_lab.counters("balancer")), what="queue_dropped_full")
    assert counters["queue_dropped_full"] >= dropped
    assert counters["queue_dropped_undelivered"] == 0
    assert counters["accepted"] == 60
    assert own_lab.log("balancer").count("packets because a queue was full") == 1


@pytest.mark.only("kernel")
def test_requests_that_wait_in_the_queue(own_lab, tmp_path):
    """The daemon has stood still. What it accepts then is not driven out before the requests were read."""
    crafted.up(own_lab, tmp_path, balancer=with_limits("balancer", patient(), requests=64))
    with contextlib.ExitStack() as stack:
        with paused(own_lab.pid("balancer")):
            sockets = [stack.enter_context(sock) for sock in connect_many(own_lab, 20)]
            finish(sockets)
            for number, sock in enumerate(sockets):
                sock.sendall(crafted.request(f"/page/{number}"))
            silent = [stack.enter_context(sock) for sock in connect_many(own_lab, 200)]
            finish(silent)
        for sock in sockets:
            assert crafted.response(sock).status == 200
        wait_until(lambda: own_lab.counters("balancer").get("sockets_evicted") == 200 - 64,
                   what="the end of the silent ones before the last")


# The backlog of the listening socket

@pytest.mark.parametrize("cookies, backlog, count", [(0, 8, 20), (1, 2, 300)],
                         ids=["drops", "cookies"])
def test_backlog(own_lab, tmp_path, cookies, backlog, count):
    """It overflows when many come at once: every request is answered even so."""
    crafted.up(own_lab, tmp_path, balancer=patient())
    own_lab.daemon("stop", "balancer")
    with many_files(), contextlib.ExitStack() as stack:
        stack.enter_context(crafted.sysctls(own_lab, "balancer", tcp_syncookies=cookies))
        own_lab.exec("balancer", "sysctl", "-qw", f"net.core.somaxconn={backlog}")
        own_lab.daemon("start", "balancer")
        before = kernel_counters(own_lab, "balancer")
        counted = own_lab.counters("balancer")
        sockets = [stack.enter_context(sock) for sock in connect_many(own_lab, count)]
        finish(sockets)
        for number, sock in enumerate(sockets):
            sock.sendall(crafted.request(f"/page/{number}"))
        for sock in sockets:
            assert crafted.response(sock).status == 200
        after = kernel_counters(own_lab, "balancer")
        grown = {key: after[key] - before[key] for key in after if after[key] != before[key]}
        told = increase(own_lab, "balancer", counted)
        assert grown.get("TcpExtSyncookiesSent" if cookies else "TcpExtTCPReqQFullDrop", 0) > 0
        assert told["accepted"] == count
        if not cookies:
            dropped = wait_until(lambda: own_lab.counters("balancer").get("backlog_dropped"),
                                 what="backlog_dropped")
            assert dropped >= grown["TcpExtTCPReqQFullDrop"]
            assert own_lab.log("balancer").count("warning: the backlog was full") == 1


@pytest.mark.once
def test_backlog_and_reload(own_lab, tmp_path):
    """What was told of a socket is not told again when the configuration is another one.

    A SYN that comes twice was answered twice: the kernel counts one of them as dropped, and nothing was full.
    """
    crafted.up(own_lab, tmp_path, balancer=patient())
    own_lab.daemon("stop", "balancer")
    one = own_lab.config("balancer")

    def overflow():
        before = own_lab.counters("balancer").get("backlog_dropped", 0)
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(sock) for sock in connect_many(own_lab, 20)]
            finish(sockets)
        return wait_until(lambda: (lambda now: now if now > before else None)(
            own_lab.counters("balancer").get("backlog_dropped", 0)), what="backlog_dropped")

    with crafted.sysctls(own_lab, "balancer", tcp_syncookies=0):
        own_lab.exec("balancer", "sysctl", "-qw", "net.core.somaxconn=8")
        own_lab.daemon("start", "balancer")
        before = kernel_counters(own_lab, "balancer")["TcpExtListenDrops"]
        for _ in range(20):
            with CraftedTcp(own_lab) as tcp:
                syn = tcp.send(flags=SYN, seq=1000, ack=0)
                tcp.expect(SYN | ACK)
                tcp.resend(syn)
                tcp.expect(SYN | ACK)
                tcp.send(flags=RST, seq=1001, ack=0)
        overflow()
        for text in (with_second(own_lab, "balancer"), one):
            taken(own_lab, "balancer", text)
            dropped = overflow()
        grown = kernel_counters(own_lab, "balancer")["TcpExtListenDrops"] - before
    assert 0 < dropped <= grown


# Memory

@pytest.mark.plain
@pytest.mark.parametrize("name", ["balancer", "bridge1"])
def test_too_little_memory_at_the_start(own_lab, name):
    own_lab.up()
    needed = memory_kb(own_lab.pid(name))["VmSize"]
    own_lab.daemon("stop", name)
    line = command(own_lab, name)
    for part in (4, 2):
        done = subprocess.run([*line[:2], "prlimit", f"--as={needed * 1024 // part}", "--",
                               *line[2:]], env=own_lab.environ, capture_output=True, text=True,
                              timeout=10)
        assert done.returncode == 1
        assert re.search(r"error: not enough memory .*: lower (the limits|limits\.flows)\b",
                         done.stderr)
    own_lab.daemon("start", name)
    assert crafted.fetch(own_lab, "/page/1").status == 200


@pytest.mark.plain
def test_no_more_memory_in_flight(own_lab):
    """Nothing is allocated for what comes, so nothing is missing when there is nothing to get."""
    own_lab.up()
    for name in DAEMONS:
        size = memory_kb(own_lab.pid(name))["VmSize"] * 1024
        limit = resource.prlimit(own_lab.pid(name), resource.RLIMIT_AS)
        assert limit[0] == resource.RLIM_INFINITY
        resource.prlimit(own_lab.pid(name), resource.RLIMIT_AS, (size, limit[1]))
    with many_files(), contextlib.ExitStack() as stack:
        for number in range(500):
            keep(own_lab, stack, f"/page/{number}")
        silent = [stack.enter_context(crafted.connect(own_lab)) for _ in range(500)]
        for sock in silent:
            sock.sendall(b"GET /page/ha")
        wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 500)
        for sock in silent:
            sock.sendall(b"lf HTTP/1.1\r\nHost: www\r\n\r\n")
        assert {crafted.response(sock).status for sock in silent} == {200}
        assert own_lab.sha256("/files/100M.bin") == sha256_of("100M.bin")
        counters = own_lab.counters("balancer")
        assert counters["accepted"] == 1001
        assert counters["flows_now"] >= 1000
    for name in DAEMONS:
        assert not re.search("memory|error", own_lab.log(name))
