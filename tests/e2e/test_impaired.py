# SPDX-License-Identifier: GPL-2.0-or-later
"""Loss, reordering, duplication and delay between client and everybody else, each way and both.

What arrives is what was sent, and the way through balancer and bridge is no slower than the web
server itself under the same conditions, but for a factor that chance can make. The transfers of
both ways go on at the same time, several of each, and their medians are compared.
"""

import concurrent.futures
import errno
import hashlib
import itertools
import math
import random
import statistics
import time

import pytest

import crafted
from conftest import DAEMONS, FILES, SERVERS, VIP, Lab
from flooding import Visitors
from peers import DIRECTIONS, relayed
from support import paused

pytestmark = pytest.mark.plain

AT_ONCE = 5
# One lost SYN, which is a second, may be in the one and not in the other; and a retransmission behind it.
FACTOR, SLACK = 3, 1.3

# Settings of the relay, and the size of a transfer: some seconds for all of them.
IMPAIRMENTS = {
    "loss-0.1": (("loss", "0.1"), 3000000),
    "loss-2": (("loss", "2"), 400000),
    "loss-10": (("loss", "10"), 60000),
    "reorder": (("reorder", "5"), 1000000),
    "duplicate": (("duplicate", "5"), 1000000),
    "delay-20": (("delay", "20"), 1000000),
    "delay-200": (("delay", "200"), 200000),
}
WAYS = {"to_client": ("to_client",), "from_client": ("from_client",), "both": DIRECTIONS}

# One of each kind, each way and both, both transfers; the rest takes minutes.
SHORT = {
    ("loss-0.1", "both", "download"), ("loss-2", "both", "upload"),
    ("loss-2", "to_client", "download"), ("loss-10", "from_client", "upload"),
    ("loss-10", "both", "download"), ("reorder", "to_client", "download"),
    ("reorder", "both", "upload"), ("duplicate", "both", "download"),
    ("duplicate", "from_client", "upload"), ("delay-20", "both", "upload"),
    ("delay-20", "to_client", "download"), ("delay-200", "from_client", "download"),
}
CASES = [pytest.param(*case, id="-".join(case), marks=() if case in SHORT else pytest.mark.long)
         for case in itertools.product(IMPAIRMENTS, WAYS, ("download", "upload"))]


@pytest.fixture(scope="module")
def patient(data_plane, tmp_path_factory):
    """A lab that waits for requests longer than the others.

    Where a SYN was lost the client has measured a round trip of a second. When it loses its request
    as well it waits for more than two seconds.
    """
    lab = Lab()
    crafted.up(lab, tmp_path_factory.mktemp("patient"), balancer=crafted.replaced(
        crafted.template("balancer"), "request_ms = 2000;", "request_ms = 20000;"))
    yield lab
    lab.finish()


@pytest.fixture(scope="module")
def content():
    with open(FILES / "100M.bin", "rb") as file:
        return file.read(max(size for _, size in IMPAIRMENTS.values()))


def timed(transfer):
    begin = time.monotonic()
    transfer()
    return time.monotonic() - begin


def download(lab, vip, body):
    answer = crafted.fetch(lab, "/files/100M.bin", f"Range: bytes=0-{len(body) - 1}", vip=vip,
                           timeout=60)
    assert answer.status == 206
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def upload(lab, vip, body, name):
    with crafted.connect(lab, vip=vip, timeout=60) as sock:
        sock.sendall(crafted.request(f"/upload/{name}", f"Content-Length: {len(body)}",
                                     method="PUT"))
        sock.sendall(body)
        assert crafted.response(sock).status == 201
    stored, = lab.state.glob(f"backend*/upload/{name}")
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(body).digest()
    stored.unlink()


def compare(lab, transfer, body):
    """Transfers to the VIP and to a web server, at the same time."""
    vips = [VIP, SERVERS["backend1"]] * AT_ONCE

    def one(number):
        if transfer == "download":
            return timed(lambda: download(lab, vips[number], body))
        return timed(lambda: upload(lab, vips[number], body, f"impaired-{number}"))

    with concurrent.futures.ThreadPoolExecutor(len(vips)) as pool:
        seconds = list(pool.map(one, range(len(vips))))
    steered, direct = statistics.median(seconds[0::2]), statistics.median(seconds[1::2])
    assert steered <= FACTOR * direct + SLACK, f"{steered:.3f} s, directly {direct:.3f} s"


def assert_share(told, direction, what, percent):
    """The count is what chance makes of so many packets: within five standard deviations."""
    share, packets = percent / 100, told[direction, "packets"]
    deviation = math.sqrt(packets * share * (1 - share))
    assert abs(told[direction, what] - packets * share) <= 5 * deviation
    assert told[direction, what] > 0


def assert_impaired(told, ways, impairment):
    """The relay did what it was told to, in these directions, and nothing in the other one."""
    for direction in DIRECTIONS:
        for what, setting in (("lost", "loss"), ("duplicated", "duplicate"),
                              ("reordered", "reorder")):
            if direction not in ways or impairment[0] != setting:
                assert told[direction, what] == 0
            elif setting == "reorder":
                assert told[direction, what] > 0
            else:
                assert_share(told, direction, what, float(impairment[1]))


@pytest.mark.parametrize("name, way, transfer", CASES)
def test_impaired(patient, content, name, way, transfer):
    impairment, size = IMPAIRMENTS[name]
    settings = itertools.chain.from_iterable((direction, *impairment) for direction in WAYS[way])
    begin = time.monotonic()
    with relayed(patient, *settings) as told:
        compare(patient, transfer, content[:size])
    seconds = time.monotonic() - begin
    assert_impaired(told, WAYS[way], impairment)
    if impairment[0] == "delay":
        # A handshake, a request and its answer are two round trips.
        assert seconds > 2 * len(WAYS[way]) * float(impairment[1]) / 1000


@pytest.mark.long
@pytest.mark.parametrize("transfer", ["download", "upload"])
def test_all_at_once(patient, content, transfer):
    with relayed(patient, "loss", 2, "reorder", 5, "duplicate", 2, "delay", 20) as told:
        compare(patient, transfer, content[:400000])
    for direction in DIRECTIONS:
        assert_share(told, direction, "lost", 2)
        assert told[direction, "duplicated"] > 0
        assert told[direction, "reordered"] > 0


@pytest.mark.parametrize("way", WAYS)
def test_many_short_connections(patient, way):
    """Handshakes, handoffs and ends in all the orders that loss and reordering make."""
    settings = itertools.chain.from_iterable((direction, "loss", 5, "reorder", 20, "duplicate", 20)
                                             for direction in WAYS[way])
    paths = [f"/page/impaired-{number}" for number in range(200)]
    with relayed(patient, *settings) as told:
        # A SYN that is lost three times is repeated after seven seconds more.
        answers = crafted.fetch_all(patient, paths, at_once=50, timeout=30)
    for path, answer in answers.items():
        assert answer.status == 200
        assert answer.text.split() == [answer.backend, answer.local, path]
    for direction in WAYS[way]:
        assert told[direction, "lost"] > 0
        assert told[direction, "duplicated"] > 0


@pytest.mark.long
@pytest.mark.parametrize("closes", ["client", "server"])
def test_ports_used_again(patient, closes):
    """What comes late is of a connection whose port has another one by now."""
    rounds, headers = 20, ["Connection: close"] if closes == "server" else []
    unanswered = []
    with crafted.sysctls(patient, "client", ip_local_port_range="20000 21800", tcp_tw_reuse=1), \
            relayed(patient, "loss", 5, "reorder", 20, "duplicate", 20) as told, \
            concurrent.futures.ThreadPoolExecutor(50) as pool:

        def fetch(path):
            # A connection whose port waits for the end of the last one that had it was not begun.
            while True:
                try:
                    with crafted.connect(patient, timeout=30) as sock:
                        answer = crafted.ask(sock, path, *headers)
                        assert answer.text.split() == [answer.backend, "%s:%d" % sock.getsockname(), path]
                        return not headers or crafted.how_it_ends(sock) == ("fin", b"")
                except OSError as error:
                    if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                        unanswered.append((path, error))
                        return False

        ended = list(pool.map(fetch, (f"/page/again-{number}" for number in range(rounds * 150))))
    assert not unanswered and all(ended)
    assert len(ended) > 1801  # more than there are ports
    for direction in DIRECTIONS:
        assert told[direction, "lost"] and told[direction, "duplicated"] and told[direction, "reordered"]


@pytest.mark.long
def test_daemons_that_stand_still(patient):
    """Now one, now another, for longer than an offer or its memory lasts: requests are late and no more."""
    chance = random.Random(1)
    until = time.monotonic() + 60
    with relayed(patient, "loss", 1, "reorder", 5, "duplicate", 5) as told, \
            Visitors(patient, 24, timeout=30) as visitors:
        while time.monotonic() < until:
            # These times are the fault itself.
            with paused(patient.pid(chance.choice(DAEMONS))):
                time.sleep(chance.choice((0.02, 0.1, 0.25, 0.35, 0.7, 1.1, 1.5, 2.5)))
            time.sleep(chance.uniform(0.05, 0.8))
    assert visitors.failed == []
    assert len(visitors.waits) > 1000
    for direction in DIRECTIONS:
        assert told[direction, "lost"] and told[direction, "duplicated"]
