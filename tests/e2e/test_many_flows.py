# SPDX-License-Identifier: GPL-2.0-or-later
"""As many connections at once as a busy host has: the kernel's tables take them, nobody else needs to."""

import contextlib
import multiprocessing
import select
import socket
import time

import pytest

import crafted
from conftest import DAEMONS, SERVERS, VIP
from flooding import memory_kb
from test_kernel_bridge import slab_bytes

pytestmark = [pytest.mark.alone, pytest.mark.plain, pytest.mark.only("kernel")]

SOURCES = ["192.168.33.1"] + [f"192.168.33.{number}" for number in range(101, 121)]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
IN_FLIGHT = 8
PROCESSES = 12
IP_BIND_ADDRESS_NO_PORT = 24


def serve(listener):
    """Answer each request on each connection, and keep them all."""
    socks = {}
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number != listener.fileno():
                if socks[number].recv(4096):
                    socks[number].send(ANSWER)
                else:
                    poll.unregister(number)
                    socks.pop(number).close()
                continue
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock = listener.accept()[0]
                    sock.setblocking(False)
                    socks[sock.fileno()] = sock
                    poll.register(sock, select.EPOLLIN)


def begin(number):
    sock = socket.socket()
    sock.setblocking(False)
    # The port is chosen with the destination, so that there are enough of them.
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((SOURCES[number % len(SOURCES)], 0))
    with contextlib.suppress(BlockingIOError):
        sock.connect((VIP, 80))
    return sock


def connect(first, count, pipe):
    """Make so many connections with an answer on each; then ask some again when told to."""
    socks = {}
    answered = 0
    poll = select.epoll()
    while answered < count:
        while len(socks) < count and len(socks) - answered < IN_FLIGHT:
            sock = begin(first + len(socks))
            socks[sock.fileno()] = sock
            poll.register(sock, select.EPOLLOUT)
        for number, events in poll.poll():
            if events & select.EPOLLOUT:
                socks[number].send(crafted.request(f"/page/{first + number}"))
                poll.modify(number, select.EPOLLIN)
            else:
                assert socks[number].recv(4096) == ANSWER
                answered += 1
                poll.modify(number, 0)
    pipe.send(answered)
    pipe.recv()
    for sock in list(socks.values())[::1000]:
        sock.setblocking(True)
        sock.settimeout(10)
        sock.sendall(crafted.request("/page/again"))
        assert sock.recv(4096) == ANSWER
    pipe.send(answered)
    pipe.recv()


@contextlib.contextmanager
def processes(lab, share):
    """Web servers, and pipes to clients; many processes, because each has so many descriptors."""
    children, pipes = [], []
    try:
        for backend, address in SERVERS.items():
            for _ in range(PROCESSES // 2):
                with crafted.inside(lab, backend):
                    listener = socket.create_server((address, 80), backlog=4096, reuse_port=True)
                listener.setblocking(False)
                children.append(multiprocessing.Process(target=serve, args=(listener,)))
                children[-1].start()
                listener.close()
        with crafted.inside(lab, "client"):
            for number in range(PROCESSES):
                pipe, end = multiprocessing.Pipe()
                pipes.append(pipe)
                children.append(multiprocessing.Process(target=connect,
                                                        args=(number * share, share, end)))
                children[-1].start()
                end.close()
        yield pipes
    finally:
        for child in children:
            child.kill()
            child.join()


def all_answered(pipes, share):
    for pipe in pipes:
        assert pipe.poll(300), "a client does not come to its end"
        assert pipe.recv() == share


def learned(lab):
    """Connections in the balancer's map; as text, because there are many."""
    text = lab.exec("balancer", "nft", "list", "map", "inet", "l3dsr_balancer", "flows4",
                    timeout=120).stdout
    return text.count(" expires ")


def spliced(lab):
    return {backend: int(lab.exec(backend, "sysctl", "-n",
                                  "net.netfilter.nf_conntrack_count").stdout)
            for backend in SERVERS}


def freed(lab, host, *command):
    """How much of the kernel's memory goes with that, when it goes no further down."""
    before = lowest = slab_bytes()
    lab.exec(host, *command, timeout=120)
    quiet = time.monotonic()
    while time.monotonic() - quiet < 1:
        now = slab_bytes()
        if now < lowest - 100_000:
            lowest, quiet = now, time.monotonic()
        time.sleep(0.1)
    return before - lowest


@pytest.mark.parametrize("flows", [12_000, pytest.param(204_000, marks=pytest.mark.long)])
def test_many_flows(own_lab, tmp_path, capsys, flows):
    share = flows // PROCESSES
    texts = {name: crafted.replaced(crafted.template(name), "idle_s = 60;", "idle_s = 900;")
             for name in DAEMONS}
    files = []
    for name, text in texts.items():
        files.append(tmp_path / f"{name}.conf")
        files[-1].write_text(text)
    own_lab.up("--no-web", *files)
    before = {name: memory_kb(own_lab.pid(name))["VmRSS"] for name in DAEMONS}
    begin_s = time.monotonic()
    with processes(own_lab, share) as pipes:
        all_answered(pipes, share)
        seconds = time.monotonic() - begin_s
        assert learned(own_lab) == flows
        assert sum(spliced(own_lab).values()) >= flows
        assert "flows_not_learned" not in own_lab.counters("balancer")
        after = {name: memory_kb(own_lab.pid(name))["VmRSS"] for name in DAEMONS}
        for pipe in pipes:
            pipe.send("again")
        all_answered(pipes, share)
        in_map = freed(own_lab, "balancer", "nft", "flush", "map", "inet", "l3dsr_balancer",
                       "flows4")
        entries = spliced(own_lab)["backend1"]
        in_table = freed(own_lab, "backend1", "conntrack", "-F")
        with capsys.disabled():
            print(f"\n{flows} connections in {seconds:.0f} s; memory of the daemons in kB: "
                  f"{before} -> {after}; of the kernel per connection: "
                  f"{in_map / flows:.0f} bytes on the balancer, "
                  f"{in_table / entries:.0f} bytes on a bridge")
        assert 0 < in_map / flows < 1000
        assert 0 < in_table / entries < 2000
