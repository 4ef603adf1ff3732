# SPDX-License-Identifier: GPL-2.0-or-later
"""Path MTU discovery of the answers, and other ICMP errors about them, true and forged."""

import contextlib
import hashlib
import http.client
import re
import socket
import subprocess
import time

import pytest

import crafted
import raw
from conftest import FILES, VIP, wait_until
from support import BRIDGE_OF, CraftedTcp

ROUTER = "192.168.33.200"
# Always the same, because the hosts remember it.
ROUTER_LINK = "02:00:00:00:00:c8"
FAR_NET, FAR_ROUTER, FAR_CLIENT = "10.33.0.0/24", "10.33.0.1", "10.33.0.2"
HOSTS_OF_THE_LAN = ("balancer", "backend1", "backend2")
SIZE = 20000000
MTU = 1280


@pytest.fixture(scope="module")
def body():
    """What is fetched: the begin of a large file."""
    with open(FILES / "100M.bin", "rb") as file:
        return file.read(SIZE)


def ip(*arguments, **options):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, **options)


def set_mtu(lab, mtu):
    """Of the link between router and far client."""
    ip("-n", f"l3dsr-{lab.name}-router", "link", "set", "far", "mtu", str(mtu))
    ip("-n", f"l3dsr-{lab.name}-far", "link", "set", "eth0", "mtu", str(mtu))


def forget_paths(lab):
    for host in ("backend1", "backend2"):
        lab.exec(host, "ip", "route", "flush", "cache")


@pytest.fixture
def far(lab):
    """A client behind a router. It says that it takes segments of 1460 bytes, as most do."""
    switch, router, client = (f"l3dsr-{lab.name}-{name}" for name in ("switch", "router", "far"))
    try:
        ip("netns", "add", router)
        ip("netns", "add", client)
        ip("netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1",
           "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0")
        ip("-n", switch, "-batch", "-", input=f"""
            link add router type veth peer name eth0 address {ROUTER_LINK} netns {router}
            link set router master lan0 up""")
        ip("-n", router, "-batch", "-", input=f"""
            link add far type veth peer name eth0 netns {client}
            address add {ROUTER}/24 dev eth0
            address add {FAR_ROUTER}/24 dev far
            link set eth0 up
            link set far up""")
        ip("-n", client, "-batch", "-", input=f"""
            address add {FAR_CLIENT}/24 dev eth0
            link set eth0 up
            route add default via {FAR_ROUTER} advmss 1460""")
        for host in HOSTS_OF_THE_LAN:
            lab.exec(host, "ip", "route", "add", FAR_NET, "via", ROUTER)
        yield lab
    finally:
        # The kernel takes its time for what is in a namespace that is gone.
        subprocess.run(["ip", "-n", switch, "link", "delete", "router"], check=False)
        for name in (client, router):
            subprocess.run(["ip", "netns", "delete", name], check=False)
        for host in HOSTS_OF_THE_LAN:
            lab.exec(host, "ip", "route", "delete", FAR_NET, check=False)
        forget_paths(lab)


def connect(lab):
    with crafted.inside(lab, "far"):
        sock = socket.socket()
    sock.settimeout(10)
    sock.connect((VIP, 80))
    return sock


def quotes(lab):
    return {"quotes_steered": lab.counters("balancer").get("quotes_steered", 0),
            "quotes_translated": sum(lab.counters(name).get("quotes_translated", 0)
                                     for name in BRIDGE_OF.values())}


@pytest.mark.parametrize("narrow", ["before", "meanwhile"])
def test_a_download_fits_itself_into_the_path(far, body, narrow):
    """The router tells the VIP, balancer and bridge tell the web server: nothing hangs."""
    before = quotes(far)
    if narrow == "before":
        set_mtu(far, MTU)
    with connect(far) as sock:
        # Or all of it is on its way before the path is narrow.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 500000)
        sock.sendall(crafted.request("/files/100M.bin", f"Range: bytes=0-{SIZE - 1}"))
        begin = time.monotonic()
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        digest = hashlib.sha256(answer.read(SIZE // 10))
        if narrow == "meanwhile":
            assert quotes(far) == before
            set_mtu(far, MTU)
        while piece := answer.read(65536):
            digest.update(piece)
        assert time.monotonic() - begin < 3
    assert digest.digest() == hashlib.sha256(body).digest()
    after = quotes(far)
    assert after["quotes_steered"] > before["quotes_steered"]
    # The router is as near as the client: no quote is lost between the two.
    assert after["quotes_translated"] - before["quotes_translated"] == \
        after["quotes_steered"] - before["quotes_steered"]


def test_later_connections_know_the_path(far):
    """It is the web server's kernel that has learned, as without us."""
    set_mtu(far, MTU)
    path = crafted.path_of(far, "backend1")
    for _ in range(2):
        before = quotes(far)
        with connect(far) as sock:
            sock.sendall(crafted.request(path, f"X-Long: {'x' * 100}"))
            assert crafted.response(sock).backend == "backend1"
        with connect(far) as sock:
            sock.sendall(crafted.request("/files/1M.bin"))
            assert len(crafted.response(sock).body) == 1000000
    assert quotes(far) == before


# Quotes by hand: what a router, or somebody who only says so, sends to the VIP.

class Quoted(CraftedTcp):
    """A client with an idle connection to a web server, which errors can be about."""

    def __init__(self, lab):
        super().__init__(lab)
        self.path = crafted.path_of(lab, "backend1")

    def ask(self):
        """A request, and its whole answer."""
        self.send(crafted.request(self.path))
        return self.read(lambda data: data.endswith(f" {self.path}\n".encode()))

    def segment(self, beyond=0, **fields):
        """The begin of the next answer, as the client counts."""
        return raw.tcp(bytes(1448), VIP, self.address, 80, fields.pop("port", self.port),
                       seq=self.ack + beyond, ack=self.seq)

    def quote(self, kind=3, code=4, rest=MTU, quoted=28, damage=0, destination=VIP, dscp=0,
              options=b"", outer=b"", **fields):
        """An error; `quoted` is how many bytes of the packet come with it."""
        packet = raw.ipv4(self.segment(**fields), VIP, self.address, options=options)
        return raw.ipv4(raw.icmp(kind, code, rest, packet[:quoted], damage), ROUTER, destination,
                        socket.IPPROTO_ICMP, dscp=dscp, options=outer)

    def path_mtu(self):
        """What the web server's kernel believes of the way to this client."""
        text = self.lab.exec("backend1", "ss", "-Htni", "sport", "=", ":80", "and", "dport", "=",
                             f":{self.port}").stdout
        return int(re.search(r"pmtu:(\d+)", text)[1])


@contextlib.contextmanager
def idle_connection(lab):
    with Quoted(lab) as client:
        client.connect()
        assert b" 200 " in client.ask()
        try:
            yield client
        finally:
            client.reset()
            forget_paths(lab)


STEERED = {"quotes_steered": 1}
TRANSLATED = {"quotes_translated": 1}
NOP_NOP_NOP_END = b"\1\1\1\0"

# What is sent; who counts it: balancer, bridge, kernel of the balancer, kernel of the backend; and
# the path MTU that the web server's kernel believes in then.
QUOTES = {
    "eight_bytes": ({}, STEERED, TRANSLATED, {}, {}, MTU),
    "whole_header": ({"quoted": 40}, STEERED, TRANSLATED, {}, {}, MTU),
    "much": ({"quoted": 548}, STEERED, TRANSLATED, {}, {}, MTU),
    "behind_options": ({"outer": NOP_NOP_NOP_END}, STEERED, TRANSLATED, {}, {}, MTU),
    # A path MTU that small is not believed by Linux: tcp_mtu_reduced() takes 552, its min_pmtu.
    "small_mtu": ({"rest": 68}, STEERED, TRANSLATED, {}, {}, 552),
    # Guessed: the web server's kernel knows that it has not sent that.
    "later": ({"beyond": 1}, STEERED, TRANSLATED, {}, {"TcpExtOutOfWindowIcmps": 1}, 1500),
    "earlier": ({"beyond": -100000}, STEERED, TRANSLATED, {}, {"TcpExtOutOfWindowIcmps": 1}, 1500),
    "far_away": ({"beyond": 1 << 31}, STEERED, TRANSLATED, {}, {"TcpExtOutOfWindowIcmps": 1}, 1500),
    # The bridge writes a new checksum, so it looks at the old one.
    "damaged": ({"damage": 1}, STEERED, {"drop_checksum": 1}, {}, {}, 1500),
    "damaged_much": ({"damage": 4711, "quoted": 548}, STEERED, {"drop_checksum": 1}, {}, {}, 1500),
    # Of no connection that is steered: about a handshake of the balancer's kernel, or nothing.
    "unknown_port": ({"port": 1}, {"passed": 1}, {}, {"IcmpInErrors": 1}, {}, 1500),
    # Too short to tell the connection, or (first) even to choose a queue for it.
    "cut_3": ({"quoted": 23}, {}, {}, {"IcmpInErrors": 1}, {}, 1500),
    "cut_4": ({"quoted": 24}, {"drop_truncated": 1}, {}, {}, {}, 1500),
    "cut_7": ({"quoted": 27}, {"drop_truncated": 1}, {}, {}, {}, 1500),
    "empty": ({"quoted": 0}, {}, {}, {"IcmpInErrors": 1}, {}, 1500),
    # Our packets have no IP options.
    "options": ({"options": NOP_NOP_NOP_END, "quoted": 60}, {}, {}, {"IcmpInErrors": 1}, {}, 1500),
    # Sent to the bridge at once.
    "to_bridge": ({"destination": "192.168.33.20", "dscp": 1}, {}, TRANSLATED, {}, {}, MTU),
    "to_bridge_unknown": ({"destination": "192.168.33.20", "dscp": 1, "port": 1}, {},
                          {"drop_quote_unknown": 1}, {}, {}, 1500),
    # With an index that is not the one of the VIP.
    "to_bridge_index": ({"destination": "192.168.33.20", "dscp": 2}, {}, {"drop_unknown_index": 1},
                        {}, {}, 1500),
    "to_bridge_cut": ({"destination": "192.168.33.20", "dscp": 1, "quoted": 27}, {},
                      {"drop_truncated": 1}, {}, {}, 1500),
    "to_bridge_no_index": ({"destination": "192.168.33.20"}, {}, {}, {}, {"IcmpInErrors": 1}, 1500),
    # Other errors end nothing (RFC 5927, 5.2); the web server's kernel gets to know them.
    "host_unreachable": ({"code": 1, "rest": 0}, STEERED, TRANSLATED, {},
                         {"IcmpInDestUnreachs": 1}, 1500),
    "port_unreachable": ({"code": 3, "rest": 0}, STEERED, TRANSLATED, {},
                         {"IcmpInDestUnreachs": 1}, 1500),
    "time_exceeded": ({"kind": 11, "code": 0, "rest": 0}, STEERED, TRANSLATED, {},
                      {"IcmpInTimeExcds": 1}, 1500),
    "parameter_problem": ({"kind": 12, "code": 0, "rest": 0}, STEERED, TRANSLATED, {},
                          {"IcmpInParmProbs": 1}, 1500),
    # No errors, or such that nobody sends any more: they are the kernel's.
    "source_quench": ({"kind": 4, "code": 0}, {}, {}, {"IcmpInErrors": 1, "IcmpInSrcQuenchs": 1},
                      {}, 1500),
    "redirect": ({"kind": 5, "code": 1}, {}, {}, {"IcmpInErrors": 1, "IcmpInRedirects": 1}, {},
                 1500),
    "unknown_type": ({"kind": 200}, {}, {}, {"IcmpInErrors": 1}, {}, 1500),
}
COUNTERS = {name for kind in QUOTES.values() for counts in kind[1:3] for name in counts}
KERNEL = {name for kind in QUOTES.values() for counts in kind[3:5] for name in counts
          if name != "IcmpInDestUnreachs"}


def grown(before, after, names):
    """The counters that have changed, and by how much."""
    change = {name: after.get(name, 0) - before.get(name, 0) for name in names}
    return {name: value for name, value in change.items() if value}


@pytest.mark.parametrize("quote", QUOTES)
def test_quotes(lab, quote):
    fields, balancer, bridge, balancer_kernel, server_kernel, mtu = QUOTES[quote]
    to = "backend1" if "destination" in fields else "balancer"
    with idle_connection(lab) as client, raw.RawSender(lab, to) as sender:
        assert client.path_mtu() == 1500
        daemons = {name: lab.counters(name) for name in ("balancer", "bridge1")}
        kernels = {host: raw.kernel_counters(lab, host) for host in ("balancer", "backend1")}
        sender.send(client.quote(**fields))
        # What the kernel translates overtakes what waits for a daemon.
        for name, expected in (("balancer", balancer), ("bridge1", bridge)):
            wait_until(lambda name=name, expected=expected: grown(
                daemons[name], lab.counters(name), COUNTERS) == expected, what=f"{expected}")
        # It has arrived when what came by the same cable after it was answered.
        assert b" 200 " in client.ask()
        for name, expected in (("balancer", balancer), ("bridge1", bridge)):
            assert grown(daemons[name], lab.counters(name), COUNTERS) == expected
        for host, expected in (("balancer", balancer_kernel), ("backend1", server_kernel)):
            assert grown(kernels[host], raw.kernel_counters(lab, host),
                         KERNEL | set(expected)) == expected
        assert client.path_mtu() == mtu


def test_ping(lab):
    """Other ICMP to the addresses is left alone, with an index too."""
    for address in (VIP, *crafted.BRIDGES.values()):
        lab.exec("client", "ping", "-c", "2", "-i", "0.01", "-W", "2", "-Q", "4", address)
