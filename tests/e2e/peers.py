# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks that are worse than they were, web servers of our own, and what a kernel tells of TCP.

relayed, losing   the network, within a `with` statement
Servers           a function of the test's own as the web server of both backends
Repair            sequence numbers and timestamps of a kernel's socket
nothing_left      the tables are empty
"""

import contextlib
import select
import socket
import threading

import crafted
from conftest import DAEMONS, SERVERS, wait_until
from support import lost

DIRECTIONS = ("to_client", "from_client")


@contextlib.contextmanager
def relayed(lab, *settings):
    """lab/impair relay; yields a dictionary that is filled at the end: (direction, what) to count.

    A test that fails within does not get there, but the network is mended.
    """
    told = {}
    lab.impair("relay", *settings)
    try:
        yield told
    finally:
        for line in lab.impair("off").stdout.splitlines():
            direction, what, count = line.split()
            told[direction, what] = int(count)
    assert all(told[direction, "failed"] == 0 for direction in DIRECTIONS)


@contextlib.contextmanager
def losing(lab, packet, count=1):
    """lab/impair lose; at the end that many packets must have been lost."""
    lab.impair("lose", packet, count)
    try:
        yield
        wait_until(lambda: lost(lab)["lost"] == count, what=f"the loss of {count} {packet}")
    finally:
        lab.impair("off")


class Servers:
    """Web servers in a lab that was brought up without, to be used in a `with` statement.

    `serve(sock)` is called for each connection, in a thread of its own, and the connection is
    closed behind it. What it returns is collected, in no order; what it raises fails the test at
    the end.
    """

    def __init__(self, lab, serve, prepare=None, port=80):
        self.serve = serve
        self.results, self.errors, self.threads = [], [], []
        self.changed = threading.Condition()
        self.wake, self.woken = socket.socketpair()
        self.listeners = []
        for backend, address in SERVERS.items():
            with crafted.inside(lab, backend):
                listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if prepare:
                prepare(listener)
            listener.bind((address, port))
            listener.listen(64)
            self.listeners.append(listener)

    def __enter__(self):
        self.acceptor = threading.Thread(target=self.accept)
        self.acceptor.start()
        return self

    def __exit__(self, kind, *_):
        self.wake.close()
        self.acceptor.join()
        for thread in self.threads:
            thread.join(30)
        for listener in self.listeners:
            listener.close()
        self.woken.close()
        if kind is None and self.errors:
            raise self.errors[0]

    def accept(self):
        while True:
            ready = select.select([self.woken, *self.listeners], [], [])[0]
            if self.woken in ready:
                return
            for listener in ready:
                sock, _ = listener.accept()
                sock.settimeout(20)
                thread = threading.Thread(target=self.connection, args=(sock,))
                thread.start()
                self.threads.append(thread)

    def connection(self, sock):
        try:
            with sock:
                result = self.serve(sock)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)
            return
        with self.changed:
            self.results.append(result)
            self.changed.notify_all()

    def result(self, timeout=10):
        """What `serve` has returned for one connection; each is told once."""
        with self.changed:
            told = self.changed.wait_for(lambda: self.results or self.errors, timeout)
            assert told, f"no connection has ended within {timeout} s"
            if self.errors:
                raise self.errors[0]
            return self.results.pop(0)


def read_request(sock):
    """The header of a request, and what has come behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, f"the end came within a request: {data!r}"
        data += piece
    header, _, rest = data.partition(b"\r\n\r\n")
    return header, rest


def answer_header(length=None):
    """The header of a response that is as long as that, or ends with the connection."""
    lines = ["HTTP/1.1 200 OK", "Connection: close" if length is None
             else f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


def read_all(sock):
    """Everything until the other side's FIN."""
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


class Repair:
    """The numbers of a socket that stands still meanwhile, to be used in a `with` statement."""

    TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_TIMESTAMP = 19, 20, 21, 24
    RECEIVE, SEND = 1, 2

    def __init__(self, sock):
        self.sock = sock

    def __enter__(self):
        self.sock.setsockopt(socket.IPPROTO_TCP, self.TCP_REPAIR, 1)
        return self

    def __exit__(self, *_):
        # -1: off, without a window probe.
        self.sock.setsockopt(socket.IPPROTO_TCP, self.TCP_REPAIR, -1)

    def queue(self, which):
        self.sock.setsockopt(socket.IPPROTO_TCP, self.TCP_REPAIR_QUEUE, which)

    def sequence(self, which):
        """The next sequence number of that queue."""
        self.queue(which)
        return self.sock.getsockopt(socket.IPPROTO_TCP, self.TCP_QUEUE_SEQ) % (1 << 32)

    def set_sequence(self, which, value):
        self.queue(which)
        self.sock.setsockopt(socket.IPPROTO_TCP, self.TCP_QUEUE_SEQ, value.to_bytes(4, "little"))

    def timestamp(self):
        return self.sock.getsockopt(socket.IPPROTO_TCP, self.TCP_TIMESTAMP) % (1 << 32)

    def set_timestamp(self, value):
        self.sock.setsockopt(socket.IPPROTO_TCP, self.TCP_TIMESTAMP, value.to_bytes(4, "little"))


def nothing_left(lab, timeout=15):
    """All tables of the daemons become empty."""
    def empty():
        now = {name: lab.counters(name) for name in DAEMONS}
        return all(value == 0 for counters in now.values()
                   for key, value in counters.items() if key.endswith("_now"))

    wait_until(empty, timeout, what="empty tables")
