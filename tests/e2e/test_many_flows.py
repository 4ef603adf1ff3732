# SPDX-License-Identifier: GPL-2.0-or-later
"""As many connections at once as a busy host has: the kernel's tables take them, nobody else needs to."""

import contextlib
import resource
import select
import socket
import threading
import time

import pytest

import crafted
from conftest import DAEMONS, SERVERS, VIP, wait_until
from flooding import memory_kb
from test_load import pid_of

pytestmark = [pytest.mark.alone, pytest.mark.long, pytest.mark.plain, pytest.mark.only("kernel")]

FLOWS = 200_000
SOURCES = ["192.168.33.1"] + [f"192.168.33.{number}" for number in range(101, 121)]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
IN_FLIGHT = 256


class Server(threading.Thread):
    """Answers each request on each of its connections, and keeps them."""

    def __init__(self, lab, backend):
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.socks = {}
        with crafted.inside(lab, backend):
            self.listener = socket.create_server((SERVERS[backend], 80), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)

    def accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = self.listener.accept()[0]
                sock.setblocking(False)
                self.socks[sock.fileno()] = sock
                self.poll.register(sock, select.EPOLLIN)

    def run(self):
        while not self.ended.is_set():
            for number, _ in self.poll.poll(0.1):
                if number == self.listener.fileno():
                    self.accept()
                elif self.socks[number].recv(4096):
                    self.socks[number].send(ANSWER)
                else:
                    self.poll.unregister(number)
                    self.socks.pop(number).close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()
        for sock in [self.listener, *self.socks.values()]:
            sock.close()
        self.poll.close()


class Client:
    """Connections that have had one answer."""

    def __init__(self):
        self.socks = {}
        self.poll = select.epoll()
        self.answered = 0

    def begin(self, number):
        sock = socket.socket()
        sock.setblocking(False)
        # The port is chosen with the destination, so that there are enough of them.
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        sock.bind((SOURCES[number % len(SOURCES)], 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect((VIP, 80))
        self.socks[sock.fileno()] = sock
        self.poll.register(sock, select.EPOLLOUT)

    def turn(self):
        for number, events in self.poll.poll(1):
            if events & select.EPOLLOUT:
                self.socks[number].send(crafted.request(f"/page/{number}"))
                self.poll.modify(number, select.EPOLLIN)
            else:
                assert self.socks[number].recv(4096) == ANSWER
                self.answered += 1
                self.poll.modify(number, 0)

    def grow(self, count):
        deadline = time.monotonic() + 300
        while self.answered < count:
            while len(self.socks) < count and len(self.socks) - self.answered < IN_FLIGHT:
                self.begin(len(self.socks))
            self.turn()
            assert time.monotonic() < deadline, f"{self.answered} of {count} were answered"

    def close(self):
        for sock in self.socks.values():
            crafted.reset_close(sock)
        self.poll.close()


@contextlib.contextmanager
def file_limit(count):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def learned(lab):
    """Connections in the balancer's map; as text, because there are many."""
    text = lab.exec("balancer", "nft", "list", "map", "inet", "l3dsr_balancer", "flows4",
                    timeout=120).stdout
    return text.count(" expires ")


def spliced(lab):
    return {backend: int(lab.exec(backend, "sysctl", "-n",
                                  "net.netfilter.nf_conntrack_count").stdout)
            for backend in SERVERS}


def slab_kb():
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        return next(int(line.split()[1]) for line in meminfo if line.startswith("SUnreclaim:"))


def freed_kb(lab, host, *command):
    """How much of the kernel's memory goes with that, when it goes no further down."""
    before = lowest = slab_kb()
    lab.exec(host, *command, timeout=120)
    quiet = time.monotonic()
    while time.monotonic() - quiet < 3:
        now = slab_kb()
        if now < lowest - 100:
            lowest, quiet = now, time.monotonic()
        time.sleep(0.1)
    return before - lowest


def test_two_hundred_thousand_flows(own_lab, tmp_path):
    texts = {name: crafted.replaced(crafted.template(name), "idle_s = 60;", "idle_s = 900;")
             for name in DAEMONS}
    files = []
    for name, text in texts.items():
        files.append(tmp_path / f"{name}.conf")
        files[-1].write_text(text)
    with file_limit(3 * FLOWS):
        own_lab.up("--no-web", *files)
        before = {name: memory_kb(pid_of(own_lab, name))["VmRSS"] for name in DAEMONS}
        with Server(own_lab, "backend1"), Server(own_lab, "backend2"):
            with crafted.inside(own_lab, "client"), contextlib.closing(Client()) as client:
                begin = time.monotonic()
                client.grow(FLOWS)
                seconds = time.monotonic() - begin
                assert learned(own_lab) == FLOWS
                assert sum(spliced(own_lab).values()) >= FLOWS
                assert "flows_not_learned" not in own_lab.counters("balancer")
                after = {name: memory_kb(pid_of(own_lab, name))["VmRSS"] for name in DAEMONS}
                print(f"{FLOWS} connections in {seconds:.0f} s; memory of the daemons in kB: "
                      f"{before} -> {after}")
                # All of them live: each of some has another answer.
                for sock in list(client.socks.values())[::1000]:
                    sock.setblocking(True)
                    sock.settimeout(10)
                    sock.sendall(crafted.request("/page/again"))
                    assert sock.recv(4096) == ANSWER
                in_map = freed_kb(own_lab, "balancer", "nft", "flush", "map", "inet",
                                  "l3dsr_balancer", "flows4")
                entries = spliced(own_lab)["backend1"]
                in_table = freed_kb(own_lab, "backend1", "conntrack", "-F")
                print(f"memory of the kernel per flow: {1024 * in_map / FLOWS:.0f} bytes on the "
                      f"balancer, {1024 * in_table / entries:.0f} bytes on a bridge")
                assert 0 < 1024 * in_map / FLOWS < 1000
                assert 0 < 1024 * in_table / entries < 2000
    wait_until(lambda: own_lab.counters("balancer")["requests_now"] == 0)
