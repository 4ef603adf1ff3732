# SPDX-License-Identifier: GPL-2.0-or-later
"""FIN and RST of somebody who does not see the connection: its silence may be as long as before."""

import contextlib
import os
import random
import time

import pytest

import crafted
import raw
from conftest import DAEMONS, VIP, wait_until
from crafted import BRIDGES
from support import ACK, FIN, PSH, RST
from test_kernel_plane import elements

CLOSING_S = 1
IDLE_S = 20
NEAR = 1000  # in the web server's window, and not its next byte (RFC 5961, 3)
GUESSES = 20
BRIDGE = BRIDGES["backend1"]
DATA = b"x" * 10
FEW = 3

# The flags of packets that come one behind the other.
BLIND = {
    "fin": [FIN | ACK],
    "rst": [RST],
    "fin_twice": [FIN | ACK, FIN | ACK],
    "fin_ack_rst": [FIN | ACK, ACK, RST],
    "fin_alone": [FIN],
    "data_fin": [ACK | PSH, FIN | ACK],
}


@pytest.fixture
def short_lab(own_lab, tmp_path):
    """A lab that soon forgets what has ended, and not what is silent."""
    texts = {}
    for name in DAEMONS:
        text = crafted.replaced(crafted.template(name), "closing_s = 5;",
                                f"closing_s = {CLOSING_S};")
        texts[name] = crafted.replaced(text, "idle_s = 60;", f"idle_s = {IDLE_S};")
    crafted.up(own_lab, tmp_path, **texts)
    return own_lab


def silence():
    """This is what the test is about."""
    time.sleep(3 * CLOSING_S)


def attack(lab, to, port, kinds, numbers):
    """Packets as from the client's port; `numbers` gives the sequence number of each round."""
    dscp = 0 if to == VIP else 1
    with raw.RawSender(lab, "balancer" if to == VIP else "backend1") as sender:
        for seq in numbers:
            for flags in kinds:
                payload = DATA if flags & PSH else b""
                sender.send(raw.ipv4(raw.tcp(payload, destination=to, sport=port, seq=seq,
                                             ack=random.getrandbits(32), flags=flags),
                                     destination=to, dscp=dscp))


def far_from(number):
    """Sequence numbers of somebody who guesses, none of which is right by chance."""
    return [(number + random.randrange(1 << 26, (1 << 32) - (1 << 26))) % (1 << 32)
            for _ in range(GUESSES)]


class Victims:
    """A connection for each attack, all of them silent in the same time."""

    def __init__(self, lab, stack):
        self.lab, self.stack = lab, stack
        self.path = crafted.path_of(lab, "backend1")
        self.capture = stack.enter_context(crafted.Capture(lab, "client"))
        self.socks = {}

    def open(self, name):
        """Returns its port, and the next sequence number of the client."""
        sock = self.stack.enter_context(crafted.connect(self.lab))
        assert crafted.ask(sock, self.path).backend == "backend1"
        self.socks[name] = sock
        port = sock.getsockname()[1]
        sent = [p["TCP"] for p in self.capture.packets() if p.haslayer("TCP") and
                p["TCP"].sport == port]
        last = max(sent, key=lambda t: (t.seq - sent[0].seq) % 2**32 + len(t.payload))
        return port, (last.seq + len(last.payload)) % 2**32

    def ask(self):
        """Those that do not answer any more."""
        dead = []
        for name, sock in self.socks.items():
            try:
                assert crafted.ask(sock, self.path).backend == "backend1"
            except OSError:
                dead.append(name)
        return dead


def own_ends_count(lab, socks):
    """But for those whose number has another upper half meanwhile, on the balancer."""
    before = len(elements(lab, "flows4"))
    ended = lab.counters("bridge1").get("splices_ended", 0)
    assert len(elements(lab, "numbers4", "set")) >= len(socks) - FEW
    for sock in socks:
        sock.close()
    wait_until(lambda: len(elements(lab, "flows4")) <= before - len(socks) + FEW, IDLE_S / 2,
               what="the end of flows")
    wait_until(lambda: lab.counters("bridge1").get("splices_ended", 0) >= ended + len(socks),
               IDLE_S / 2, what="the end of entries")


def test_blind_ends(short_lab):
    """The victims are silent for three times the closing timeout.

    With a number in the window more is believed, and forgotten with the client's next data.
    """
    with contextlib.ExitStack() as stack:
        guessed, near = Victims(short_lab, stack), Victims(short_lab, stack)
        for to in (VIP, BRIDGE):
            for name, kinds in BLIND.items():
                port, seq = guessed.open((to, name))
                attack(short_lab, to, port, kinds, far_from(seq))
            for name in ("fin", "rst"):
                port, seq = near.open((to, name))
                attack(short_lab, to, port, BLIND[name], [seq + NEAR])
                assert near.ask() == []
        silence()
        assert guessed.ask() + near.ask() == []
        if os.environ["L3DSR_DATA_PLANE"] == "kernel":
            own_ends_count(short_lab, list(guessed.socks.values()))
