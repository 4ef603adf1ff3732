# SPDX-License-Identifier: GPL-2.0-or-later
"""Many connections: at once, and one after the other; nothing of them is left behind."""

import contextlib
import json
import os
import pathlib
import re
import resource
import select
import time

import pytest

import crafted
from conftest import DAEMONS, SERVERS, VIP, wait_until
from support import sanitized

AT_ONCE = 1000
EMPTY = {"flows_now", "requests_now", "sockets_now", "kernel_flows_now"}
NEVER = {"verdicts_lost", "verdicts_refused", "queue_overruns", "queue_dropped_full",
         "queue_dropped_undelivered", "inject_failed", "accept_failed", "no_backend",
         "flows_refused", "requests_refused", "fallback_source", "fallback_reset",
         "drop_full", "answers_failed"}

WORKERS = [("snoop", 1), ("snoop", 2), ("snoop", 4), ("socket", 1), ("socket", 2), ("socket", 4)]
# In a short run four of them, two with each build.
SHORT = {("snoop", 1): pytest.mark.plain, ("snoop", 2): (),
         ("socket", 1): pytest.mark.plain, ("socket", 4): ()}
workers = pytest.mark.parametrize("handshake, threads", [
    pytest.param(*how, marks=SHORT.get(how, (pytest.mark.both, pytest.mark.long)),
                 id="-".join(map(str, how))) for how in WORKERS])


def up(lab, directory, handshake="snoop", threads=1):
    """A lab that forgets soon; so many threads in each daemon."""
    texts = {}
    for name in DAEMONS:
        text = crafted.replaced(crafted.template(name), "closing_s = 5;", "closing_s = 1;")
        texts[name] = crafted.replaced(text, "idle_s = 60;", "idle_s = 8;")
        texts[name] += f"threads = {threads};\n"
    texts["balancer"] += f'handshake = "{handshake}";\n'
    crafted.up(lab, directory, **texts)


def memory_kb(lab, name):
    """What a daemon has asked for: how much of its tables is in use depends on how busy it was.

    The sanitizers ask for everything at once: with them this tells nothing.
    """
    text = pathlib.Path(f"/proc/{lab.pid(name)}/status").read_text()
    return int(re.search(r"^VmData:\s+(\d+) kB$", text, re.M).group(1))


def descriptors(lab):
    return {name: len(os.listdir(f"/proc/{lab.pid(name)}/fd")) for name in DAEMONS}


def sockets(lab):
    """TCP sockets of the balancer's kernel and the web servers, but those that listen.

    A web server that has closed first remembers that for a minute.
    """
    lines = lab.exec("balancer", "ss", "-Htan").stdout.splitlines()
    for backend in SERVERS:
        lines += lab.exec(backend, "ss", "-Htan", "exclude", "time-wait",
                          "( sport = :80 )").stdout.splitlines()
    return [line for line in lines if not line.startswith("LISTEN")]


def steered(lab):
    """Connections that the balancer's kernel steers."""
    maps = [lab.exec("balancer", "nft", "-j", "list", "map", "inet", "l3dsr_balancer", name).stdout
            for name in ("flows4", "closing4")]
    return [element for text in maps for item in json.loads(text)["nftables"]
            for element in item.get("map", {}).get("elem", [])]


def assert_nothing_left(lab, before):
    """Tables empty, every packet answered, no socket; and nothing went wrong on the way."""
    for name in DAEMONS:
        counters = wait_until(lambda: empty(lab, name), 15, f"empty tables of {name}")
        assert {key: counters[key] for key in NEVER & set(counters) if counters[key]} == {}
    wait_until(lambda: not sockets(lab), what="the end of all sockets")
    # A client whose numbers passed a multiple of 64 KiB is forgotten when it is idle.
    wait_until(lambda: not steered(lab), 15, "empty maps of the kernel")
    # The daemons read a file of the kernel now and then.
    wait_until(lambda: descriptors(lab) == before, what="the same number of descriptors")


def empty(lab, name):
    """The counters of a daemon, if it has nothing to do and nothing in its tables."""
    counters = lab.counters(name)
    gauges = [counters[key] for key in EMPTY & set(counters)]
    idle = counters.get("packets") == counters.get("verdicts")
    return counters if gauges and not any(gauges) and idle else None


@contextlib.contextmanager
def many_files():
    """Room for a thousand sockets in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def gather(connections, timeout=20):
    """All that comes on the connections until their ends, in their order."""
    poller = select.poll()
    data = {sock.fileno(): b"" for sock in connections}
    by_number = {sock.fileno(): sock for sock in connections}
    for number in data:
        poller.register(number, select.POLLIN)
    left = set(data)
    deadline = time.monotonic() + timeout
    while left:
        assert time.monotonic() < deadline, f"{len(left)} connections have no end"
        for number, _ in poller.poll(1000):
            piece = by_number[number].recv(65536)
            data[number] += piece
            if not piece:
                poller.unregister(number)
                left.remove(number)
    return [data[sock.fileno()] for sock in connections]


# A new URL for each request, so that both backends get some.
URLS = """
local number = 0
function request()
    number = number + 1
    return wrk.format("GET", "/page/load-" .. number)
end
"""


def wrk(lab, directory, seconds):
    """A new connection for each request; returns how many there were, and there was no error."""
    script = directory / "urls.lua"
    script.write_text(URLS)
    done = lab.exec("client", "wrk", "-t", 2, "-c", 64, "-d", seconds, "--timeout", "10s",
                    "-s", script, "-H", "Connection: close", f"http://{VIP}",
                    timeout=seconds + 30)
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    return int(re.search(r"(\d+) requests in", done.stdout).group(1))


@pytest.mark.both
def test_a_new_connection_per_request(own_lab, tmp_path, data_plane):
    """For ten seconds, behind a thousand at once; and all of it once more, for three.

    The second time, no daemon takes more memory. Three are enough where it is not the usual way, and once where
    memory is not what it usually is.
    """
    up(own_lab, tmp_path)
    before = descriptors(own_lab)
    memory = []
    for seconds in (3,) if sanitized() else (10 if data_plane == "kernel" else 3, 3):
        open_at_once(own_lab)
        accepted = own_lab.counters("balancer").get("accepted", 0)
        requests = wrk(own_lab, tmp_path, seconds)
        assert requests >= 1000 * seconds
        assert own_lab.counters("balancer")["accepted"] - accepted >= requests
        assert_nothing_left(own_lab, before)
        memory.append({name: memory_kb(own_lab, name) for name in DAEMONS})
    for name in DAEMONS:
        assert memory[-1][name] <= memory[0][name], f"{name}: {memory[0][name]} kB, then {memory[-1][name]} kB"


def open_at_once(lab):
    """All handshakes are done, then all requests are sent, then all answers are read."""
    with many_files(), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(crafted.connect(lab, timeout=20))
                       for _ in range(AT_ONCE)]
        wait_until(lambda: lab.counters("balancer")["sockets_now"] == AT_ONCE,
                   what="all connections in the balancer")
        for number, sock in enumerate(connections):
            sock.sendall(crafted.request(f"/page/at-once-{number}", "Connection: close"))
        answers = gather(connections)
        for number, (sock, answer) in enumerate(zip(connections, answers)):
            seen = "{}:{}".format(*sock.getsockname())
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(f" {seen} /page/at-once-{number}\n".encode())


@workers
def test_many_connections(own_lab, tmp_path, handshake, threads):
    """A thousand at once, then thousands one after the other.

    A socket with the wrong worker would not be found: with two, that would be every other one.
    """
    up(own_lab, tmp_path, handshake, threads)
    for name in DAEMONS:
        # And the main one.
        assert len(os.listdir(f"/proc/{own_lab.pid(name)}/task")) == threads + 1
    before = descriptors(own_lab)
    open_at_once(own_lab)
    counters = own_lab.counters("balancer")
    assert counters["requests"] == counters["accepted"] == AT_ONCE
    assert counters[f"handshake_by_{handshake}"] == AT_ONCE
    # More when a bridge was too slow for a balancer, which then went to the other one.
    assert sum(own_lab.counters(name).get("spliced", 0) for name in ("bridge1", "bridge2")) >= \
        AT_ONCE
    assert wrk(own_lab, tmp_path, 1) >= 500
    counters = own_lab.counters("balancer")
    assert counters[f"handshake_by_{handshake}"] >= 0.999 * counters["requests"]
    assert counters.get("handshake_unknown", 0) <= 0.001 * counters["requests"]
    assert_nothing_left(own_lab, before)
