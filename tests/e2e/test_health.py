# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends that go down and come back, while clients ask: who is asked, what is said, who serves."""

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

import crafted
from conftest import VIP, wait_until
from support import paused

PATHS = [f"/page/{number}" for number in range(60)]
HEALTH = "\nhealth = {{ interval_ms = {interval}; fast_ms = {fast}; slow_start_s = {slow_start}; }};\n"
BACKEND = '{{ name = "cache{0}"; address = "192.168.33.{1}"; }}'


def config(backends=4, interval=500, fast=50, slow_start=0, change=lambda text: text):
    """A balancer's configuration; `change` gets its text."""
    text = crafted.template("balancer")
    lists = ", ".join(BACKEND.format(number, 19 + number) for number in range(1, backends + 1))
    text, count = re.subn(r'\{ name = "cache1".*?"192.168.33.21"; \}', lists, text, flags=re.S)
    assert count == 1
    return change(text) + HEALTH.format(interval=interval, fast=fast, slow_start=slow_start)


def up(lab, directory, backends=4, bridges=None, **options):
    files = {"balancer": config(backends, **options), **(bridges or {})}
    for name, text in files.items():
        (directory / f"{name}.conf").write_text(text)
    lab.up("--backends", backends, *(directory / f"{name}.conf" for name in files))
    wait_until(lambda: lab.counters("balancer").get("status_received", 0) >= backends,
               what="an answer of each bridge")


def news(lab, backend="cache1"):
    """What the balancer's log says about a backend: ("down", cause) and so on."""
    return re.findall(rf"service www: backend {backend} \(\S+\) is (up|down): (.*)",
                      lab.log("balancer"))


def served(lab, paths=PATHS):
    """Who serves each path; fails when one is not served."""
    answers = crafted.fetch_all(lab, paths)
    assert {answer.status for answer in answers.values()} == {200}
    return {path: answer.backend for path, answer in answers.items()}


def share(lab, backend="backend1"):
    return sum(found == backend for found in served(lab).values())


# Ways of going down. Each is a context in which backend1 does not serve.

@contextlib.contextmanager
def web_server_stopped(lab):
    crafted.stop_nginx(lab, "backend1")
    yield
    crafted.start_nginx(lab, "backend1")


def web_server_silent(lab):
    return crafted.nft(lab, "backend1", "chain c { type filter hook input priority 0; "
                       "tcp dport 80 tcp flags syn drop; }")


@contextlib.contextmanager
def bridge_killed(lab):
    lab.daemon("kill", "bridge1")
    yield
    lab.daemon("start", "bridge1")


@contextlib.contextmanager
def host_gone(lab):
    lab.exec("backend1", "ip", "link", "set", "eth0", "down")
    yield
    lab.exec("backend1", "ip", "link", "set", "eth0", "up")


def network_sets(dscp):
    """The last switch before the bridge has an opinion on the field."""
    return lambda lab: crafted.nft(lab, "backend1", "chain c { type filter hook prerouting priority "
                                   f"-500; ip dscp 1 ip dscp set {dscp}; }}")


@contextlib.contextmanager
def restarted(lab, old, new):
    """bridge1 with something else in its configuration."""
    path = lab.state / "bridge1.conf"
    before = path.read_text()
    lab.daemon("stop", "bridge1")
    path.write_text(crafted.replaced(before, old, new))
    lab.daemon("start", "bridge1")
    yield
    lab.daemon("stop", "bridge1")
    path.write_text(before)
    lab.daemon("start", "bridge1")


def wrong_index(lab):
    return restarted(lab, "index = 1;", "index = 2;")


def wrong_port(lab):
    return restarted(lab, "\tport = 80;", "\tport = 81;")


def wrong_key(lab):
    other = lab.state / "other.key"
    if not other.exists():
        subprocess.run(["cp", "-p", lab.state / "handoff.key", other], check=True)
        number, digits = other.read_text().split()
        other.write_text(f"{number} {digits[::-1]}\n")
    return restarted(lab, str(lab.state / "handoff.key"), str(other))


def unknown_key_id(lab):
    other = lab.state / "other-id.key"
    if not other.exists():
        subprocess.run(["cp", "-p", lab.state / "handoff.key", other], check=True)
        number, digits = other.read_text().split()
        other.write_text(f"{int(number) + 7} {digits}\n")
    return restarted(lab, str(lab.state / "handoff.key"), str(other))


CAUSES = [
    (web_server_stopped, "the web server refuses connections"),
    (web_server_silent, "the web server does not answer in time"),
    (bridge_killed, "the bridge does not answer"),
    (host_gone, "the bridge does not answer"),
    (network_sets(46), "the network remarks the DSCP field, to 46"),
    (network_sets(0), "the network clears the DSCP field"),
    (wrong_index, "the bridge has no service of this index, address and port"),
    (wrong_port, "the bridge has no service of this index, address and port"),
    (wrong_key, "the bridge has another key: compare the key files"),
    (unknown_key_id, "the bridge has another key: compare the key files"),
]


@pytest.mark.once
@pytest.mark.parametrize("failure, cause", CAUSES, ids=[
    "stopped", "silent", "killed", "gone", "remarked", "cleared", "index", "port", "key", "key-id"])
def test_each_cause_has_its_message(own_lab, tmp_path, failure, cause):
    """Said once; its URLs are served by the other meanwhile, and are its own again afterwards."""
    up(own_lab, tmp_path, backends=2)
    before = served(own_lab)
    assert set(before.values()) == {"backend1", "backend2"}
    with failure(own_lab):
        wait_until(lambda: ("down", cause) in news(own_lab), what=f"the news that {cause}")
        opens = own_lab.counters("balancer")
        assert set(served(own_lab).values()) == {"backend2"}
        after = own_lab.counters("balancer")
        # It was not even offered to the other.
        assert after["accepted"] - opens["accepted"] == after["open_sent"] - opens["open_sent"]
        # More probes of the same result are no news.
        asked = after["probes_sent"]
        wait_until(lambda: own_lab.counters("balancer")["probes_sent"] >= asked + 8,
                   what="more probes")
    wait_until(lambda: news(own_lab)[-1] == ("up", "the web server answers"), what="the return")
    assert served(own_lab) == before
    # On its way down, a daemon that is started anew is silent for a moment.
    causes = [why for state, why in news(own_lab) if state == "down"]
    assert causes.count(cause) == 1 and set(causes) <= {cause, "the bridge does not answer"}
    assert not news(own_lab, "cache2")


@pytest.mark.once
def test_another_version(own_lab, tmp_path):
    """A bridge that speaks version 2 tells so, in a message that cannot be verified."""
    up(own_lab, tmp_path, backends=2)
    own_lab.daemon("stop", "bridge1")
    with crafted.inside(own_lab, "backend1"):
        sock = crafted.socket.socket(crafted.socket.AF_INET, crafted.socket.SOCK_DGRAM)
    with sock, crafted.Capture(own_lab, "backend1") as capture:
        sock.bind((crafted.BRIDGES["backend1"], 0))
        seen = set()

        def explained():
            for packet in capture.packets():
                data = bytes(packet[crafted.TCP].payload) if crafted.TCP in packet else b""
                if len(data) == 88 and data[3] == 5 and data[8:16] not in seen:
                    seen.add(data[8:16])
                    status = b"\x6c\x33\x02\x06" + bytes(4) + data[8:16] + bytes(60)
                    sock.sendto(status, (VIP, 6307))
            return ("down", "the bridge speaks another version of the handoff messages") in \
                news(own_lab)

        wait_until(explained, what="the news")
    own_lab.daemon("start", "bridge1")
    assert own_lab.counters("balancer")["drop_handoff_version"] > 0


@pytest.mark.once
@pytest.mark.parametrize("lost", [2, 3])
def test_lost_answers(own_lab, tmp_path, lost):
    """Two in a row are a doubt, which is soon over; three are what health.fall says."""
    up(own_lab, tmp_path, backends=2)
    rules = f"chain c {{ type filter hook input priority -10; udp dport 6307 ip saddr 192.168.33.20 " \
            f"numgen inc mod 1000000 < {lost} drop; }}"
    with crafted.nft(own_lab, "balancer", rules):
        wait_until(lambda: own_lab.counters("balancer").get("probes_silent") == lost,
                   what="the loss")
        asked = own_lab.counters("balancer")["status_received"]
        wait_until(lambda: own_lab.counters("balancer")["status_received"] >= asked + 8,
                   what="more answers")
    assert [state for state, _ in news(own_lab)] == ([] if lost == 2 else ["down", "up"])
    assert own_lab.counters("balancer")["probes_silent"] == lost


@pytest.mark.once
def test_probes_off(own_lab):
    """Nobody is asked, and everybody is up."""
    own_lab.up("--probes", "off")
    with web_server_stopped(own_lab):
        for _ in range(5):
            assert set(served(own_lab).values()) == {"backend2"}
    # Each of its URLs was offered to it each time.
    assert own_lab.counters("balancer")["open_refused"] % 5 == 0
    assert own_lab.counters("balancer")["open_refused"] >= 50
    assert "probes_sent" not in own_lab.counters("balancer")
    assert "probes" not in own_lab.counters("bridge2")
    assert not news(own_lab)


@pytest.mark.once
def test_all_are_said_to_be_down(own_lab, tmp_path):
    """Probes do not come through, connections do: clients are served all the same."""
    up(own_lab, tmp_path, backends=2)
    before = served(own_lab)
    rules = "chain c { type filter hook prerouting priority -500; tcp flags syn ip length 128 " \
            "@th,184,8 5 drop; }"
    with crafted.nft(own_lab, "backend1", rules), crafted.nft(own_lab, "backend2", rules):
        for name in ("cache1", "cache2"):
            wait_until(lambda name=name: news(own_lab, name), what=f"the news about {name}")
            assert news(own_lab, name) == [("down", "the bridge does not answer")]
        assert served(own_lab) == before
        assert own_lab.counters("balancer")["last_resort"] >= len(PATHS)
    for name in ("cache1", "cache2"):
        wait_until(lambda name=name: news(own_lab, name)[-1][0] == "up", what="the return")
    resort = own_lab.counters("balancer")["last_resort"]
    assert served(own_lab) == before
    assert own_lab.counters("balancer")["last_resort"] == resort


@pytest.mark.once
def test_those_that_are_down_are_the_last_resort(own_lab, tmp_path):
    """The only one that is up refuses everybody: the other is tried, and serves."""
    up(own_lab, tmp_path, backends=2, interval=3600000)
    rules = "chain c { type filter hook prerouting priority -500; tcp flags syn ip length 128 " \
            "@th,184,8 5 drop; }"
    with crafted.nft(own_lab, "backend1", rules):
        # A doubt has the probe sent.
        with web_server_stopped(own_lab):
            served(own_lab)
        wait_until(lambda: news(own_lab), what="the news")
        refused = "chain c { type filter hook input priority 0; tcp dport 80 tcp flags & (syn | ack) " \
                  "== syn ip saddr 192.168.33.1 reject with tcp reset; }"
        with crafted.nft(own_lab, "backend2", refused):
            assert set(served(own_lab).values()) == {"backend1"}
    assert not news(own_lab, "cache2")
    assert own_lab.counters("balancer")["last_resort"] >= len(PATHS)


def test_drained_by_configuration(own_lab, tmp_path, data_plane):
    """No new connection, not even when nobody else is left; live ones go on; it is asked as before."""
    up(own_lab, tmp_path, backends=2)
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, path).backend == "backend1"
        (own_lab.state / "balancer.conf").write_text(crafted.replaced(
            own_lab.config("balancer"), '"192.168.33.20"; }', '"192.168.33.20"; state = "drain"; }'))
        own_lab.daemon("stop", "balancer")
        own_lab.daemon("start", "balancer")
        if data_plane == "kernel": # the other ends connections with the daemon
            assert crafted.ask(sock, path).backend == "backend1"
    opens = own_lab.counters("bridge1")["opens"]
    assert set(served(own_lab).values()) == {"backend2"}
    probes = own_lab.counters("bridge1")["probes"]
    wait_until(lambda: own_lab.counters("bridge1")["probes"] >= probes + 3, what="more probes")
    assert not news(own_lab) and not news(own_lab, "cache2")
    crafted.stop_nginx(own_lab, "backend2")
    with crafted.connect(own_lab) as sock:
        sock.sendall(crafted.request(path))
        assert crafted.how_it_ends(sock)[0] == "reset"
    assert own_lab.counters("bridge1")["opens"] == opens
    crafted.start_nginx(own_lab, "backend2")


def http_check(number, *settings):
    text = crafted.template(f"bridge{number}")
    return crafted.replaced(text, "server_port = 80;", " ".join((
        'server_port = 80; check = "http";', *settings)))


@pytest.mark.once
def test_http_check(own_lab, tmp_path):
    """The path that is asked for, as whom, and the status that is expected."""
    up(own_lab, tmp_path, backends=3, bridges={
        "bridge1": http_check(1, 'check_path = "/whoami";', 'check_host = "www.example";'),
        "bridge2": http_check(2, 'check_path = "/nothing";'),
        "bridge3": crafted.template("bridge2").replace("192.168.33.21", "192.168.33.22").replace(
            "192.168.33.31", "192.168.33.32").replace(
            "server_port = 80;",
            'server_port = 80; check = "http"; check_path = "/nothing"; check_status = 404;')})
    wait_until(lambda: news(own_lab, "cache2"), what="the news")
    assert news(own_lab, "cache2") == [("down", "the web server answers with status 404")]
    assert set(served(own_lab).values()) == {"backend1", "backend3"}
    assert not news(own_lab) and not news(own_lab, "cache3")
    asked = re.findall(r'^(\S+):\d+ "(.*)" (\d+)', own_lab.web_log("backend1"), re.M)
    assert (crafted.BRIDGES["backend1"], "GET /whoami HTTP/1.1", "200") in asked
    assert "service www: the web server answers with another HTTP status, 404 (192.168.33.31:80)" in \
        own_lab.log("bridge2")
    # None of them leaves anything in the ruleset.
    assert "elements" not in own_lab.exec("backend1", "nft", "list", "set", "inet", "l3dsr_bridge",
                                          "direct4").stdout


@pytest.mark.once
def test_a_web_server_that_hangs(own_lab, tmp_path):
    """Its kernel takes connections, nothing answers: the bridge does, and is not called silent."""
    up(own_lab, tmp_path, backends=2,
       bridges={"bridge1": http_check(1, 'check_path = "/whoami";', "check_timeout_ms = 600;")})
    with paused(*[int(pid) for pid in own_lab.exec(
            "backend1", "pgrep", "--ns", (own_lab.state / "nginx-backend1.pid").read_text().strip(),
            "--nslist", "net", "nginx").stdout.split()]):
        wait_until(lambda: news(own_lab), what="the news")
        assert news(own_lab) == [("down", "the web server does not answer in time")]
    wait_until(lambda: news(own_lab)[-1][0] == "up", what="the return")


@pytest.mark.once
def test_slow_start(own_lab, tmp_path):
    """It gets its URLs back little by little, and no others."""
    up(own_lab, tmp_path, slow_start=4)
    before = served(own_lab)
    own = {path for path in PATHS if before[path] == "backend1"}
    assert len(own) >= 5
    with web_server_stopped(own_lab):
        wait_until(lambda: news(own_lab), what="the news")
        assert share(own_lab) == 0
    wait_until(lambda: news(own_lab)[-1][0] == "up", what="the return")
    back = time.monotonic()
    shares = []
    while len(shares) < 3 or shares[-1] < len(own):
        now = served(own_lab)
        theirs = {path for path in PATHS if now[path] == "backend1"}
        assert theirs <= own
        assert {path: found for path, found in now.items() if path not in own} == \
            {path: found for path, found in before.items() if path not in own}
        shares.append(len(theirs))
        assert time.monotonic() - back < 10
    assert shares == sorted(shares)
    assert shares[0] <= len(own) / 2
    assert time.monotonic() - back > 1


@pytest.mark.once
def test_window_scale(own_lab, tmp_path):
    """Told once, before any connection."""
    up(own_lab, tmp_path, backends=2)
    with crafted.sysctls(own_lab, "backend1", tcp_rmem="4096 131072 6291456"):
        wait_until(lambda: "window scale 7" in own_lab.log("balancer"), what="the warning")
        asked = own_lab.counters("balancer")["status_received"]
        wait_until(lambda: own_lab.counters("balancer")["status_received"] > asked + 6,
                   what="more answers")
    line, = re.findall(r"warning: (.*window scale.*)", own_lab.log("balancer"))
    assert line == ("service www: the web server of backend cache1 has window scale 7, and clients "
                    "are told 10: no kernel translates such connections, see window_scale")


# Under load

CONNECTIONS = 32
INTERVAL = 1.0

URLS = """
local number = 0
function request()
    number = number + 1
    return wrk.format("GET", "/page/load-" .. number)
end
"""


@contextlib.contextmanager
def load(lab, directory):
    """A new connection for each request, as fast as they are answered, until the context is left.

    Yields an object that has "failed" and "requests" then.
    """
    script = directory / "urls.lua"
    script.write_text(URLS)
    wrk = lab.popen("client", "wrk", "-t", 2, "-c", CONNECTIONS, "-d", 60, "--timeout", "30s",
                    "-s", script, "-H", "Connection: close", f"http://{VIP}",
                    stdout=subprocess.PIPE, text=True)
    result = type("Result", (), {})()
    try:
        # Counters begin to move when it runs.
        before = lab.counters("balancer").get("accepted", 0)
        wait_until(lambda: lab.counters("balancer").get("accepted", 0) > before + 200,
                   what="requests")
        yield result
    finally:
        wrk.send_signal(signal.SIGINT)
        text = wrk.communicate(timeout=10)[0]
    assert "Non-2xx" not in text, text
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    result.failed = sum(map(int, errors.groups())) if errors else 0
    result.requests = int(re.search(r"(\d+) requests in", text).group(1))


def more_requests(lab, name="bridge1", count=50):
    """Wait until a bridge has got some more."""
    before = lab.counters(name).get("spliced", 0)
    wait_until(lambda: lab.counters(name).get("spliced", 0) >= before + count, 10,
               f"more requests for {name}")


# As it happens to one that is to be taken away with care: nothing new comes to it, what it has ends.

@contextlib.contextmanager
def web_server_leaves(lab):
    rules = "chain c { type filter hook input priority 0; tcp dport 80 tcp flags & (syn | ack) == " \
            "syn reject with tcp reset; }"
    with crafted.nft(lab, "backend1", rules):
        yield
        with web_server_stopped(lab):
            more_requests(lab, "bridge2")


@contextlib.contextmanager
def host_leaves(lab):
    rules = "chain c { type filter hook prerouting priority -500; tcp flags & (syn | ack) == syn " \
            "ip length > 100 drop; }"
    with crafted.nft(lab, "backend1", rules):
        yield
        with host_gone(lab):
            more_requests(lab, "bridge2")


@pytest.mark.plain
@pytest.mark.parametrize("way", [web_server_leaves, host_leaves, pytest.param(
    bridge_killed, marks=pytest.mark.only("kernel"))])
def test_no_request_fails(own_lab, tmp_path, way):
    """With the settings of a default configuration: down within an interval, and back."""
    up(own_lab, tmp_path, interval=1000, fast=100)
    with load(own_lab, tmp_path) as result:
        with way(own_lab):
            begin = time.monotonic()
            wait_until(lambda: news(own_lab), what="the news")
            took = time.monotonic() - begin
        wait_until(lambda: news(own_lab)[-1][0] == "up", what="the return")
        more_requests(own_lab)
    print(f"{way.__name__}: down after {took:.2f} s, {result.requests} requests")
    assert result.failed == 0
    assert took < INTERVAL + 0.25 # to read the log
    assert [state for state, _ in news(own_lab)] == ["down", "up"]
    assert not any(news(own_lab, f"cache{number}") for number in (2, 3, 4))


@contextlib.contextmanager
def web_server_killed(lab):
    pid = (lab.state / "nginx-backend1.pid").read_text().strip()
    pids = lab.exec("backend1", "pgrep", "--ns", pid, "--nslist", "net", "nginx").stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    yield
    crafted.start_nginx(lab, "backend1")


@pytest.mark.plain
@pytest.mark.parametrize("way", [web_server_killed, host_gone, pytest.param(
    bridge_killed, marks=pytest.mark.only("userspace"))])
def test_only_what_it_had_is_lost(own_lab, tmp_path, way):
    """One that dies takes along what it is answering at that moment, and no more."""
    up(own_lab, tmp_path, interval=1000, fast=100)
    with load(own_lab, tmp_path) as result:
        with way(own_lab):
            wait_until(lambda: news(own_lab), what="the news")
            more_requests(own_lab, "bridge2", 200)
        wait_until(lambda: news(own_lab)[-1][0] == "up", what="the return")
        more_requests(own_lab)
    print(f"{way.__name__}: {result.failed} of {result.requests} requests failed")
    assert result.failed <= CONNECTIONS
    assert not any(news(own_lab, f"cache{number}") for number in (2, 3, 4))


# Bounded load

HOT = "/files/100M.bin"


def start_downloads(lab, stack, count):
    """Connections that have the begin of a file, and wait; who serves each."""
    found = []
    for _ in range(count):
        sock = stack.enter_context(crafted.connect(lab))
        sock.sendall(crafted.request(HOT))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1024)
        found.append(re.search(rb"X-Backend: (\S+)", head).group(1).decode())
    return found


def test_bounded_load(own_lab, tmp_path):
    """A URL that all want: nobody gets beyond its bound; when they leave, the URL is its owner's."""
    up(own_lab, tmp_path, change=lambda text: crafted.replaced(
        text, 'name = "caches";', 'name = "caches"; load_factor = 1.25;'))
    # In turn, and not all backends are needed for the first one.
    with contextlib.ExitStack() as stack:
        found = start_downloads(own_lab, stack, 40)
        owner = found[0]
        counts = sorted(found.count(f"backend{number}") for number in range(1, 5))
        # ceil(1.25 * 40 / 4), and the rest spills in the order of the list.
        assert counts[-1] == 13
        assert found.count(owner) == 13
        assert sum(counts) == 40
        # Bridges tell the same numbers that the balancer has counted.
        asked = own_lab.counters("balancer")["status_received"]
        wait_until(lambda: own_lab.counters("balancer")["status_received"] >= asked + 16,
                   what="new numbers")
        found += start_downloads(own_lab, stack, 8)
        counts = sorted(found.count(f"backend{number}") for number in range(1, 5))
        assert counts[-1] <= 15
        assert own_lab.counters("balancer")["overflowed"] >= 30
    wait_until(lambda: {crafted.fetch(own_lab, f"/page/{n}").status for n in range(4)} == {200})

    def home():
        with contextlib.ExitStack() as stack:
            return start_downloads(own_lab, stack, 1) == [owner]

    wait_until(home, 10, "the return of the URL")


def test_without_a_factor_all_stays_together(own_lab, tmp_path):
    up(own_lab, tmp_path)
    with contextlib.ExitStack() as stack:
        assert len(set(start_downloads(own_lab, stack, 20))) == 1
    assert "overflowed" not in own_lab.counters("balancer")
