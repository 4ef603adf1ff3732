# SPDX-License-Identifier: GPL-2.0-or-later
"""Floods, and how those fare who come meanwhile.

syn_flood    flood.c at work on the client host, within a `with` statement
Visitors     clients that ask for pages all the time, and how long each had to wait
"""

import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import threading
import time

import crafted
from conftest import TOP, VIP

FLOOD = pathlib.Path(os.environ.get("L3DSR_BUILD", TOP)).resolve() / "tests/e2e/flood"
FLOOD_SOURCES = "10.0.0.0/8"


@contextlib.contextmanager
def syn_flood(lab, rate, seconds):
    """SYNs to the VIP; yields the process, and at the end its `sent` says how many there were."""
    # Towards the sources there must be a way, or the balancer's kernel would not answer. It leads
    # to the client host, which throws away what is for somebody else.
    lab.exec("balancer", "ip", "route", "add", FLOOD_SOURCES, "via", crafted.CLIENT)
    process = lab.popen("client", FLOOD, rate, seconds, VIP, 80, stdout=subprocess.PIPE, text=True)
    try:
        yield process
        process.sent = int(process.communicate(timeout=seconds + 20)[0])
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        lab.exec("balancer", "ip", "route", "delete", FLOOD_SOURCES)


class Asker:
    """One connection that was there before and asks now and then, in a `with` statement.

    At its end `waits` holds the seconds for each answer.
    """

    def __init__(self, sock, path, interval=0.2):
        self.sock, self.path, self.interval = sock, path, interval
        self.waits, self.error = [], None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def ask(self):
        try:
            while True:
                begin = time.monotonic()
                assert crafted.ask(self.sock, self.path).status == 200
                self.waits.append(time.monotonic() - begin)
                if self.ended.wait(self.interval):
                    return
        except (OSError, AssertionError) as error:
            self.error = error

    def assert_not_disturbed(self, longest):
        """It has had all its answers, none of them later than that, in seconds."""
        assert self.error is None
        assert len(self.waits) >= 3 and max(self.waits) <= longest

    def report(self):
        return f"a connection that was there before: {len(self.waits)} answers, none later than " \
            f"{1000 * max(self.waits):.0f} ms"


class Visitors:
    """Clients that ask for one page after the other, in a `with` statement.

    At its end `waits` holds the seconds of each answered request, `failed` what became of others.
    """

    def __init__(self, lab, count=4, timeout=10):
        self.lab, self.timeout = lab, timeout
        self.waits, self.failed = [], []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(number,))
                        for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def ask(self, number):
        while not self.ended.is_set():
            begin = time.monotonic()
            try:
                answer = crafted.fetch(self.lab, f"/page/{number}-{len(self.waits)}",
                                       "Connection: close", timeout=self.timeout)
                assert answer.status == 200
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))
            else:
                self.waits.append(time.monotonic() - begin)

    @property
    def share(self):
        """How many of all had an answer, from 0 to 1."""
        return len(self.waits) / (len(self.waits) + len(self.failed))

    def assert_served(self, share, median, longest):
        """At least that many had an answer, and waited for no more than that, in seconds."""
        assert self.share >= share, self.failed[:10]
        assert statistics.median(self.waits) <= median
        assert max(self.waits) <= longest

    def report(self):
        """One line for whoever reads the output of the test."""
        return (f"{len(self.waits)} requests answered, {len(self.failed)} not: "
                f"{100 * self.share:.2f} %; median {1000 * statistics.median(self.waits):.1f} ms, "
                f"maximum {1000 * max(self.waits):.0f} ms {sorted(set(self.failed)) or ''}")


def memory_kb(pid):
    """What a process holds of memory, and what it has asked for."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: int(value) for key, value in re.findall(r"^(VmRSS|VmSize):\s+(\d+) kB$", text,
                                                         re.M)}
