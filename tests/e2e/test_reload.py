# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGHUP: the configuration is read again while connections come and go."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest

import crafted
from conftest import DAEMONS, VIP, sha256_of, wait_until
from support import sanitized

BRIDGES = ("bridge1", "bridge2")
DOWNLOAD = "/files/100M.bin"
SECONDS = 4


def told(lab, name):
    return (lab.state / f"{name}.notify").read_text().splitlines()


def reload(lab, name, text=None):
    """Put another configuration in its place and have it read; returns what the daemon logged."""
    if text is not None:
        (lab.state / f"{name}.conf").write_text(text)
    log, before = len(lab.log(name)), told(lab, name)
    pid = lab.pid(name)
    os.kill(pid, signal.SIGHUP)

    def news():
        lines = [line for line in told(lab, name)[len(before):]
                 if not line.startswith(("STATUS=", "WATCHDOG=", "FDSTORE=", "FDNAME="))]
        return lines if "READY=1" in lines else None

    lines = wait_until(news, what=f"READY=1 of {name}")
    assert lines[0] == "RELOADING=1", lines
    assert lines[1].startswith("MONOTONIC_USEC=") and lines[2:] == ["READY=1"], lines
    assert int(lines[1].split("=")[1]) <= time.monotonic() * 1e6
    return lab.log(name)[log:]


def taken(lab, name, text=None):
    log = reload(lab, name, text)
    assert f"{name}.conf was read again and is in force" in log, log
    assert "error" not in log and "warning" not in log, log


def config(lab, name, *pairs):
    text = lab.config(name)
    for old, new in pairs:
        assert old in text, (old, text)
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def in_background(function, *arguments):
    """Yields a list that has the result in the end; what it raises is raised here."""
    results, errors = [], []

    def work():
        try:
            results.append(function(*arguments))
        except BaseException as error:  # for the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield results
    finally:
        thread.join()
        for error in errors:
            raise error


@contextlib.contextmanager
def load(lab, seconds, port=80):
    """wrk with a new connection for each request, of which none may fail.

    Each waits a little for its request, so that the machine has time for what the test is about.
    """
    script = lab.state / "reload.lua"
    script.write_text("""
        local number = 0
        function request()
            number = number + 1
            return wrk.format("GET", "/page/reload-" .. number)
        end
        function delay()
            return 10
        end
        """)
    client = lab.popen("client", "wrk", "-t", 2, "-c", 16, "-d", seconds, "--timeout", "10s",
                       "-s", script, "-H", "Connection: close", f"http://{VIP}:{port}",
                       stdout=subprocess.PIPE, text=True)
    try:
        yield client
    finally:
        output = client.communicate(timeout=seconds + 30)[0]
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    assert int(re.search(r"(\d+) requests in", output).group(1)) > 50 * seconds, output


def is_downloading(lab, port):
    """Has the client got some of it?"""
    text = lab.exec("client", "ss", "-Htni", "dport", "=", f":{port}").stdout
    return any(int(count) > 100_000 for count in re.findall(r"bytes_received:(\d+)", text))


def slow_download(lab, port=80, seconds=SECONDS + 4):
    rate = 100 * 1000 * 1000 // seconds
    return lab.sha256(f"http://{VIP}:{port}{DOWNLOAD}", "--limit-rate", str(rate))


OTHER_BALANCER = [
    ('name = "cache1"; address = "192.168.33.20";',
     'name = "cache2"; address = "192.168.33.21"; weight = 700;'),
    ('{ name = "cache2"; address = "192.168.33.21"; }\n',
     '{ name = "other"; address = "192.168.33.20"; }\n'),
    ("pools = (", 'pools = (\n\t{ name = "more"; backends = '
     '( { name = "only"; address = "192.168.33.20"; } ); },'),
    ('pool = "caches";', 'pool = "caches"; key = "host+path"; fallback = "reset";'
     ' routes = ( { path = "/page/reload-1"; pool = "more"; } );'),
    ("idle_s = 60;", "idle_s = 30;"), ("request_ms = 2000;", "request_ms = 3000;"),
    ("closing_s = 5;", "closing_s = 3;")]
OTHER_BRIDGE = [("open_ms = 1000;", "open_ms = 2000;"), ("idle_s = 60;", "idle_s = 30;"),
                ("closing_s = 5;", "closing_s = 3;")]


def test_under_load(own_lab, tmp_path):
    """Ten times a second, of all daemons: no request fails, and a long download goes on."""
    texts = {name: crafted.template(name) + "threads = 2;\n" for name in DAEMONS}
    texts["balancer"] += 'health = { probes = "on"; interval_ms = 500; };\n'
    crafted.up(own_lab, tmp_path, **texts)
    texts = {name: [own_lab.config(name),
                    config(own_lab, name,
                           *(OTHER_BALANCER if name == "balancer" else OTHER_BRIDGE))]
             for name in DAEMONS}
    count = 0
    before = {name: len(os.listdir(f"/proc/{own_lab.daemon('pids', name)[0]}/fd"))
              for name in DAEMONS}
    with in_background(slow_download, own_lab) as download:
        with load(own_lab, SECONDS) as client:
            while client.poll() is None:
                count += 1
                for name in DAEMONS:
                    taken(own_lab, name, texts[name][count % 2])
                time.sleep(0.1)
        assert not download, "the download is over too early"
    assert download == [sha256_of("100M.bin")]
    assert count > SECONDS
    counters = own_lab.counters("balancer")
    assert counters["status_received"] > count and "is down" not in own_lab.log("balancer")
    for key in ("no_backend", "open_refused", "open_silent", "fallback_reset", "handshake_unknown",
                "sockets_evicted"):
        assert not counters.get(key), counters
    wait_until(lambda: {name: len(os.listdir(f"/proc/{own_lab.daemon('pids', name)[0]}/fd"))
                        for name in DAEMONS} == before, 10, "the same descriptors as before")


def test_half_a_request(own_lab):
    """It stays with the configuration that it has begun with, and ends well."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as half, crafted.connect(own_lab) as silent:
        half.sendall(f"GET {path}".encode())
        wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 1)
        only2 = config(own_lab, "balancer",
                       ('{ name = "cache1"; address = "192.168.33.20"; },', ""))
        for _ in range(3):
            taken(own_lab, "balancer", only2)
        # Its bridge may still answer, though the configuration does not name it any more.
        bridges = own_lab.exec("balancer", "nft", "list", "set", "inet", "l3dsr_balancer",
                               "backends4").stdout
        assert "192.168.33.20" in bridges
        half.sendall(b" HTTP/1.1\r\nHost: www\r\n\r\n")
        assert crafted.response(half).backend == "backend1"
        assert crafted.ask(half, path).backend == "backend1"
        assert crafted.ask(silent, path).backend == "backend2"
    assert crafted.fetch(own_lab, path).backend == "backend2"
    own_lab.daemon("stop", "bridge1")
    assert not (own_lab.state / "bridge1.sock").exists()
    wait_until(lambda: "192.168.33.20" not in own_lab.exec(
        "balancer", "nft", "list", "set", "inet", "l3dsr_balancer", "backends4").stdout,
        what="a bridge that is not named any more in no set")
    own_lab.daemon("stop", "balancer")
    assert not (own_lab.state / "balancer.sock").exists()


def test_errors(own_lab):
    """All of them are told, and the configuration that is in force stays that."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend2")
    good = {name: own_lab.config(name) for name in DAEMONS}
    for name in ("balancer", "bridge1"):
        log = reload(own_lab, name, good[name] + "nonsense = 1;\ntimeouts2 = {};\n")
        assert re.search(r"error: .*nonsense: not a setting", log), log
        assert re.search(r"error: .*timeouts2: not a setting", log), log
        assert "is not used: the last configuration stays in force" in log
        # The key file is a part of it.
        log = reload(own_lab, name, config(own_lab, name, ("nonsense = 1;\ntimeouts2 = {};\n", ""),
                                           ("handoff.key", "no.key")))
        assert "no.key: No such file or directory" in log
        assert "is not used: the last configuration stays in force" in log
        taken(own_lab, name, good[name])
        (own_lab.state / f"{name}.conf").unlink()
        assert "is not used" in reload(own_lab, name)
        taken(own_lab, name, good[name])
    assert crafted.fetch(own_lab, path).backend == "backend2"


def test_a_table_that_is_not_there(own_lab):
    own_lab.up()
    good = own_lab.config("balancer")
    own_lab.exec("balancer", "nft", "delete", "table", "inet", "l3dsr_balancer")
    log = reload(own_lab, "balancer", config(own_lab, "balancer", ("port = 80;", "port = 8080;")))
    assert "table inet l3dsr_balancer is missing" in log
    assert "is not used: the last configuration stays in force" in log
    (own_lab.state / "balancer.conf").write_text(good)
    own_lab.exec("balancer", os.environ.get("L3DSR_BUILD", crafted.TOP) + "/lab/load-ruleset",
                 crafted.TOP / "nft/balancer.nft")
    wait_until(lambda: "its sets are filled again" in own_lab.log("balancer"))
    assert crafted.fetch(own_lab, "/page/1").status == 200
    assert ":8080" not in own_lab.exec("balancer", "ss", "-Hltn").stdout


def test_what_takes_a_restart(own_lab):
    own_lab.up()
    log = reload(own_lab, "balancer", own_lab.config("balancer").replace(
        'answer_address = "192.168.33.10";', 'answer_address = "192.168.33.99";\nthreads = 3;\n'
        'window_scale = 3;\nlimits = { flows = 1000; };\nanswer_port = 1234;\n'))
    for text in ("threads = 3 takes a restart; still 1", "limits.flows = 1000 takes a restart; "
                 "still 262144", 'answer_address = "192.168.33.99" takes a restart; still '
                 '"192.168.33.10"', "window_scale = 3 takes a restart; still -1",
                 "answer_port = 1234 takes a restart; still 6303"):
        assert f"warning: {text}" in log, log
    assert "is in force" in log
    other = {"kernel": "userspace", "userspace": "kernel"}
    plane = os.environ["L3DSR_DATA_PLANE"]
    log = reload(own_lab, "bridge1", config(
        own_lab, "bridge1", ('address = "192.168.33.20";', 'address = "192.168.33.25";'),
        (f'data_plane = "{plane}"', f'data_plane = "{other[plane]}"')))
    assert 'address = "192.168.33.25" takes a restart; still "192.168.33.20"' in log
    assert f'data_plane = "{other[plane]}" takes a restart; still "{plane}"' in log
    assert {crafted.fetch(own_lab, f"/page/{number}").backend for number in range(20)} == \
        {"backend1", "backend2"}


def with_second(lab, name):
    """The configuration with a second service, on another port."""
    text = lab.config(name)
    begin = text.index("services = (")
    service = text[text.index("{", begin):text.index("}", begin) + 1]
    second = service.replace('"www"', '"second"').replace("\tport = 80;", "\tport = 8080;")
    assert second.count("8080") == 1
    return text.replace(service, f"{service},\n{second}")


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.long), 4])
def test_services_come_and_go(own_lab, tmp_path, threads):
    """A connection of one that is gone goes on to its end; others do not notice."""
    crafted.up(own_lab, tmp_path, balancer=crafted.template("balancer") + f"threads = {threads};\n")
    one = {name: own_lab.config(name) for name in DAEMONS}
    two = {name: with_second(own_lab, name) for name in DAEMONS}
    with load(own_lab, 14), crafted.connect(own_lab) as old:
        assert crafted.ask(old, "/page/1").status == 200
        for _ in range(2):
            for name in BRIDGES + ("balancer",):
                taken(own_lab, name, two[name])
            with in_background(slow_download, own_lab, 8080, 5) as download:
                answers = [crafted.fetch(own_lab, f"/page/{number}", port=8080)
                           for number in range(30)]
                assert {answer.status for answer in answers} == {200}
                wait_until(lambda: is_downloading(own_lab, 8080), what="the begin of the download")
                with crafted.connect(own_lab, port=8080) as silent:
                    for name in ("balancer",) + BRIDGES:
                        taken(own_lab, name, one[name])
                    assert crafted.how_it_ends(silent) == ("fin", b"")
                assert own_lab.curl(f"http://{VIP}:8080/page/1", "--connect-timeout", 2,
                                    check=False).status == 0
                assert not download
            assert download == [sha256_of("100M.bin")]
            assert ":8080" not in own_lab.exec("balancer", "ss", "-Hltn").stdout
        assert crafted.ask(old, "/page/1").status == 200
    counters = own_lab.counters("balancer")
    assert counters.get("handshake_unknown", 0) <= 0.001 * counters["requests"]


def test_another_web_server(own_lab):
    """A bridge's service gets another one; what the old one has begun, it ends."""
    own_lab.up()
    own_lab.exec("backend1", "ip", "address", "add", "192.168.33.35/24", "dev", "eth0")
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as old:
        assert crafted.ask(old, path).backend == "backend1"
        taken(own_lab, "bridge1",
              config(own_lab, "bridge1", ('"192.168.33.30"', '"192.168.33.35"')))
        assert crafted.ask(old, path).backend == "backend1"
        # Nobody listens there.
        assert crafted.fetch(own_lab, path).backend == "backend2"
        assert crafted.ask(old, path).backend == "backend1"
        taken(own_lab, "bridge1",
              config(own_lab, "bridge1", ('"192.168.33.35"', '"192.168.33.30"')))
        assert crafted.fetch(own_lab, path).backend == "backend1"
        assert crafted.ask(old, path).backend == "backend1"


def test_keys_change(own_lab):
    """A new key is added everywhere, then made the first, then the old one is taken out."""
    own_lab.up()
    file = own_lab.state / "handoff.key"
    first = file.read_text().strip()
    second = "2 " + "5a" * 32
    steps = ([first, second], [second, first], [second])
    with load(own_lab, SECONDS if not sanitized() else 2 * SECONDS) as client:
        for keys in steps:
            file.write_text("\n".join(keys) + "\n")
            for name in DAEMONS:
                taken(own_lab, name)
                time.sleep(0.2)
        assert client.poll() is None
    for name in DAEMONS:
        counters = own_lab.counters(name)
        assert not counters.get("drop_handoff_key") and not counters.get("drop_handoff_forged")
        assert not counters.get("no_backend") and not counters.get("open_silent")


def test_log_level(own_lab):
    own_lab.up()
    reload(own_lab, "balancer", own_lab.config("balancer") + 'log_level = "error";\n')
    assert "in force" not in reload(own_lab, "balancer")
    reload(own_lab, "balancer", config(own_lab, "balancer", ('log_level = "error";\n', "")))
    taken(own_lab, "balancer")


def test_shorter_times(own_lab):
    """They count for connections that are there already."""
    own_lab.up()
    with crafted.connect(own_lab) as silent, crafted.connect(own_lab) as half:
        half.sendall(b"GET /")
        wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 1)
        begin = time.monotonic()
        taken(own_lab, "balancer", config(own_lab, "balancer",
                                          ("request_ms = 2000", "request_ms = 300")))
        assert crafted.how_it_ends(silent)[0] == "fin"
        wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 0)
        assert time.monotonic() - begin < 1.5
