# SPDX-License-Identifier: GPL-2.0-or-later
"""Floods of SYNs and of connections without a request: everybody else is served meanwhile."""

import concurrent.futures
import contextlib
import os

import pytest

import crafted
from conftest import DAEMONS, sha256_of, wait_until
from flooding import Asker, Visitors, memory_kb, syn_flood
from raw import kernel_counters
from support import increase
from test_load import many_files

# They take the machine for themselves, and the times of tests beside them would not hold.
pytestmark = pytest.mark.alone

RATE = 50000

# How many requests are answered in a flood of SYNs, and what they may take, half of them and all of them;
# and those of a connection that is steered. In userspace their packets wait in one queue with the SYNs,
# and get lost with those.
SERVED = {"kernel": (1, 0.1, 2), "userspace": (0.95, 3, 8)}
STEERED_S = {"kernel": 0.3, "userspace": 4}

# What a daemon may ask for beyond what it has taken at its start: a thread's heap for messages.
GROWTH_KB = 1024


def memory(lab):
    return {name: memory_kb(lab.pid(name)) for name in DAEMONS}


def assert_bounded(before, after):
    """Whatever came, the daemons work within the memory that they have taken at the start."""
    for name in DAEMONS:
        assert after[name]["VmSize"] <= before[name]["VmSize"] + GROWTH_KB
        assert after[name]["VmRSS"] <= after[name]["VmSize"]


def through_a_syn_flood(lab, rate, seconds, tell):
    """Returns the number of SYNs per second."""
    plane = os.environ["L3DSR_DATA_PLANE"]
    path = crafted.path_of(lab, "backend1")
    before = memory(lab)
    kernel = kernel_counters(lab, "balancer")
    counted = lab.counters("balancer")
    # Longer than the flood; curl is not exact.
    bytes_per_second = 100_000_000 // (seconds + seconds // 4 + 2)
    with crafted.connect(lab, timeout=20) as idle, \
            concurrent.futures.ThreadPoolExecutor(1) as pool, \
            contextlib.closing(crafted.connect(lab)) as silent:
        assert crafted.ask(idle, path).status == crafted.ask(silent, path).status == 200
        with syn_flood(lab, rate, seconds) as flood:
            wait_until(lambda: kernel_counters(lab, "balancer")["TcpExtSyncookiesSent"] >
                       kernel["TcpExtSyncookiesSent"], what="SYN cookies")
            download = pool.submit(lab.sha256, "/files/100M.bin", "--limit-rate",
                                   bytes_per_second)
            outlived = []
            download.add_done_callback(lambda _: outlived.append(flood.poll() is not None))
            with Visitors(lab) as visitors, Asker(idle, path) as asker:
                flood.wait(timeout=seconds + 20)
        assert download.result() == sha256_of("100M.bin")
        wait_until(lambda: outlived, what="the end of the download")
        assert outlived == [True]
        assert crafted.ask(silent, path).backend == "backend1"
    after = memory(lab)
    grown = increase(lab, "balancer", counted)
    cookies = kernel_counters(lab, "balancer")["TcpExtSyncookiesSent"] - \
        kernel["TcpExtSyncookiesSent"]
    with tell.disabled():
        print(f"\n{flood.sent} SYNs in {seconds} s, {cookies} cookies, {grown['handshakes']} seen; "
              f"{visitors.report()}\n{asker.report()}")
    print({name: f"{before[name]} -> {after[name]}" for name in DAEMONS})
    print({key: value for key, value in grown.items() if value})
    assert len(visitors.waits) >= 2 * seconds
    visitors.assert_served(*SERVED[plane])
    asker.assert_not_disturbed(STEERED_S[plane])
    assert_bounded(before, after)
    assert lab.counters("balancer").get("verdicts_lost", 0) == 0
    assert crafted.fetch(lab, "/page/after").status == 200
    return flood.sent / seconds


@pytest.mark.plain
def test_syn_flood(own_lab, capsys):
    own_lab.up()
    assert through_a_syn_flood(own_lab, RATE, 3, capsys) > 10000


def what_the_machine_sends(lab, seconds=2):
    """SYNs per second when nobody answers them."""
    rules = "chain c { type filter hook prerouting priority -500; tcp flags syn drop; }"
    with crafted.nft(lab, "balancer", rules), syn_flood(lab, RATE, seconds) as flood:
        flood.wait(timeout=seconds + 20)
    return flood.sent / seconds


@pytest.mark.plain
@pytest.mark.long
def test_syn_flood_of_20_seconds(own_lab, capsys):
    own_lab.up()
    most = what_the_machine_sends(own_lab)
    with capsys.disabled():
        print(f"\nthis machine can send {most:.0f} SYNs a second of {RATE}")
    rate = through_a_syn_flood(own_lab, RATE, 20, capsys)
    if rate < 0.95 * RATE:
        with capsys.disabled():
            print(f"\nno more than {rate:.0f} of them when they are answered by the same machine")
    # All the rest of the lab is on this machine, too, and whatever else it does.
    assert rate > 10000


@pytest.mark.plain
def test_a_start_in_a_flood(own_lab, tmp_path):
    """What comes between the binding of one queue and the next is counted as well."""
    crafted.up(own_lab, tmp_path,
               balancer=crafted.template("balancer") + 'handshake = "snoop";\n')
    with syn_flood(own_lab, 50000, 2):
        for _ in range(4):
            own_lab.daemon("stop", "balancer")
            own_lab.daemon("start", "balancer")
    own_lab.daemon("stop", "balancer")
    numbers = own_lab.last_numbers("balancer")
    assert len(numbers) == 5
    assert all(packets == verdicts for packets, verdicts in numbers), numbers
    assert max(packets for packets, _ in numbers) > 1000


def busy(lab, name):
    """What a daemon has to do with connections now."""
    counters = lab.counters(name)
    return {key: counters[key] for key in ("flows_now", "requests_now", "sockets_now")
            if counters.get(key)}


def open_sockets(lab):
    """Of the balancer's kernel, for the VIP; TIME-WAIT is no more than a note of the kernel's."""
    lines = lab.exec("balancer", "ss", "-Htan").stdout.splitlines()
    return [line for line in lines if line.split()[0] not in ("LISTEN", "TIME-WAIT")]


LIMIT = 1000
SILENT = 4000


def test_a_flood_of_connections_without_a_request(own_lab, tmp_path, capsys):
    """Several times as many as there is room for; the oldest go, nobody else notices."""
    text = crafted.template("balancer").replace("request_ms = 2000;", "request_ms = 60000;")
    crafted.up(own_lab, tmp_path, balancer=f"{text}limits = {{ requests = {LIMIT}; }};\n")
    before = memory(own_lab)
    with many_files(), contextlib.ExitStack() as stack:
        path = crafted.path_of(own_lab, "backend1")
        steered = stack.enter_context(crafted.connect(own_lab))
        assert crafted.ask(steered, path).status == 200  # or it was one of the silent, and the oldest
        with Visitors(own_lab, 2) as visitors, Asker(steered, path, 0.02) as asker:
            silent = [stack.enter_context(crafted.connect(own_lab)) for _ in range(SILENT)]
            counters = wait_until(lambda: (lambda c: c if c["sockets_accepted"] >= SILENT else
                                           None)(own_lab.counters("balancer")),
                                       what="all connections in the balancer")
        with capsys.disabled():
            print(f"\n{visitors.report()}\n{asker.report()}")
        visitors.assert_served(1, 0.1, 2)
        asker.assert_not_disturbed(STEERED_S["kernel"])
        assert len(visitors.waits) >= 100
        assert counters["sockets_now"] <= LIMIT
        assert counters["sockets_evicted"] >= SILENT - LIMIT - len(visitors.waits)
        # The first have gone, the last can still ask.
        for sock in silent[:100]:
            assert crafted.how_it_ends(sock) == ("fin", b"")
        for sock in silent[-100:]:
            assert crafted.ask(sock, "/page/late").status == 200
        assert_bounded(before, memory(own_lab))
    # What was seen of their handshakes stays in its own bounded table for a minute.
    for name in DAEMONS:
        wait_until(lambda: not busy(own_lab, name), 15, f"empty tables of {name}")
    wait_until(lambda: not open_sockets(own_lab), what="the end of all sockets")
