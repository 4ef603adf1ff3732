# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the system under running daemons: they recover, and nobody's connection is lost."""

import concurrent.futures
import os
import select
import socket
import subprocess
import time

import pytest

import crafted
from conftest import FILES, SERVERS, VIP, sha256_of, wait_until
from flooding import Visitors, syn_flood
from support import BRIDGE_OF, paused, sha256_of_file
from test_daemons import Manager

pytestmark = pytest.mark.once

STOP_SECONDS = 5
# Its file is on its way for longer than the stop.
BYTES_PER_SECOND = 20_000_000
VISITORS = 4


# Its flood takes the machine for itself.
@pytest.mark.alone
@pytest.mark.only("userspace")
def test_netlink_overrun(own_lab):
    """More packets than the socket buffer takes while the daemon stands still."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab, timeout=20) as idle:
        assert crafted.ask(idle, path).status == 200
        with paused(own_lab.pid("balancer")), syn_flood(own_lab, 100000, 1) as flood:
            flood.wait(timeout=20)
        # The one is the kernel's to count, the other a worker's, which may not have come to it yet.
        counters = wait_until(lambda: (lambda c: c if c["queue_dropped_undelivered"] and
                                       c.get("queue_overruns") else None)(own_lab.counters("balancer")),
                              15, "queue_dropped_undelivered and queue_overruns")
        assert counters["queue_dropped_full"] == 0
        assert own_lab.log("balancer").count("because a worker was too slow") == 1
        wait_until(lambda: (lambda c: c["packets"] == c["verdicts"])(own_lab.counters("balancer")),
                   what="a verdict for each packet")
        assert crafted.ask(idle, path).backend == "backend1"
        answer = crafted.fetch(own_lab, path)
        assert answer.backend == "backend1"
        assert answer.seconds < 0.9
    counters = own_lab.counters("balancer")
    assert "verdicts_lost" not in counters
    assert "verdicts_refused" not in counters


def upload_name(lab, backend):
    """A name below /upload/ that the balancer gives to that backend."""
    for number in range(64):
        with crafted.connect(lab) as sock:
            sock.sendall(crafted.request(f"/upload/{number}"))
            answer = sock.recv(4096)
        if f"X-Backend: {backend}".encode() in answer:
            return str(number)
    raise AssertionError(f"none of 64 names belongs to {backend}")


def moving(lab, host, before):
    """Has much come through the host's interface since?"""
    now = lab.iface_bytes(host)
    return now.received - before.received > 2_000_000 and now.sent - before.sent > 2_000_000


@pytest.mark.quiet
@pytest.mark.parametrize("victim", ["balancer", "bridge"])
def test_stopped_for_a_while(own_lab, victim):
    """In a download, an upload and while new requests come: all of them are only late.

    What the kernel carries does not even stop.
    """
    carried = os.environ["L3DSR_DATA_PLANE"] == "kernel"
    own_lab.up()
    page = own_lab.exec("client", "curl", "-sSI", f"http://{VIP}/files/100M.bin").stdout
    backend, = [name for name in SERVERS if f"X-Backend: {name}" in page]
    daemon = "balancer" if victim == "balancer" else BRIDGE_OF[backend]
    name = upload_name(own_lab, backend)
    limit = ("--limit-rate", BYTES_PER_SECOND)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        before = own_lab.iface_bytes(backend)
        download = pool.submit(own_lab.sha256, "/files/100M.bin", *limit)
        upload = pool.submit(own_lab.curl, f"/upload/{name}", "-T", FILES / "100M.bin", *limit,
                             timeout=60)
        wait_until(lambda: moving(own_lab, backend, before), what="both transfers")
        with Visitors(own_lab, VISITORS, timeout=20) as visitors:
            with paused(own_lab.pid(daemon)):
                # As long as that: this is the fault itself.
                time.sleep(STOP_SECONDS)
                if carried:
                    assert download.result() == sha256_of("100M.bin")
                    assert upload.result().status == 201
                assert download.done() == upload.done() == carried
            answer = crafted.fetch(own_lab, "/page/new", timeout=20)
        assert download.result() == sha256_of("100M.bin")
        assert upload.result().status == 201
    print(f"{visitors.report()}; a new one after the stop {answer.seconds:.2f} s")
    assert visitors.failed == []
    assert sha256_of_file(own_lab.state / backend / "upload" / name) == sha256_of("100M.bin")
    # Until it goes on, and until the next repetition: SYNs after 1, 3 and 7 seconds.
    assert max(visitors.waits) < 8
    # With a bridge, that was only whom it had taken already; the others went to the other one.
    if victim == "bridge":
        assert len([wait for wait in visitors.waits if wait > 1]) <= VISITORS
    assert crafted.fetch(own_lab, "/page/late").seconds < 0.9
    told = own_lab.counters("balancer")
    assert told.get("no_backend", 0) == 0
    if victim == "bridge":
        assert told["open_silent"] >= 1


def interface_down(lab):
    lab.exec("balancer", "ip", "link", "set", "eth0", "down")
    return ("ip", "link", "set", "eth0", "up")


def vip_removed(lab):
    lab.exec("balancer", "ip", "address", "delete", f"{VIP}/24", "dev", "eth0")
    return ("ip", "address", "add", f"{VIP}/24", "dev", "eth0")


@pytest.mark.parametrize("fault", [interface_down, vip_removed])
def test_the_network_goes_and_comes(own_lab, fault):
    """Under a download, an idle connection, half a request and a new one."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab, timeout=20) as idle, \
            crafted.connect(own_lab, timeout=20) as half, \
            concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert crafted.ask(idle, path).status == 200
        half.sendall(b"GET /page/ha")
        wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 1)
        before = own_lab.iface_bytes("client")
        download = pool.submit(own_lab.sha256, "/files/100M.bin", "--limit-rate",
                               2 * BYTES_PER_SECOND)
        wait_until(lambda: own_lab.iface_bytes("client").received - before.received > 2_000_000,
                   what="the download")
        mend = fault(own_lab)
        new = pool.submit(crafted.fetch, own_lab, "/page/new", timeout=20)
        with pytest.raises(concurrent.futures.TimeoutError):
            new.result(timeout=0.5)
        own_lab.exec("balancer", *mend)
        half.sendall(b"lf HTTP/1.1\r\nHost: www\r\n\r\n")
        assert new.result().status == 200
        assert crafted.response(half).status == 200
        assert crafted.ask(idle, path).backend == "backend1"
        assert download.result() == sha256_of("100M.bin")
    assert crafted.fetch(own_lab, path).seconds < 0.9
    assert "error" not in own_lab.log("balancer")


@pytest.mark.parametrize("name", ["balancer", "bridge1"])
def test_the_service_manager_goes(own_lab, tmp_path, name):
    """Nobody hears the daemon any more; it goes on, and ends when it is told to."""
    own_lab.up()
    own_lab.daemon("stop", name)
    with Manager(own_lab, name, tmp_path, WATCHDOG_USEC="150000") as manager:
        wait_until(lambda: manager.messages().count("WATCHDOG=1") >= 3, what="its watchdog")
        manager.socket.close()
        (tmp_path / "notify").unlink()
        begin = time.monotonic()
        # For many of its pings.
        while time.monotonic() - begin < 1:
            answer = crafted.fetch(own_lab, "/page/1")
            assert answer.status == 200
        manager.stop()
        lines = (tmp_path / "log").read_text().splitlines()
        assert len([line for line in lines if "error" in line or "warning" in line]) <= 1


# A library that adds the seconds in a file to the time of day, for the process that it is loaded
# into. The clocks of the kernel stay as they are.
SHIM = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long step(void)
{
	FILE *f = fopen(getenv("CLOCK_STEP"), "re");
	long seconds = 0;

	if (f) {
		if (fscanf(f, "%ld", &seconds) != 1)
			seconds = 0;
		fclose(f);
	}
	return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	static int (*next)(clockid_t, struct timespec *);
	int ret;

	if (!next)
		next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	ret = next(clock, ts);
	if (!ret && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += step();
	return ret;
}

time_t time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}

int gettimeofday(struct timeval *tv, void *tz)
{
	struct timespec ts;

	(void)tz;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A library that steps the time of day for one program."""
    directory = tmp_path_factory.mktemp("clock")
    library = directory / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, "-x", "c", "-"],
                   input=SHIM, text=True, check=True)
    step = directory / "step"
    step.write_text("0\n")
    environ = dict(LD_PRELOAD=str(library), CLOCK_STEP=str(step))
    told = [int(subprocess.run(["date", "+%s"], env={**os.environ, **environ}, check=True,
                               capture_output=True).stdout)]
    step.write_text("86400\n")
    told.append(int(subprocess.run(["date", "+%s"], env={**os.environ, **environ}, check=True,
                                   capture_output=True).stdout))
    assert 86400 <= told[1] - told[0] < 86460
    return step, environ


# A library that is loaded before that of the sanitizer is refused by it.
@pytest.mark.plain
@pytest.mark.quiet
@pytest.mark.parametrize("name", ["balancer", "bridge1"])
def test_clock_step(own_lab, tmp_path, shim, name):
    """By a day, there and back: nothing that has a time runs out, neither early nor late."""
    step, environ = shim
    step.write_text("0\n")
    own_lab.up()
    own_lab.daemon("stop", name)
    with Manager(own_lab, name, tmp_path, WATCHDOG_USEC="150000", **environ) as manager:
        wait_until(lambda: "READY=1" in manager.messages(), what="READY=1")
        path = crafted.path_of(own_lab, "backend1")
        with crafted.connect(own_lab) as idle:
            assert crafted.ask(idle, path).status == 200
            for seconds in (86400, -86400):
                with crafted.connect(own_lab) as half, crafted.connect(own_lab) as silent:
                    half.sendall(b"GET /page/ha")
                    begin = time.monotonic()
                    step.write_text(f"{seconds}\n")
                    pings = manager.messages().count("WATCHDOG=1")
                    wait_until(lambda: manager.messages().count("WATCHDOG=1") >= pings + 5,
                               timeout=1.5, what="its watchdog")
                    half.sendall(b"lf HTTP/1.1\r\nHost: www\r\n\r\n")
                    assert crafted.response(half).status == 200
                    assert crafted.ask(idle, path).backend == "backend1"
                    assert crafted.how_it_ends(silent) == ("fin", b"")
                    # timeouts.request_ms
                    assert 1.9 < time.monotonic() - begin < 3
                    manager.messages()
        manager.stop()


def full(path):
    """Is there no room for another message?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(str(path))
        return not select.select([], [sock], [], 0)[1]


@pytest.mark.parametrize("name", ["balancer", "bridge1"])
def test_the_service_manager_does_not_read(own_lab, tmp_path, name):
    """The daemon's pings fill its socket; it goes on, and ends when it is told to."""
    own_lab.up()
    own_lab.daemon("stop", name)
    with Manager(own_lab, name, tmp_path, WATCHDOG_USEC="30000") as manager:
        wait_until(lambda: "READY=1" in manager.messages(), 15, "its being ready")
        wait_until(lambda: full(tmp_path / "notify"), 60, "a full socket")
        assert crafted.fetch(own_lab, "/page/1").status == 200
        manager.stop()
