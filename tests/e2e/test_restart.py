# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons that are started again: no client notices. The balancer's sockets outlive it.

lab/supervise keeps what a daemon leaves, as a service manager does.
"""

import contextlib
import os
import signal

import pytest

import crafted
from conftest import sha256_of, wait_until
from test_reload import in_background, load, slow_download, taken, with_second

IDLE = 40


def restart(lab, name="balancer", *signal_name):
    pid = lab.pid(name)
    lab.daemon("restart", name, *signal_name)
    assert lab.pid(name) not in (None, pid)


def kept(lab):
    """What the service manager has of the balancer: names."""
    return (lab.state / "balancer.kept").read_text().splitlines()


def listening(lab):
    """Inodes of the listening sockets."""
    lines = lab.exec("balancer", "ss", "-Hltne").stdout.splitlines()
    return sorted(word for line in lines for word in line.split() if word.startswith("ino:"))


def up(lab, directory, threads):
    crafted.up(lab, directory, balancer=crafted.template("balancer") + f"threads = {threads};\n")


@contextlib.contextmanager
def idle_connections(lab):
    """That have sent nothing yet, or half of a request; they are answered at the end."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(crafted.connect(lab)) for _ in range(IDLE)]
        begin, rest = crafted.request("/page/1")[:9], crafted.request("/page/1")[9:]
        for sock in socks[::2]:
            sock.sendall(begin)
        yield
        for sock in socks[::2]:
            sock.sendall(rest)
        for sock in socks[1::2]:
            sock.sendall(begin + rest)
        assert {crafted.response(sock).status for sock in socks} == {200}


def assert_all_known(lab):
    """Nobody was refused, nor was anything of a connection forgotten."""
    counters = lab.counters("balancer")
    for name in ("handshake_unknown", "no_backend", "sockets_evicted", "accept_failed"):
        assert not counters.get(name), (name, counters[name])


@pytest.mark.both
@pytest.mark.parametrize("threads", [1, 4])
def test_no_request_fails(own_lab, tmp_path, threads):
    """Neither new ones, nor those of clients that have been waiting."""
    up(own_lab, tmp_path, threads)
    sockets = listening(own_lab)
    assert len(sockets) == len(kept(own_lab)) == threads
    with load(own_lab, 5):
        for _ in range(2):
            with idle_connections(own_lab):
                restart(own_lab)
            assert listening(own_lab) == sockets
    assert len(kept(own_lab)) == threads


@pytest.mark.plain
@pytest.mark.only("kernel")
def test_the_only_bridge(own_lab):
    """Is started again: connections that come meanwhile wait for it, others do not need it."""
    own_lab.up("--backends", 1)
    with load(own_lab, 5):
        for _ in range(2):
            restart(own_lab, "bridge1")
    assert_all_known(own_lab)


def test_connections_without_a_request(own_lab, tmp_path):
    """They go on, twice, and so do those whose request was held."""
    up(own_lab, tmp_path, 2)
    with idle_connections(own_lab):
        wait_until(lambda: own_lab.counters("balancer")["sockets_now"] == IDLE, what="all of them")
        for _ in range(2):
            restart(own_lab)
            assert own_lab.counters("balancer")["sockets_now"] == IDLE
    assert_all_known(own_lab)


def test_killed(own_lab, tmp_path):
    """Its listening sockets are left."""
    up(own_lab, tmp_path, 2)
    sockets = listening(own_lab)
    restart(own_lab, "balancer", "KILL")
    assert listening(own_lab) == sockets
    for number in range(20):
        assert crafted.fetch(own_lab, f"/page/{number}").status == 200


def test_other_threads(own_lab, tmp_path):
    """Sockets of another number of workers are of no use; who waits in their backlogs is."""
    up(own_lab, tmp_path, 4)
    with idle_connections(own_lab):
        text = own_lab.config("balancer", "threads = 4;", "threads = 2;")
        (own_lab.state / "balancer.conf").write_text(text)
        restart(own_lab)
        assert len(listening(own_lab)) == 2
        wait_until(lambda: [name.endswith(" of 2") for name in kept(own_lab)] == [True] * 2,
                   what="only two sockets to be kept")


@pytest.mark.only("kernel")
def test_a_service_that_is_gone(own_lab, tmp_path):
    """Who waits in its backlog is told."""
    up(own_lab, tmp_path, 1)
    one = own_lab.config("balancer")
    taken(own_lab, "balancer", with_second(own_lab, "balancer"))
    wait_until(lambda: len(kept(own_lab)) == 2, what="two sockets to be kept")
    os.kill(own_lab.pid("balancer"), signal.SIGSTOP)
    with crafted.connect(own_lab, port=8080) as silent:
        (own_lab.state / "balancer.conf").write_text(one)
        restart(own_lab, "balancer", "KILL")
        assert crafted.how_it_ends(silent) == ("fin", b"")


def test_services_come_and_go(own_lab, tmp_path):
    """By a reload: those that came are kept, and those that went are not."""
    up(own_lab, tmp_path, 2)
    one, two = own_lab.config("balancer"), with_second(own_lab, "balancer")
    for _ in range(2):
        taken(own_lab, "balancer", two)
        wait_until(lambda: len(kept(own_lab)) == 4, what="four sockets to be kept")
        sockets = listening(own_lab)
        restart(own_lab)
        assert listening(own_lab) == sockets and len(sockets) == 4
        taken(own_lab, "balancer", one)
        wait_until(lambda: len(kept(own_lab)) == 2, what="two sockets to be kept")
        assert len(listening(own_lab)) == 2


@pytest.mark.only("kernel")
def test_a_download_goes_on(own_lab, tmp_path):
    up(own_lab, tmp_path, 2)
    with in_background(slow_download, own_lab, 80, 3) as download:
        wait_until(lambda: own_lab.counters("balancer").get("accepted"), what="the handover")
        restart(own_lab)
        assert not download
    assert download == [sha256_of("100M.bin")]
