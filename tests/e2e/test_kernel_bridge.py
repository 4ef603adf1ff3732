# SPDX-License-Identifier: GPL-2.0-or-later
"""The bridge's data plane in the kernel: what it takes off the daemon, survives, and refuses."""

import dataclasses
import os
import pathlib
import random
import re
import socket
import struct
import time

import pytest

import crafted
import raw
from conftest import FILES, SERVERS, TOP, VIP, sha256_of, wait_until
from crafted import ACCEPTED, Offer
from peers import Servers, read_request
from support import BRIDGE_OF, CLIENTS, SYN, build_segment, increase, sanitized, sha256_of_file

pytestmark = pytest.mark.only("kernel")

BUILD = pathlib.Path(os.environ.get("L3DSR_BUILD", TOP)).resolve()
LARGE = "100M.bin" if sanitized() else "500M.bin"
SYSCTL = "net.netfilter.nf_conntrack_"
MARK = "0x6c330000/0xffff0000"


def entries(lab, backend):
    """The entries of connection tracking that are the bridge's, as conntrack(8) prints them."""
    return lab.exec(backend, "conntrack", "-L", "-m", MARK).stdout.splitlines()


def busy(lab):
    """The backend, and its bridge, that has a connection in the kernel."""
    backend, = wait_until(lambda: [name for name in BRIDGE_OF if any(
        " ESTABLISHED " in line for line in entries(lab, name))],
                          what="a connection in the kernel")
    return backend, BRIDGE_OF[backend]


def forget_all(lab):
    for backend in BRIDGE_OF:
        lab.exec(backend, "conntrack", "-F")


def set_sysctl(lab, backend, name, value):
    lab.exec(backend, "sysctl", "-qw", f"{SYSCTL}{name}={value}")


def restart_with(lab, name, old, new):
    """The daemon with something else in its configuration."""
    text = lab.config(name, old, new)
    lab.daemon("stop", name)
    (lab.state / f"{name}.conf").write_text(text)
    lab.daemon("start", name)


@pytest.fixture
def kernel_lab(own_lab):
    own_lab.up()
    return own_lab


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_the_daemon_sees_few_packets(kernel_lab, direction):
    """At most four of a connection, whatever its length."""
    if direction == "download":
        assert kernel_lab.sha256(f"/files/{LARGE}") == sha256_of(LARGE)
    else:
        assert kernel_lab.curl("/upload/file", "-T", FILES / LARGE).status == 201
        stored, = kernel_lab.state.glob("backend*/upload/file")
        assert sha256_of_file(stored) == sha256_of(LARGE)
    counters = [kernel_lab.counters(name) for name in BRIDGE_OF.values()]
    assert [count.get("kernel_spliced", 0) for count in counters].count(1) == 1
    assert sum(count.get("packets", 0) for count in counters) <= 4
    assert not any("to_server" in count or "to_client" in count for count in counters)


def test_timestamps(kernel_lab):
    """No segment looks old to a kernel (RFC 7323, 5), and round trips are as short as they are."""
    hosts = ("client", *BRIDGE_OF)
    for number in range(20):
        assert crafted.fetch(kernel_lab, f"/page/{number}").status == 200
    with crafted.connect(kernel_lab) as sock:
        for number in range(50):
            assert crafted.ask(sock, "/page/1").status == 200
        backend, _ = busy(kernel_lab)
        port = sock.getsockname()[1]
        for host, condition in ((backend, f"dport = :{port}"), ("client", f"sport = :{port}")):
            shown = kernel_lab.exec(host, "ss", "-Htino", condition).stdout
            assert " ts " in shown
            assert 0 < float(re.search(r"\brtt:([\d.]+)/", shown)[1]) < 200
    for host in hosts:
        counters = raw.kernel_counters(kernel_lab, host)
        assert [counters[f"TcpExt{name}"] for name in
                ("PAWSEstab", "PAWSActive", "TSEcrRejected", "TCPChallengeACK")] == [0] * 4


@pytest.mark.both
@pytest.mark.parametrize("direction", ["download", "upload"])
def test_kill_in_mid_transfer(kernel_lab, direction):
    """The transfer goes on while the bridge's daemon is away, and after it is back."""
    stored = kernel_lab.state / "received"
    command = {"download": ("-o", stored), "upload": ("-T", FILES / LARGE)}[direction]
    path = {"download": f"/files/{LARGE}", "upload": "/upload/file"}[direction]
    with kernel_lab.popen("client", "curl", "-sS", "--fail", "--max-time", 120, "--limit-rate",
                          "30M", *command, f"http://{VIP}{path}") as curl:
        backend, name = busy(kernel_lab)
        host = kernel_lab.iface_bytes("client")

        def moved(more):
            now = kernel_lab.iface_bytes("client")
            return max(now.received - host.received, now.sent - host.sent) > more

        wait_until(lambda: moved(10000000), what="the transfer")
        kernel_lab.daemon("kill", name)
        host = kernel_lab.iface_bytes("client")
        wait_until(lambda: moved(20000000), what="the transfer without a daemon")
        kernel_lab.daemon("start", name)
        assert curl.poll() is None
        assert "1 connections are in the kernel already" in kernel_lab.log(name)
        assert kernel_lab.counters(name)["kernel_flows_now"] == 1
        for number in range(20):
            assert crafted.fetch(kernel_lab, f"/page/{number}").status == 200
        assert curl.wait(timeout=120) == 0
    if direction == "upload":
        stored = kernel_lab.state / backend / "upload" / "file"
    assert sha256_of_file(stored) == sha256_of(LARGE)


def test_keep_alive_across_a_restart(kernel_lab):
    """A connection that is idle meanwhile; and a daemon that ends as it should."""
    with crafted.connect(kernel_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        _, name = busy(kernel_lab)
        kernel_lab.daemon("stop", name)
        assert crafted.ask(sock, "/page/2").status == 200
        kernel_lab.daemon("start", name)
        assert crafted.ask(sock, "/page/3").status == 200


def test_a_reset_of_the_web_server(own_lab):
    """It has the number that the client expects: also when the daemon has to ask the kernel."""
    def serve(sock):
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegin")
        sock.recv(1)
        crafted.reset_close(sock)

    own_lab.up("--no-web")
    with Servers(own_lab, serve):
        for restart in (False, True):
            forget_all(own_lab)
            with crafted.connect(own_lab) as sock:
                sock.sendall(crafted.request("/page/1"))
                assert sock.recv(65536).endswith(b"begin")
                backend, name = busy(own_lab)
                if restart:
                    own_lab.daemon("kill", name)
                    own_lab.daemon("start", name)
                before = own_lab.counters(name)
                sock.sendall(b"x")
                assert crafted.how_it_ends(sock) == ("reset", b"")
                assert increase(own_lab, name, before)["to_client"] == 1
                line, = entries(own_lab, backend)
                assert " CLOSE " in line


def test_a_late_syn_ack(kernel_lab):
    """The web server repeats it until the client has spoken, whom it reminds of that."""
    with Offer(kernel_lab) as offer:
        offer.send()
        assert offer.told().type == ACCEPTED
        kernel_lab.daemon("kill", "bridge1")
        kernel_lab.daemon("start", "bridge1")
        wait_until(lambda: kernel_lab.counters("bridge1").get("drop_swallowed"), timeout=15,
                   what="a SYN-ACK that comes again")
        assert "passed" not in kernel_lab.counters("bridge1")
        assert len(entries(kernel_lab, "backend1")) == 1


def test_flushed_entries(kernel_lab):
    """Somebody empties connection tracking: the client is reset, and does not hang."""
    with crafted.connect(kernel_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        _, name = busy(kernel_lab)
        # Its copy is forgotten first; a packet within open_ms would be translated by it.
        wait_until(lambda: kernel_lab.counters(name)["flows_now"] == 0)
        forget_all(kernel_lab)
        sock.sendall(crafted.request("/page/2"))
        assert crafted.how_it_ends(sock) == ("reset", b"")
    assert kernel_lab.counters(name)["unknown_reset"] >= 1
    assert crafted.fetch(kernel_lab, "/page/1").status == 200


def test_idle_and_closed_connections_go(own_lab, tmp_path):
    texts = {f"bridge{number}": crafted.replaced(
        crafted.replaced(crafted.template(f"bridge{number}"), "idle_s = 60", "idle_s = 4"),
        "closing_s = 5", "closing_s = 1") for number in (1, 2)}
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / f"{name}.conf")
        paths[-1].write_text(text)
    own_lab.up(*paths)
    with crafted.connect(own_lab) as sock, crafted.connect(own_lab) as silent:
        assert crafted.ask(silent, "/page/1").status == 200
        backend, name = busy(own_lab)
        assert crafted.ask(sock, "/page/1").status == 200
        # The one that goes on living has a packet every second.
        deadline = time.monotonic() + 20
        while "splices_idle" not in own_lab.counters(name):
            assert time.monotonic() < deadline
            assert crafted.ask(sock, "/page/1").status == 200
            wait_until(lambda until=time.monotonic() + 1: time.monotonic() > until)
        assert len(entries(own_lab, backend)) == 1
        assert crafted.ask(sock, "/page/1").status == 200
        silent.sendall(crafted.request("/page/1"))
        assert crafted.how_it_ends(silent) == ("reset", b"")
    wait_until(lambda: not entries(own_lab, backend), timeout=10, what="the end of closed ones")
    assert own_lab.counters(name)["splices_ended"] >= 1
    assert own_lab.counters(name)["splices_idle"] == 1


def test_many_that_are_over_go_together(kernel_lab):
    """More than one message to the kernel has room for."""
    number = 100
    backend = kernel_lab.curl("/page/1").backend
    name = BRIDGE_OF[backend]
    wait_until(lambda: not entries(kernel_lab, backend), timeout=30, what="the end of the first")
    before = kernel_lab.counters(name)
    for _ in range(number):
        assert crafted.fetch(kernel_lab, "/page/1").status == 200
    wait_until(lambda: not entries(kernel_lab, backend), timeout=30, what="the end of all entries")
    grown = increase(kernel_lab, name, before)
    assert grown["kernel_spliced"] == grown["splices_ended"] == number
    assert grown.get("splices_idle", 0) == 0


def test_what_web_servers_have_ended_is_counted(kernel_lab):
    """Once each, however often they say FIN: the client's kernel does not hear of it for a while."""
    def ended():
        return sum(crafted.nft_packets(kernel_lab, backend, "ended", "inet l3dsr_bridge")
                   for backend in BRIDGE_OF)

    with crafted.connect(kernel_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        assert ended() == 0
        lost = "counter fins {\n}\nchain c {\ntype filter hook input priority 0\n" \
            "ip saddr 192.168.33.10 tcp flags & fin == fin counter name fins drop\n}"
        with crafted.nft(kernel_lab, "client", lost):
            sock.sendall(crafted.request("/page/1", "Connection: close"))
            wait_until(lambda: crafted.nft_packets(kernel_lab, "client", "fins") >= 3)
            assert ended() == 1
    for number in range(20):
        assert crafted.fetch(kernel_lab, f"/page/{number}").status == 200
    wait_until(lambda: ended() == 21)


def test_a_window_scale_that_the_kernel_cannot_translate(kernel_lab):
    """Those connections go through the daemon, and the operator is told once."""
    for backend in BRIDGE_OF:
        kernel_lab.exec(backend, "sysctl", "-qw", "net.ipv4.tcp_rmem=4096 131072 262144",
                        "net.core.rmem_max=212992")
    assert kernel_lab.sha256("/files/1M.bin") == sha256_of("1M.bin")
    assert kernel_lab.curl("/upload/file", "-T", FILES / "1M.bin").status == 201
    stored, = kernel_lab.state.glob("backend*/upload/file")
    assert sha256_of_file(stored) == sha256_of("1M.bin")
    for number in range(20):
        assert crafted.fetch(kernel_lab, f"/page/{number}").status == 200
    for name in BRIDGE_OF.values():
        counters = kernel_lab.counters(name)
        assert "kernel_spliced" not in counters
        assert counters["kernel_scale"] == counters["scales_differ"] == counters["spliced"]
        assert kernel_lab.log(name).count("warning: the window scale of the web server is") == 1


def test_an_entry_that_is_in_the_way(kernel_lab):
    """Of a connection to the web server itself that has ended there, for one."""
    with Offer(kernel_lab) as offer:
        host, port = offer.client
        kernel_lab.exec("backend1", "conntrack", "-I", "-p", "tcp", "-s", host, "-d",
                        SERVERS["backend1"], "--sport", port, "--dport", 80, "-t", 60,
                        "--state", "ESTABLISHED")
        offer.send()
        assert offer.told().type == ACCEPTED
        line, = entries(kernel_lab, "backend1")
        assert f"sport={port}" in line


def test_an_older_connection_that_only_the_kernel_knows(kernel_lab):
    """It must not take what the web server says to the new SYN."""
    with Offer(kernel_lab) as offer:
        offer.send()
        assert offer.told().type == ACCEPTED
        ack = offer.packet("A", offer.isn_c + 1, offer.record.isn_b + 1, options=[
            ("NOP", None), ("NOP", None), ("Timestamp", (offer.tsval + 5, offer.record.ts_b))])
        crafted.send_ip(kernel_lab, "balancer", ack)
        wait_until(lambda: crafted.server_connections(kernel_lab, "backend1", offer.client[1])
                   == ["ESTAB"])
        # The daemon's copy, and with it all that it knows.
        wait_until(lambda: kernel_lab.counters("bridge1")["flows_now"] == 0)

        offer.isn_c = (offer.isn_c + 0x10000000) & 0xffffffff
        offer.tsval += 10000
        offer.record = dataclasses.replace(offer.record, id=random.getrandbits(64))
        before = kernel_lab.counters("bridge1")
        offer.send()
        crafted.counted(kernel_lab, "bridge1", before, opens_replaced=1, server_reset_old=1)
        offer.send()
        assert offer.told().type == ACCEPTED
        line, = entries(kernel_lab, "backend1")
        assert f"sport={offer.client[1]}" in line


def test_an_entry_says_who_has_closed(kernel_lab):
    """Both have to: anybody may say FIN in the client's name, and the web server repeats its own."""
    def marks(state):
        wait_until(lambda: any(f" {state} " in line for name in BRIDGE_OF
                               for line in entries(kernel_lab, name)), what=state)
        return {int(re.search(r"mark=(\d+)", line)[1]) & 0xff00 for name in BRIDGE_OF
                for line in entries(kernel_lab, name)}

    sock = crafted.connect(kernel_lab)
    assert crafted.ask(sock, "/page/1").status == 200
    backend, name = busy(kernel_lab)
    assert marks("ESTABLISHED") == {0}
    # The web server's FIN is an answer to the client's; lost, it says nothing.
    lost = "chain c { type filter hook input priority 0; ip saddr 192.168.33.1 tcp flags fin drop;}"
    with crafted.nft(kernel_lab, backend, lost):
        sock.shutdown(socket.SHUT_WR)
        assert marks("FIN_WAIT") == {0x400}
    assert sock.recv(1) == b""
    sock.close()
    assert marks("TIME_WAIT") == {0x500}
    wait_until(lambda: not entries(kernel_lab, backend), timeout=15, what="the end of the entry")
    assert kernel_lab.counters(name)["splices_ended"] == 1


@pytest.mark.parametrize("name, value, said", [
    ("tcp_loose", 1, "error: /proc/sys/net/netfilter/nf_conntrack_tcp_loose is 1 and must be 0"),
    ("tcp_timeout_established", 59, "warning: /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_"
     "established is 59, shorter than timeouts.idle_s = 60"),
])
def test_settings_of_the_kernel_that_do_not_fit(kernel_lab, name, value, said):
    set_sysctl(kernel_lab, "backend1", name, value)
    kernel_lab.daemon("stop", "bridge1")
    kernel_lab.daemon("start", "bridge1")
    assert said in kernel_lab.log("bridge1")
    path = crafted.path_of(kernel_lab, "backend1")
    before = kernel_lab.counters("bridge1")
    assert crafted.fetch(kernel_lab, path).backend == "backend1"
    grown = increase(kernel_lab, "bridge1", before)
    assert grown["spliced"] == 1
    assert grown.get("kernel_spliced", 0) == (name != "tcp_loose")
    assert ("this daemon does" in kernel_lab.log("bridge1")) == (name == "tcp_loose")


def test_room_for_fewer_connections_than_configured(kernel_lab):
    restart_with(kernel_lab, "bridge1", "timeouts", "limits = { flows = 16777216; };\ntimeouts")
    assert re.search(r"warning: /proc/sys/net/netfilter/nf_conntrack_max is \d+, less than "
                     r"limits.flows = 16777216", kernel_lab.log("bridge1"))


def test_direct_connections(kernel_lab):
    """To the web server's own address, before, while and after the daemon is away."""
    kernel_lab.curl("/page/1")
    with crafted.connect(kernel_lab, vip=SERVERS["backend1"]) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        kernel_lab.daemon("kill", "bridge1")
        assert crafted.ask(sock, "/page/2").status == 200
        kernel_lab.daemon("start", "bridge1")
        assert crafted.ask(sock, "/page/3").status == 200
    assert kernel_lab.counters("bridge1").get("unknown_reset", 0) == 0


def test_a_ruleset_that_is_loaded_again(kernel_lab):
    with crafted.connect(kernel_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        for backend in BRIDGE_OF:
            kernel_lab.exec(backend, BUILD / "lab/load-ruleset", TOP / "nft/bridge.nft")
        assert crafted.ask(sock, "/page/2").status == 200
    assert crafted.fetch(kernel_lab, "/page/1").status == 200


def test_what_was_not_translated_is_not_sent_back(kernel_lab):
    """Somebody takes the chains of type nat away: what is for the VIP then would go in circles."""
    with crafted.connect(kernel_lab) as sock, crafted.Capture(kernel_lab, "balancer") as capture:
        assert crafted.ask(sock, "/page/1").status == 200
        backend, _ = busy(kernel_lab)
        kernel_lab.exec(backend, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        kernel_lab.exec(backend, "nft", "-f", "-", input="".join(
            f"delete chain inet l3dsr_bridge nat_{hook}\n"
            for hook in ("prerouting", "input", "output", "postrouting")))
        sock.sendall(crafted.request("/page/2"))
        wait_until(lambda: crafted.nft_packets(kernel_lab, backend, "untranslated",
                                               "inet l3dsr_bridge"))
        kernel_lab.exec(backend, BUILD / "lab/load-ruleset", TOP / "nft/bridge.nft")
        assert crafted.response(sock).status == 200
        # As the client has sent them, and forwarded once.
        assert {packet.ttl for packet in capture.packets() if packet.src == crafted.CLIENT} == \
            {64, 63}


def test_what_window_tracking_calls_invalid(kernel_lab):
    """It is translated by the daemon, and left to the web server's kernel to judge."""
    with crafted.connect(kernel_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        backend, name = busy(kernel_lab)
        before = kernel_lab.counters(name)
        # One of them is before what was acknowledged. The other is not, and kept from ending it.
        for seq in 1, 1 << 31:
            packet = crafted.IP(src=crafted.CLIENT, dst=VIP) / crafted.TCP(
                sport=sock.getsockname()[1], dport=80, flags="R", seq=seq)
            crafted.send_ip(kernel_lab, "client", packet)
        wait_until(lambda: increase(kernel_lab, name, before).get("to_server") == 1)
        assert crafted.ask(sock, "/page/2").status == 200
        assert len(entries(kernel_lab, backend)) == 1


def slab_bytes():
    """Of the slabs that hold connections: entries, their extensions, elements of sets and maps.

    Not of all, because whoever lists /proc/PID/fd of a process with thousands of them has the kernel
    make as many inodes, which are more than is to be measured.
    """
    with open("/proc/slabinfo", encoding="ascii") as slabinfo:
        fields = [line.split() for line in slabinfo.readlines()[2:]]
    return sum(int(field[1]) * int(field[3]) for field in fields
               if field[0].startswith(("nf_conntrack", "kmalloc")))


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def carried_syn(key, record, source, sport):
    """An offer's packet, without scapy: there are many."""
    options = struct.pack("!BBHBBBBIIBBBB", 2, 4, 1460, 4, 2, 8, 10, 1, 0, 1, 3, 3, 7)
    bridge = crafted.BRIDGES["backend1"]
    carrier = crafted.CARRIER.pack(4, crafted.wide(source), 4, crafted.wide(bridge), sport, 80, 1)
    return build_segment(source, bridge, sport, 80, 1, 0, SYN, options=options, tos=1 << 2,
                         payload=record + key.mac(record + carrier))


@pytest.mark.alone
@pytest.mark.long
def test_200000_connections_at_once(kernel_lab, capsys):
    """The kernel has them all, and a new process finds them; what each costs is printed.

    The web server's host answers with SYN cookies and keeps nothing of them: what is measured is
    the bridge's part.
    """
    total, name = 200000, "bridge1"
    sources = CLIENTS[:20]
    slab = slab_bytes()
    with Offer(kernel_lab) as offer:
        record = offer.record.encode(offer.key, offer.syn())[:-crafted.MAC_LEN]
        with crafted.inside(kernel_lab, "balancer"):
            sink = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with sink:
            for number in range(total):
                packet = carried_syn(offer.key, record, sources[number % len(sources)],
                                     10000 + number // len(sources))
                sink.sendto(packet, (offer.bridge, 0))
                # No faster than it goes: a lost one would be missing at the end.
                if number % 2000 == 1999:
                    wait_until(lambda until=number + 1: kernel_lab.counters(name).get(
                        "kernel_spliced") == until, timeout=30, what="an answer to each offer")
    counters = kernel_lab.counters(name)
    assert counters["kernel_spliced"] == total
    per_flow = (slab_bytes() - slab) / total
    kernel_lab.daemon("kill", name)
    begin = time.monotonic()
    kernel_lab.daemon("start", name)
    took = time.monotonic() - begin
    assert f"{total} connections are in the kernel already" in kernel_lab.log(name)
    pid = kernel_lab.pid(name)
    with capsys.disabled():
        print(f"\n{total} connections: {per_flow:.0f} bytes of slabs each; a new process was ready "
              f"after {took:.1f} s with {resident_bytes(pid) / 1e6:.0f} MB")
    assert 0 < per_flow < 1500
