# SPDX-License-Identifier: GPL-2.0-or-later
"""Each packet of a connection lost once: the request succeeds, and is late by no more than it must.

Who repeats a packet says how late: the balancer an OPEN after 20, 60 and 180 ms, which makes up
for a lost answer too; a kernel its SYN and SYN-ACK after a second, data after 200 ms (Linux, on a
network as fast as the lab). 100 ms more are left for slow machines; for a packet that nobody waits
for there is nothing else.
"""

import time

import pytest

import crafted
from crafted import CLIENT
from peers import losing

pytestmark = [pytest.mark.plain, pytest.mark.quiet]

SLACK = 0.1
NOBODY = (0, 0)
OFFER = (0.02, 0.02)
KERNEL_DATA = (0.2, 0.25)
KERNEL_SYN = (1.0, 1.05)

# What is lost, how often, and the seconds after which it is repeated: at least, at most.
LOSSES = [
    ("syn", 1, KERNEL_SYN),
    ("syn-ack", 1, KERNEL_SYN),
    ("ack", 1, NOBODY),  # the request says the same
    ("request", 1, KERNEL_DATA),
    ("open", 1, OFFER),
    ("open", 2, (0.06, 0.06)),
    ("open", 3, (0.18, 0.18)),
    ("accepted", 1, OFFER),
    ("accepted", 2, (0.06, 0.06)),
    ("held", 1, KERNEL_DATA),  # the balancer keeps nothing that it has released
    ("answer", 1, KERNEL_DATA),
    ("fin", 1, NOBODY),
    ("server-fin", 1, NOBODY),
    ("last-ack", 1, NOBODY),
]


def assert_late(seconds, least, most):
    assert least <= seconds < most + SLACK


def web_server_has_none(lab, port):
    return not any(crafted.server_connections(lab, backend, port) for backend in crafted.BRIDGES)


@pytest.mark.parametrize("packet, count, late", LOSSES,
                         ids=[f"{packet}-{count}" for packet, count, _ in LOSSES])
def test_one_lost_packet(lab, packet, count, late):
    """The connection is ended by the client; both ends forget it, whichever packet was lost."""
    with losing(lab, packet, count):
        begin = time.monotonic()
        with crafted.connect(lab) as sock:
            port = sock.getsockname()[1]
            answer = crafted.ask(sock, "/page/1")
            seconds = time.monotonic() - begin
            assert (answer.status, answer.seen) == (200, f"{CLIENT}:{port}")
        crafted.wait_until(lambda: web_server_has_none(lab, port), timeout=2,
                           what="the end of the web server's half")
    assert_late(seconds, *late)


@pytest.mark.parametrize("count, late", [(1, 0.02), (2, 0.06), (3, 0.18)])
def test_lost_refused(own_lab, count, late):
    """Where the web server is down: the offer is repeated and refused again."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    crafted.stop_nginx(own_lab, "backend1")
    before = own_lab.counters("balancer")
    with losing(own_lab, "refused", count):
        answer = crafted.fetch(own_lab, path)
        assert (answer.status, answer.backend) == (200, "backend2")
    assert_late(answer.seconds, late, late)
    crafted.counted(own_lab, "balancer", before, open_refused=1, open_retransmitted=count)


def test_a_bridge_that_no_offer_reaches(own_lab):
    """Silence is given up after 300 ms; the other backend answers."""
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    before = own_lab.counters("balancer")
    with losing(own_lab, "open", 4):
        answer = crafted.fetch(own_lab, path)
        assert (answer.status, answer.backend) == (200, "backend2")
    assert_late(answer.seconds, 0.3, 0.3)
    crafted.counted(own_lab, "balancer", before, open_silent=1, open_retransmitted=3)
