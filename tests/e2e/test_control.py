# SPDX-License-Identifier: GPL-2.0-or-later
"""What l3dsrctl shows of running daemons, and clients of the control socket that mean no good."""

import contextlib
import json
import os
import pathlib
import re
import resource
import socket
import stat
import subprocess
import threading
import time

import pytest

import crafted
from conftest import DAEMONS, TOP, VIP, wait_until
from support import paused
from test_reload import taken
from test_routes import POOLS, ROUTES

BUILD = pathlib.Path(os.environ.get("L3DSR_BUILD", TOP)).resolve()
CLIENTS = 32  # at a time, os/control.h


def socket_of(lab, name):
    return str(lab.state / f"{name}.sock")


def ctl(lab, name, *words, status=0):
    """What l3dsrctl prints: its standard output, or if it fails its standard error."""
    done = subprocess.run([BUILD / "l3dsrctl", "-s", socket_of(lab, name), *map(str, words)],
                          capture_output=True, text=True, timeout=40)
    assert done.returncode == status, done
    assert bool(done.stderr) == bool(status) and "Sanitizer" not in done.stderr, done
    assert not (status and done.stdout), done
    return done.stderr if status else done.stdout


def rows(lab, name, *words):
    """The rows of a table, which must be the same with and without -j, if nothing changes."""
    return json.loads(ctl(lab, name, "-j", *words))


def both(lab, name, *words):
    """As rows(), and the text has the same cells, but for an age."""
    def ageless():
        return [{**row, "age": None} for row in rows(lab, name, *words)]

    def settled():
        before, lines, found = ageless(), ctl(lab, name, *words).splitlines(), rows(lab, name, *words)
        # What has changed meanwhile, such as a counter of the last ACK of a client, is no difference.
        return (found, lines) if ageless() == before else None

    found, lines = wait_until(settled, what="two equal tables")
    assert len(lines) == len(found) + 1
    for row, line in zip(found, lines[1:]):
        words = [word for value in row.values() if isinstance(value, str) for word in value.split()]
        assert set(words) <= set(line.split()), line
        assert {value for key, value in row.items()
                if value is not None and key != "age" and not isinstance(value, str)} <= \
            {float(cell) for cell in line.split() if re.fullmatch(r"[0-9.]+", cell)
             and cell.count(".") < 2}, line
    if found:
        assert lines[0].split() == list(found[0])
    return found


def plane():
    return os.environ["L3DSR_DATA_PLANE"]


def test_services_and_pools(own_lab, tmp_path):
    text = crafted.replaced(crafted.template("balancer"), "pools = (", f"pools = ({POOLS}")
    crafted.up(own_lab, tmp_path, balancer=crafted.replaced(text, 'pool = "caches";', ROUTES))
    assert both(own_lab, "balancer", "show", "services") == [
        {"service": "www", "address": f"{VIP}:80", "index": 1, "protocol": "http", "key": "path",
         "fallback": "source", "routes": 5, "pool": ""}]
    pools = both(own_lab, "balancer", "show", "pools")
    assert [(row["pool"], row["backend"], row["bridge"]) for row in pools] == [
        ("first", "cache1", "192.168.33.20"), ("second", "cache2", "192.168.33.21"),
        ("caches", "cache1", "192.168.33.20"), ("caches", "cache2", "192.168.33.21")]
    assert [row["service"] for row in pools] == ["www", "www", "", ""]
    assert [(row["state"], row["weight"], row["effective"], row["share"], row["age"])
            for row in pools] == 2 * [("new", 100, 100, 100, None)] + \
        2 * [("unused", 100, 0, 0, None)]
    assert both(own_lab, "bridge2", "show", "services") == [
        {"service": "www", "index": 1, "address": f"{VIP}:80", "server": "192.168.33.31:80"}]
    # What is shown is what is in force.
    other = own_lab.config("balancer").replace('"first"', '"1st"')
    taken(own_lab, "balancer", other)
    assert rows(own_lab, "balancer", "show", "pools")[0]["pool"] == "1st"
    for words in (["show", "pools"], ["lookup", "http://a/"], ["show", "nothing"]):
        assert "does not know the command" in ctl(own_lab, "bridge1", *words, status=1)
    for words in (["show", "services", "x"], ["show", "pools", "x"], ["show", "counters", "x"]):
        assert "no arguments are expected" in ctl(own_lab, "balancer", *words, status=1)


def test_counters(lab):
    crafted.fetch(lab, "/page/1")
    for name in DAEMONS:
        shown = {row["counter"]: row for row in both(lab, name, "show", "counters")}
        logged = lab.counters(name)
        assert {key for key, row in shown.items() if row["value"]} <= set(logged)
        assert set(logged) <= set(shown)
        assert all(row["meaning"] for row in shown.values())
    shown = {row["counter"]: row["value"] for row in rows(lab, "balancer", "show", "counters")}
    assert shown["accepted"] == lab.counters("balancer")["accepted"]


def end_of(sock):
    return "{}:{}".format(*sock.getsockname())


def test_flows(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path, **{name: crafted.template(name) + "threads = 2;\n"
                                     for name in DAEMONS})
    paths = {backend: crafted.path_of(own_lab, backend) for backend in ("backend1", "backend2")}
    other = "192.168.33.101"
    with contextlib.ExitStack() as stack:
        socks = []
        for number in range(20):
            sock = stack.enter_context(crafted.connect(
                own_lab, source=(other, 0) if number % 2 else ("192.168.33.1", 0)))
            backend = "backend1" if number < 12 else "backend2"
            assert crafted.ask(sock, paths[backend]).backend == backend
            socks.append((end_of(sock), backend))
        expected = {client: "cache1" if backend == "backend1" else "cache2"
                    for client, backend in socks}

        def active(name, *filters):
            return {row["client"]: row for row in rows(own_lab, name, "show", "flows", *filters)
                    if row["state"] == "active"}

        shown = active("balancer")
        assert {key: row["backend"] for key, row in shown.items()} == expected
        row = shown[socks[0][0]]
        assert row == {"client": socks[0][0], "vip": f"{VIP}:80", "service": "www",
                       "backend": "cache1", "bridge": "192.168.33.20", "state": "active",
                       "data_plane": plane()}
        both(own_lab, "balancer", "show", "flows", "service=www")
        assert set(active("balancer", "backend=cache1")) == \
            {client for client, backend in socks if backend == "backend1"}
        assert set(active("balancer", "backend=cache2", f"client={other}")) == \
            {client for client, backend in socks
             if backend == "backend2" and client.startswith(other)}
        for nothing in ("backend=cache3", "client=192.0.2.1", "service=none"):
            assert rows(own_lab, "balancer", "show", "flows", nothing) == []
        shown = active("bridge1")
        assert set(shown) == {client for client, backend in socks if backend == "backend1"}
        assert shown[socks[0][0]] == {
            "client": socks[0][0], "vip": f"{VIP}:80", "service": "www",
            "server": "192.168.33.30:80", "state": "active", "data_plane": plane()}
        assert set(active("bridge2", f"client={other}", "service=www")) == \
            {client for client, backend in socks
             if backend == "backend2" and client.startswith(other)}
        assert rows(own_lab, "bridge1", "show", "flows", "service=none") == []
    # All have said FIN; of one whose numbers pass a multiple of 64 KiB the ruleset does not believe it.
    wait_until(lambda: [row["state"] for row in rows(own_lab, "balancer", "show", "flows")
                        if row["client"] in expected].count("closing") >= 15,
               what="connections that are closing")
    for name, words in (("balancer", "x"), ("balancer", "client=x"), ("bridge1", "backend=cache1"),
                        ("bridge1", "client=x"), ("balancer", "service=" + 64 * "x")):
        assert "show flows: " in ctl(own_lab, name, "show", "flows", words, status=1)


def test_flows_of_a_service_that_is_gone(own_lab):
    """They are still there, and so are they shown; a listing is not disturbed by a reload."""
    own_lab.up()
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, "/page/1").status == 200
        text = own_lab.config("balancer", "port = 80;", "port = 8080;")
        (own_lab.state / "balancer.conf").write_text(text)
        taken(own_lab, "balancer")
        found = [row for row in rows(own_lab, "balancer", "show", "flows")
                 if row["client"] == end_of(sock)]
        assert [(row["service"], row["state"]) for row in found] == [("", "active")]
        assert crafted.ask(sock, "/page/1").status == 200


# Enough for a listing of many packets, put into the map as the daemon's verdicts would.
MANY = 50_000


@pytest.mark.only("kernel")
@pytest.mark.plain
def test_many_flows(own_lab, tmp_path):
    """All are shown; neither the daemon nor its clients wait for that."""
    own_lab.up()
    number = int(own_lab.exec("balancer", "nft", "list", "map", "inet", "l3dsr_balancer",
                              "bridges4").stdout.split("elements = {")[1].split()[0], 0)
    file = tmp_path / "many.nft"
    with open(file, "w", encoding="ascii") as out:
        for first in range(0, MANY, 10_000):
            elements = ", ".join(
                f"10.{i >> 16}.{i >> 8 & 255}.{i & 255} . 1000 . {VIP} . 80 timeout 1h : {number}"
                for i in range(first, first + 10_000))
            out.write(f"add element inet l3dsr_balancer flows4 {{ {elements} }}\n")
    own_lab.exec("balancer", "nft", "-f", file, timeout=60)

    def shown(*filters):
        found = rows(own_lab, "balancer", "show", "flows", *filters)
        return {row["client"] for row in found if row["client"].startswith("10.")}

    assert len(shown()) == MANY
    assert len(shown("backend=cache1")) + len(shown("backend=cache2")) == MANY
    assert shown("client=10.0.2.3") == {"10.0.2.3:1000"}
    slowest, stop = [], threading.Event()

    def clients():
        while not stop.is_set():
            slowest.append(crafted.fetch(own_lab, f"/page/{len(slowest)}").seconds)

    thread = threading.Thread(target=clients)
    thread.start()
    try:
        begin = time.monotonic()
        # The kernel skips some when others before them are taken out.
        assert len(shown()) > 0.95 * MANY
        seconds = time.monotonic() - begin
        # While one client of the socket takes its time, others are served.
        with ask_raw(own_lab, "balancer", b"show\tflows\n") as slow:
            assert slow.recv(100).startswith(b"columns\t")
            assert rows(own_lab, "balancer", "show", "services")
            assert len(shown("client=10.1.2.3")) <= 1
    finally:
        stop.set()
        thread.join()

    assert len(slowest) > 20 and max(slowest) < 1, (seconds, max(slowest))
    assert seconds < 30


def lookup(lab, *words):
    return both(lab, "balancer", "lookup", *words)


def test_lookup(own_lab, tmp_path):
    """It says what then happens."""
    own_lab.up()
    names = {"cache1": "backend1", "cache2": "backend2"}
    for number in range(20):
        for path in (f"/page/{number}", f"/page/x/../%6C{number}?v={number}"):
            found = lookup(own_lab, f"http://{VIP}{path}")
            assert [row["choice"] for row in found] == [1, 2]
            assert {row["backend"] for row in found} == {"cache1", "cache2"}
            assert {(row["service"], row["route"], row["pool"]) for row in found} == \
                {("www", "", "caches")}
            assert crafted.fetch(own_lab, path).backend == names[found[0]["backend"]]
    assert found[0]["key"] == "/page/l19"
    assert lookup(own_lab, "http://any.example")[0]["key"] == "/"
    for url, text in (("http://192.0.2.1/", "no service"), ("http://a:81/", "no service"),
                      ("https://a/", "no service"), ("ftp://a/", "does not begin"),
                      ("http://", "has no host"), ("http://a:x/", "has no port"),
                      ("http://a:65536/", "has no port"), ("http://a@b/", "has no host"),
                      ("http://[::1]:8080/", "no service"), ("http://[::1]:x/", "has no port"),
                      ("http://" + 300 * "a", "has no host"), ("/page", "does not begin")):
        assert text in ctl(own_lab, "balancer", "lookup", url, status=1), url
    assert "no service has that name" in ctl(own_lab, "balancer", "lookup", "http://a/",
                                             "service=x", status=1)
    assert "is none of" in ctl(own_lab, "balancer", "lookup", "http://a/", "host=x", status=1)
    assert "is no address" in ctl(own_lab, "balancer", "lookup", "http://a/", "client=x", status=1)
    assert "too long" in ctl(own_lab, "balancer", "lookup", "http://a/" + 9000 * "x", status=1)
    assert len(lookup(own_lab, "http://a/" + 8000 * "x")) == 2
    assert len(lookup(own_lab, "http://[::1]:80/")) == 2
    for name in names:
        ctl(own_lab, "balancer", "drain", name)
    assert "all backends of pool caches are drained" in ctl(own_lab, "balancer", "lookup",
                                                            "http://a/", status=1)


SERVICES = """
services = (
	{ name = "www"; address = "192.168.33.10"; index = 1;
	  routes = (
		{ host = "one.example"; path = "/live/"; pool = "first"; },
		{ host = "*.example"; key = "host+path"; depth = 1; pool = "caches"; },
		{ path = "/client/"; key = "source"; pool = "caches"; }
	  ); },
	{ name = "tls"; address = "192.168.33.10"; port = 443; index = 1; protocol = "tls";
	  pool = "caches"; fallback = "reset"; routes = ( { alpn = "h3"; pool = "second"; } ); },
	{ name = "any"; address = "192.168.33.10"; port = 1935; index = 1; protocol = "tcp";
	  pool = "caches"; },
	{ name = "same"; address = "192.168.33.11"; port = 1935; index = 2; pool = "second"; }
);
"""


def test_lookup_of_routes(own_lab, tmp_path):
    text = crafted.replaced(crafted.template("balancer"), "pools = (", f"pools = ({POOLS}")
    crafted.up(own_lab, tmp_path, balancer=text[:text.index("services = (")] + SERVICES)

    def first(*words):
        row = lookup(own_lab, *words)[0]
        return row["service"], row["route"], row["pool"], row["key"]

    def says(text, *words):
        assert text in ctl(own_lab, "balancer", "lookup", *words, status=1)

    assert first("http://ONE.example/live/a/b?c#d") == \
        ("www", "one.example/live/", "first", "/live/a/b")
    assert first("http://a.b.example:80/live/a/b") == \
        ("www", "*.example", "caches", "a.b.example/live")
    says("no route of service www wants it", "http://www/")
    says("say client=ADDRESS", "http://www/client/1")
    assert first("http://www/client/1", "client=192.168.33.7") == \
        ("www", "/client/", "caches", "192.168.33.7")
    assert first("https://www.example/a") == ("tls", "", "caches", "www.example")
    assert first("https://www.example/a", "alpn=h2,h3") == \
        ("tls", " alpn h3", "second", "www.example")
    says("the fallback of service tls is a reset", "https://192.168.33.10/",
         "client=192.168.33.7")
    says("several services have that port", "http://www:1935/")
    assert first("http://www:1935/", "service=same")[0] == "same"
    assert first("http://192.168.33.11:1935/x") == ("same", "", "second", "/x")
    assert first("http://192.168.33.10:1935/x", "client=192.168.33.7") == \
        ("any", "", "caches", "192.168.33.7")
    # Where each client goes.
    for number in range(101, 111):
        source = f"192.168.33.{number}"
        backend = lookup(own_lab, "http://www/client/1", f"client={source}")[0]["backend"]
        with crafted.connect(own_lab, source=(source, 0)) as sock:
            sock.sendall(b"GET /client/1 HTTP/1.1\r\nHost: www\r\n\r\n")
            assert f"X-Backend: backend{backend[-1]}".encode() in sock.recv(4096)


# The socket itself.

def connect_raw(lab, name, timeout=20):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(socket_of(lab, name))
    sock.settimeout(timeout)
    return sock


def ask_raw(lab, name, request):
    sock = connect_raw(lab, name)
    sock.sendall(request)
    return sock


def all_of(sock):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return data


def ask_once(lab, name, request):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), connect_raw(lab, name) as sock:
        sock.sendall(request)
        return all_of(sock)
    return b""


@pytest.mark.once
def test_the_socket(own_lab):
    own_lab.up()
    for name in DAEMONS:
        assert stat.S_IMODE(os.stat(socket_of(own_lab, name)).st_mode) == 0o660
    own_lab.daemon("stop", "balancer")
    assert not os.path.exists(socket_of(own_lab, "balancer"))
    assert "No such file" in ctl(own_lab, "balancer", "show", "pools", status=3)
    # What a daemon that was killed has left is no obstacle, nor is a directory that is missing.
    own_lab.daemon("start", "balancer")
    own_lab.daemon("kill", "balancer")
    assert "Connection refused" in ctl(own_lab, "balancer", "show", "pools", status=3)
    own_lab.daemon("start", "balancer")
    assert rows(own_lab, "balancer", "show", "pools")
    own_lab.daemon("stop", "bridge1")
    path = own_lab.state / "new" / "bridge.sock"
    (own_lab.state / "bridge1.conf").write_text(
        own_lab.config("bridge1", socket_of(own_lab, "bridge1"), str(path)))
    own_lab.daemon("start", "bridge1")
    done = subprocess.run([BUILD / "l3dsrctl", "show", "services", "-s", path], check=True,
                          capture_output=True, text=True)
    assert "192.168.33.30:80" in done.stdout
    # One of somebody else is.
    own_lab.daemon("stop", "bridge1")
    (own_lab.state / "bridge1.conf").write_text(
        own_lab.config("bridge1", str(path), socket_of(own_lab, "bridge2")))
    done = own_lab.run("daemon", "start", "bridge1", check=False)
    assert done.returncode and "bridge2.sock (control): Address already in use" in done.stderr
    assert rows(own_lab, "bridge2", "show", "services")
    (own_lab.state / "bridge1.status").write_text("exit 0\n")


@pytest.mark.once
def test_hostile_clients(own_lab):
    """Garbage, silence, thousands, and those that do not read: packets and other clients go on."""
    own_lab.up()
    for request in (b"\n", b"\t\t\t\n", b"show\n", b"\xff\xfe\n", b"show flows\n",
                    b"lookup\t\\x00\n", b"show\tflows\t\\\n", b"\0\n",
                    b"show\tpools" + 20 * b"\tx" + b"\n",
                    b"show\tflows\tclient=" + 8000 * b"9" + b"\n", b"lookup\thttp://" + 300 * b"%" +
                    b"\n", b"lookup\thttp://a/\\x0d\\x0a\\x09\n"):
        with ask_raw(own_lab, "balancer", request) as sock:
            data = all_of(sock)
            assert data.endswith(b"\n") and data.splitlines()[-1].split(b"\t")[0] in \
                (b"error", b"done"), (request, data)
    for request in (b"x" * 100_000, b"", b"show\tflo"):
        with connect_raw(own_lab, "balancer") as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
            assert all_of(sock) == b""
    # Half open after the request: there is an answer.
    with ask_raw(own_lab, "balancer", b"show\tpools\n") as sock:
        sock.shutdown(socket.SHUT_WR)
        assert all_of(sock).endswith(b"\ndone\n")
    # One byte after the other.
    with connect_raw(own_lab, "balancer") as sock:
        for byte in b"show\tpools\n":
            sock.sendall(bytes([byte]))
        assert all_of(sock).endswith(b"\ndone\n")


@pytest.mark.once
def test_a_thousand_clients(own_lab):
    own_lab.up()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    pid = own_lab.pid("balancer")
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    try:
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect_raw(own_lab, "balancer")) for _ in range(1000)]
            # They say nothing: they go, the oldest first, when somebody comes who does.
            assert rows(own_lab, "balancer", "show", "pools")
            assert crafted.fetch(own_lab, "/page/1").status == 200
            assert len(os.listdir(f"/proc/{pid}/fd")) <= descriptors + CLIENTS + 2
            # Those that are left have five seconds.
            begin = time.monotonic()
            assert all_of(socks[-1]) == b""
            assert time.monotonic() - begin < 8
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= descriptors, 8,
               what="no client of the socket")


@pytest.mark.once
def test_clients_that_do_not_read(own_lab, tmp_path):
    """They are left after ten seconds. Meanwhile there may be no place, but packets go on."""
    backends = ",\n".join(f'{{ name = "spare{number}"; address = "10.0.0.{number % 99 + 150}"; }}'
                          for number in range(1000))
    pools = "".join(f'\n{{ name = "pool{number}"; backends = ( {backends} ); }},'
                    for number in range(10))
    crafted.up(own_lab, tmp_path, balancer=crafted.replaced(
        crafted.template("balancer"), "pools = (", "pools = (" + pools))
    assert len(ctl(own_lab, "balancer", "show", "pools")) > 400_000
    pid = own_lab.pid("balancer")
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(ask_raw(own_lab, "balancer", b"show\tpools\n"))
                 for _ in range(CLIENTS)]
        for sock in socks:
            assert sock.recv(8) == b"columns\t"
        begin = time.monotonic()
        assert "ask again" in ctl(own_lab, "balancer", "show", "services", status=1)
        assert crafted.fetch(own_lab, "/page/1").seconds < 1
        wait_until(lambda: ask_once(own_lab, "balancer", b"show\tservices\n").endswith(b"done\n"),
                   15, "a place")
        assert time.monotonic() - begin > 5
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= descriptors, 15,
                   what="no client of the socket")
        for sock in socks:
            assert not all_of(sock).endswith(b"done\n")


@pytest.mark.once
def test_a_worker_that_stands_still(own_lab):
    """Who asks is told so, and the daemon goes on."""
    own_lab.up()
    pid = own_lab.pid("balancer")
    result = []

    def ask():
        result.append(rows(own_lab, "balancer", "show", "flows"))

    # The whole process: the answer comes when it goes on.
    with paused(pid):
        thread = threading.Thread(target=ask)
        thread.start()
    thread.join()
    assert result == [[]]
