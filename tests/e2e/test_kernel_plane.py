# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel data plane: who sees how many packets, and what happens when its state goes away."""

import concurrent.futures
import contextlib
import json
import os
import re
import socket
import time

import pytest

import crafted
import raw
from conftest import DAEMONS, FILES, SERVERS, TOP, VIP, sha256_of, wait_until
from peers import Servers, answer_header, read_all, read_request, relayed
from support import BRIDGE_OF, increase, sha256_of_file, window_scale
from test_faults import upload_name
from test_path_mtu import MTU, idle_connection

pytestmark = pytest.mark.only("kernel")

TABLE = "inet l3dsr_balancer"
FLAGS = {"S": 0x02, "FA": 0x11, "R": 0x04}
RATE = ("--limit-rate", "20M")


def elements(lab, name, kind="map"):
    """The elements of a map or set on the balancer."""
    text = lab.exec("balancer", "nft", "-j", "list", kind, *TABLE.split(), name).stdout
    return next(entry[kind] for entry in json.loads(text)["nftables"] if kind in entry) \
        .get("elem", [])


def load_ruleset(lab, path):
    lab.exec("balancer", lab.environ.get("L3DSR_BUILD", TOP) + "/lab/load-ruleset", path)


def reload(lab):
    """Load the ruleset again, and return when the daemon has seen it."""
    before = lab.log("balancer").count("was loaded, its sets are filled again")
    load_ruleset(lab, TOP / "nft/balancer.nft")
    wait_until(lambda: lab.log("balancer").count("was loaded, its sets are filled again") > before)


def queued(lab):
    """How many packets the kernel has put into the queues of a host, as itself has numbered them."""
    return {host: sum(int(line.split()[7]) for line in lab.exec(
        host, "cat", "/proc/net/netfilter/nfnetlink_queue").stdout.splitlines())
        for host in ("balancer", *BRIDGE_OF)}


@pytest.mark.plain
@pytest.mark.parametrize("handshake", ["socket", "snoop"])
def test_packets_that_userspace_sees(own_lab, tmp_path, handshake):
    """The begin of a connection and no more, whatever its length; and no packet of an answer."""
    crafted.up(own_lab, tmp_path,
               balancer=f'handshake = "{handshake}";\n{crafted.template("balancer")}')

    def measured(transfer):
        before = queued(own_lab)
        transfer()
        after = queued(own_lab)
        seen = {host: after[host] - before[host] for host in after}
        print(seen)
        assert 0 < seen["balancer"] <= 6
        assert 0 < seen["backend1"] + seen["backend2"] <= 4

    def download(name):
        assert own_lab.sha256(f"/files/{name}") == sha256_of(name)

    def upload(path):
        assert own_lab.curl(path, "-T", FILES / "100M.bin", timeout=60).status == 201

    measured(lambda: download("500M.bin"))
    measured(lambda: upload("/upload/near"))
    with relayed(own_lab, "delay", 20):
        measured(lambda: download("100M.bin"))
        measured(lambda: upload("/upload/far"))


def moved(lab, backend, before, least):
    now = lab.iface_bytes(backend)
    return now.received - before.received > least and now.sent - before.sent > least


@pytest.mark.both
@pytest.mark.parametrize("victim", ["balancer", "bridge"])
def test_killed_in_mid_transfer(own_lab, victim):
    """A download and an upload go on while nobody is there, and when the daemon is back."""
    own_lab.up()
    page = own_lab.exec("client", "curl", "-sSI", f"http://{VIP}/files/100M.bin").stdout
    backend, = [name for name in SERVERS if f"X-Backend: {name}" in page]
    name = upload_name(own_lab, backend)
    daemon = "balancer" if victim == "balancer" else BRIDGE_OF[backend]
    with crafted.connect(own_lab, timeout=20) as idle, \
            concurrent.futures.ThreadPoolExecutor(2) as pool:
        path = crafted.path_of(own_lab, backend)
        assert crafted.ask(idle, path).backend == backend
        before = own_lab.iface_bytes(backend)
        download = pool.submit(own_lab.sha256, "/files/100M.bin", *RATE)
        upload = pool.submit(own_lab.curl, f"/upload/{name}", "-T", FILES / "100M.bin", *RATE,
                             timeout=60)
        wait_until(lambda: moved(own_lab, backend, before, 5_000_000), what="both transfers")
        own_lab.daemon("kill", daemon)
        killed = own_lab.iface_bytes(backend)
        wait_until(lambda: moved(own_lab, backend, killed, 10_000_000),
                   what="transfers without the daemon")
        own_lab.daemon("start", daemon)
        assert crafted.fetch(own_lab, path, timeout=5).backend == backend
        started = own_lab.iface_bytes(backend)
        wait_until(lambda: moved(own_lab, backend, started, 10_000_000),
                   what="transfers with the new daemon")
        assert not download.done() and not upload.done()
        assert download.result() == sha256_of("100M.bin")
        assert upload.result().status == 201
        assert crafted.ask(idle, path).backend == backend
    assert sha256_of_file(own_lab.state / backend / "upload" / name) == sha256_of("100M.bin")


def test_the_ruleset_is_loaded_again(own_lab):
    """In a download and while connections are idle: nothing is lost, and new ones are learned."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as idle, concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert crafted.ask(idle, path).status == 200
        before = own_lab.iface_bytes("client")
        download = pool.submit(own_lab.sha256, "/files/100M.bin", *RATE)
        wait_until(lambda: own_lab.iface_bytes("client").received - before.received > 1_000_000)
        bridges = elements(own_lab, "bridges4")
        for _ in range(3):
            reload(own_lab)
            assert crafted.ask(idle, path).backend == "backend1"
        assert not download.done()
        assert download.result() == sha256_of("100M.bin")
        assert elements(own_lab, "bridges4") == bridges
        counters = own_lab.counters("balancer")
        # More on a kernel without `queue`, where the loader of the lab makes two transactions of it.
        assert counters["table_filled_again"] >= 3
        with crafted.connect(own_lab) as new:
            assert crafted.ask(new, path).status == 200
            assert len(elements(own_lab, "flows4")) == 2
            assert crafted.ask(new, path).status == 200
    assert "flows_not_learned" not in own_lab.counters("balancer")


def up_forgetful(lab, directory, *arguments):
    """The balancer's daemon itself knows a new connection for a second, and not for five."""
    config = directory / "balancer.conf"
    config.write_text(crafted.replaced(crafted.template("balancer"), "closing_s = 5;",
                                       "closing_s = 1;"))
    lab.up(*arguments, config)


@pytest.mark.parametrize("loss", ["flush map inet l3dsr_balancer flows4",
                                  "delete table inet l3dsr_balancer"])
def test_flows_that_are_lost(own_lab, tmp_path, loss):
    """Their clients are reset as soon as they speak; new connections are served."""
    up_forgetful(own_lab, tmp_path)
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, path).status == 200
        wait_until(lambda: own_lab.counters("balancer")["flows_now"] == 0, 15)
        own_lab.exec("balancer", "nft", loss)
        sock.sendall(crafted.request(path))
        assert crafted.how_it_ends(sock) == ("reset", b"")
    if "table" in loss:
        wait_until(lambda: "was deleted" in own_lab.log("balancer"))
        assert own_lab.counters("balancer")["table_deleted"] == 1
        reload(own_lab)
        assert own_lab.counters("balancer")["table_filled_again"] >= 1
    else:
        assert own_lab.counters("balancer")["handshake_unknown"] == 1
    assert crafted.fetch(own_lab, path).status == 200
    assert "flows_not_learned" not in own_lab.counters("balancer")


@pytest.mark.parametrize("loss", ["map", "table", "conntrack"])
def test_flows_that_are_lost_in_downloads(own_lab, tmp_path, loss):
    """Clients that say nothing but bare ACKs are reset too: in full swing, and in zero windows."""
    up_forgetful(own_lab, tmp_path)
    with crafted.connect(own_lab) as still, own_lab.popen(
            "client", "curl", "-s", "-m", 20, "--limit-rate", "20M", "-o", "/dev/null",
            f"http://{VIP}/files/500M.bin") as swing:
        still.sendall(crafted.request("/files/500M.bin"))
        wait_until(lambda: len(elements(own_lab, "flows4")) == 2, what="two connections")
        wait_until(lambda: all(own_lab.counters(name)["flows_now"] == 0
                               for name in ("balancer", *BRIDGE_OF.values())), 15)
        assert swing.poll() is None
        if loss == "map":
            own_lab.exec("balancer", "nft", "flush", "map", *TABLE.split(), "flows4")
        elif loss == "table":
            own_lab.exec("balancer", "nft", "delete", "table", *TABLE.split())
            reload(own_lab)
        else:
            for backend in BRIDGE_OF:
                own_lab.exec(backend, "conntrack", "-F")
        begin = time.monotonic()
        assert crafted.how_it_ends(still)[0] == "reset"
        # Failure in receiving network data: curl(1).
        assert swing.wait(timeout=3) == 56
        assert time.monotonic() - begin < 3
    assert crafted.fetch(own_lab, "/page/1").status == 200


def timeouts(lab, name):
    """Of the connections in a map: client's port -> seconds that it is kept without a packet."""
    return {entry[0]["elem"]["val"]["concat"][1]: entry[0]["elem"]["timeout"]
            for entry in elements(lab, name)}


def test_times_are_those_of_the_configuration(own_lab, tmp_path):
    """A silent connection lives as long as that and no longer, and so does a closed one."""
    crafted.up(own_lab, tmp_path, **{name: crafted.replaced(crafted.replaced(
        crafted.template(name), "idle_s = 60;", "idle_s = 3;"), "closing_s = 5;", "closing_s = 2;")
                                     for name in DAEMONS})
    with crafted.connect(own_lab) as silent, crafted.connect(own_lab) as closed:
        port, closed_port = silent.getsockname()[1], closed.getsockname()[1]
        assert crafted.ask(closed, "/page/1").status == 200
        closed.close()
        begin = time.monotonic()
        assert crafted.ask(silent, "/page/1").status == 200
        wait_until(lambda: timeouts(own_lab, "closing4"), 1)
        assert timeouts(own_lab, "closing4") == {closed_port: 2}
        wait_until(lambda: time.monotonic() > begin + 2.5)
        assert timeouts(own_lab, "flows4") == {port: 3}
        assert not elements(own_lab, "closing4")
        begin = time.monotonic()
        assert crafted.ask(silent, "/page/1").status == 200
        wait_until(lambda: not elements(own_lab, "flows4"), 7, "the end of the silent one")
        assert time.monotonic() - begin > 2.5
        silent.sendall(crafted.request("/page/1"))
        assert crafted.how_it_ends(silent) == ("reset", b"")


def make_small(lab, name, directory):
    """Give a map room for four connections."""
    text, count = re.subn(rf"(map {name} \{{\n.*\n\t\tsize) 1048576", r"\1 4",
                          (TOP / "nft/balancer.nft").read_text())
    assert count == 1
    (directory / "balancer.nft").write_text(text)
    lab.exec("balancer", "nft", "delete", "table", *TABLE.split())
    load_ruleset(lab, directory / "balancer.nft")
    wait_until(lambda: "was loaded, its sets are filled again" in lab.log("balancer"))


def up_short(lab, directory):
    """A lab whose balancer soon forgets: the ruleset does not believe the end of all clients."""
    crafted.up(lab, directory, balancer=crafted.replaced(crafted.template("balancer"),
                                                         "idle_s = 60;", "idle_s = 10;"))


def test_full_map(own_lab, tmp_path):
    """What the kernel does not learn is steered by the daemon, and counted; it recovers."""
    up_short(own_lab, tmp_path)
    make_small(own_lab, "flows4", tmp_path)
    path = crafted.path_of(own_lab, "backend1")
    socks = [crafted.connect(own_lab, timeout=10, source=(crafted.CLIENT, 7000 + number))
             for number in range(10)]
    for sock in socks:
        assert crafted.ask(sock, path).status == 200
    wait_until(lambda: crafted.ask(socks[0], path).status == 200 and crafted.ask(
        socks[-1], path).status == 200 and
        own_lab.counters("balancer").get("flows_not_learned", 0) >= 1)
    for _ in range(3):
        for sock in socks:
            assert crafted.ask(sock, path).backend == "backend1"
    counters = own_lab.counters("balancer")
    assert 5 <= counters["flows_not_learned"] <= 10
    assert own_lab.log("balancer").count("the kernel does not learn connections") == 1
    assert crafted.nft_packets(own_lab, "balancer", "not_learned", TABLE) >= 5
    assert own_lab.sha256("/files/100M.bin") == sha256_of("100M.bin")
    for sock in socks:
        crafted.reset_close(sock)
    # From the same ports: of the SYNs the daemon sees nothing.
    for number in range(10):
        assert crafted.fetch(own_lab, path, source=(crafted.CLIENT, 7000 + number)).status == 200
    # Room again: the map has no elements but those of the next one.
    wait_until(lambda: not elements(own_lab, "flows4"), 15, "an empty map")
    with crafted.connect(own_lab) as sock:
        # What was deleted counts until the kernel has collected it.
        wait_until(lambda: crafted.ask(sock, path).status == 200 and
                   len(elements(own_lab, "flows4")) == 1, 15, "a connection that is learned")


def test_full_map_of_closing_connections(own_lab, tmp_path):
    """What has no room there stays with those that live: nothing is lost."""
    content = os.urandom(1_000_000)

    def serve(sock):
        _, rest = read_request(sock)
        assert rest + read_all(sock) == b""
        sock.sendall(answer_header(len(content)) + content)

    # Or the daemon would teach the kernel once more what was lost.
    up_forgetful(own_lab, tmp_path, "--no-web")
    make_small(own_lab, "closing4", tmp_path)
    with Servers(own_lab, serve), contextlib.ExitStack() as stack:
        socks = [stack.enter_context(crafted.connect(own_lab)) for _ in range(10)]
        for sock in socks:
            sock.sendall(crafted.request("/half"))
        wait_until(lambda: len(elements(own_lab, "flows4")) == 10, what="ten connections")
        wait_until(lambda: own_lab.counters("balancer")["flows_now"] == 0)
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
        for sock in socks:
            assert crafted.response(sock).body == content
        closing, living = elements(own_lab, "closing4"), elements(own_lab, "flows4")
        assert len(closing) <= 4 and len(closing) + len(living) == 10
        for _ in range(3):
            with crafted.connect(own_lab) as sock:
                sock.sendall(crafted.request("/later"))
                sock.shutdown(socket.SHUT_WR)
                assert crafted.response(sock).body == content
    assert "flows_not_learned" not in own_lab.counters("balancer")


def test_numbers_of_bridges(own_lab):
    """They are kept when backends come, go and change their places, and connections go on."""
    own_lab.up()
    before = elements(own_lab, "bridges4")
    path = {name: crafted.path_of(own_lab, name) for name in SERVERS}
    socks = {name: crafted.connect(own_lab) for name in SERVERS}
    for name, sock in socks.items():
        assert crafted.ask(sock, path[name]).backend == name
    text = own_lab.config("balancer")
    groups = re.findall(r"\{[^{}]*192\.168\.33\.2[01][^{}]*\}", text)
    assert len(groups) == 2
    swapped = text.replace(groups[0], "@").replace(groups[1], groups[0]).replace("@", groups[1])
    alone = text[:text.index(groups[0])] + groups[1] + text[text.index(groups[1]) +
                                                            len(groups[1]):]
    for config in (swapped, alone):
        (own_lab.state / "balancer.conf").write_text(config)
        own_lab.daemon("stop", "balancer")
        own_lab.daemon("start", "balancer")
        assert elements(own_lab, "bridges4") == before
        for name, sock in socks.items():
            assert crafted.ask(sock, path[name]).backend == name
    for _ in range(5):
        assert crafted.fetch(own_lab, path["backend1"]).backend == "backend2"
    for sock in socks.values():
        sock.close()


TAKEN_OUT = pytest.mark.parametrize("old, new", [
    ("port = 80;", "port = 81;"),
    (f'address = "{VIP}";\n\t\tport', 'address = "192.168.33.11";\n\t\tport'),
], ids=["port", "address"])


@TAKEN_OUT
def test_a_service_is_taken_out(own_lab, tmp_path, old, new):
    """Its connections go on to their end; new ones find nobody."""
    up_short(own_lab, tmp_path)
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, path).status == 200
        before = own_lab.config("balancer")
        (own_lab.state / "balancer.conf").write_text(own_lab.config("balancer", old, new))
        own_lab.daemon("stop", "balancer")
        own_lab.daemon("start", "balancer")
        assert crafted.ask(sock, path).backend == "backend1"
        with pytest.raises(ConnectionRefusedError):
            crafted.connect(own_lab)
        assert crafted.ask(sock, path).backend == "backend1"
        (own_lab.state / "balancer.conf").write_text(before)
        own_lab.daemon("stop", "balancer")
        own_lab.daemon("start", "balancer")
        assert crafted.ask(sock, path).backend == "backend1"
        assert crafted.fetch(own_lab, path).backend == "backend1"
    wait_until(lambda: not elements(own_lab, "flows4"), 15, "the end of the connection")


def test_window_scale_of_the_configuration(own_lab, tmp_path):
    """Clients are told the web servers', so that the kernel can translate; or why they are not."""
    text = crafted.template("balancer")
    crafted.up(own_lab, tmp_path, balancer=f"window_scale = 2;\n{text}")
    with window_scale(own_lab, "backend1", 2), window_scale(own_lab, "backend2", 2), \
            crafted.Capture(own_lab, "client") as capture:
        for number in range(10):
            assert crafted.fetch(own_lab, f"/page/{number}").status == 200
        syn_ack = capture.find(crafted.is_syn_ack)
        assert crafted.tcp_option(syn_ack, "WScale") == 2
        for name in BRIDGE_OF.values():
            counters = own_lab.counters(name)
            assert counters["kernel_spliced"] == counters["spliced"] > 0
            assert "kernel_scale" not in counters
    assert "window_scale" not in own_lab.log("balancer")
    (own_lab.state / "balancer.conf").write_text(own_lab.config(
        "balancer", "window_scale = 2;", "window_scale = 14;"))
    own_lab.daemon("stop", "balancer")
    own_lab.daemon("start", "balancer")
    assert "warning: window_scale 14 is not what clients are told" in own_lab.log("balancer")


def test_quote_of_a_connection_that_only_the_kernel_knows(own_lab, tmp_path):
    """The daemons ask the kernel where the ICMP error belongs."""
    up_forgetful(own_lab, tmp_path)
    with idle_connection(own_lab) as client, raw.RawSender(own_lab, "balancer") as sender:
        wait_until(lambda: own_lab.counters("balancer")["flows_now"] == 0, 15)
        before = {name: own_lab.counters(name) for name in ("balancer", "bridge1")}
        sender.send(client.quote())
        crafted.counted(own_lab, "balancer", before["balancer"], quotes_steered=1)
        crafted.counted(own_lab, "bridge1", before["bridge1"], quotes_translated=1)
        assert b" 200 " in client.ask()
        assert client.path_mtu() == MTU


@TAKEN_OUT
def test_quote_of_a_connection_whose_service_was_taken_out(own_lab, old, new):
    """It goes on to its end, so its path MTU has to be found as well."""
    own_lab.up()
    with idle_connection(own_lab) as client, raw.RawSender(own_lab, "balancer") as sender:
        (own_lab.state / "balancer.conf").write_text(own_lab.config("balancer", old, new))
        own_lab.daemon("stop", "balancer")
        own_lab.daemon("start", "balancer")
        sender.send(client.quote())
        wait_until(lambda: own_lab.counters("bridge1").get("quotes_translated") == 1)
        assert own_lab.counters("balancer")["quotes_steered"] == 1
        assert b" 200 " in client.ask()
        assert client.path_mtu() == MTU


@pytest.mark.parametrize("forged", [("S",), ("FA", "S"), ("R", "S")], ids="-".join)
def test_forged_packets_do_not_wear_a_connection_out(own_lab, tmp_path, forged):
    """Nor do they make it be forgotten while it is in use, for longer than all of its times."""
    text = crafted.replaced(crafted.template("balancer"), "idle_s = 60;", "idle_s = 3;")
    crafted.up(own_lab, tmp_path, balancer=crafted.replaced(text, "closing_s = 5;", "closing_s = 2;"))
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as sock, raw.RawSender(own_lab, "balancer") as sender:
        assert crafted.ask(sock, path).status == 200
        for flags in forged:
            sender.send(raw.ipv4(raw.tcp(sport=sock.getsockname()[1], seq=0x12345678, ack=0,
                                         flags=FLAGS[flags])))
        wait_until(lambda: elements(own_lab, "contested4", "set"), what="a contested connection")
        begin = time.monotonic()
        while time.monotonic() - begin < 5:
            assert crafted.ask(sock, path).backend == "backend1"
    assert "flows_reused" not in own_lab.counters("balancer")


def test_a_client_that_comes_while_the_daemon_is_away(own_lab):
    """It is not refused, and served when it comes again."""
    own_lab.up()
    own_lab.daemon("stop", "balancer")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(crafted.fetch, own_lab, "/page/1", timeout=15)
        with pytest.raises(concurrent.futures.TimeoutError):
            answer.result(timeout=0.5)
        own_lab.daemon("start", "balancer")
        assert answer.result().status == 200
    assert crafted.nft_packets(own_lab, "balancer", "refused", TABLE) >= 1


def test_marks_of_others(own_lab):
    """What somebody has marked before our rules is a packet like any other."""
    own_lab.up()
    mark = "chain c { type filter hook prerouting priority -400; meta mark set 7; }"
    with crafted.nft(own_lab, "balancer", mark):
        for number in range(4):
            assert crafted.fetch(own_lab, f"/page/{number}").status == 200
        assert not elements(own_lab, "contested4", "set")
        assert crafted.nft_packets(own_lab, "balancer", "handshakes", TABLE) == 4
