# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that are far away: what the web server's kernel believes of the way to them.

It measures the round trip time between its SYN-ACK and the ACK, which come from the bridge here. BBR
sends no more than fits into the shortest round trip time, and believes that for ten seconds.
"""

import re
import time

import pytest

import crafted
from conftest import SERVERS, VIP, wait_until
from peers import relayed

pytestmark = pytest.mark.plain


def far_ms(lab):
    """From which round trip time on a client is far; see src/bridge/open.h."""
    name = lab.exec("backend1", "cat", "/proc/sys/net/ipv4/tcp_congestion_control").stdout
    return 1 if name.startswith("bbr") else 150


def shortest_ms(lab, port):
    """The shortest round trip time to that port of the client, as the first web server's kernel saw it."""
    told = lab.exec("backend1", "ss", "-Htin", f"sport = :80 and dport = :{port}").stdout
    found = re.search(r"minrtt:([\d.]+)", told)
    return float(found.group(1)) if found else None


@pytest.mark.parametrize("delay_ms", [10, 100])
def test_round_trip_time(lab, delay_ms):
    path = crafted.path_of(lab, "backend1")
    before = lab.counters("bridge1").get("unmeasured", 0)
    with relayed(lab, "delay", delay_ms), crafted.connect(lab) as sock:
        assert crafted.ask(sock, path).status == 200
        port = sock.getsockname()[1]
        shortest = wait_until(lambda: shortest_ms(lab, port), what="a measured round trip")
    if 2 * delay_ms >= far_ms(lab):
        # The relay adds what the machine keeps it waiting, so how much more is no matter of the bridge.
        assert 2 * delay_ms <= shortest < 2 * delay_ms + 100
        assert lab.counters("bridge1")["unmeasured"] == before + 1
    else:
        assert shortest < 2 * delay_ms
        assert lab.counters("bridge1").get("unmeasured", 0) == before


@pytest.mark.parametrize("share, unmeasured", [(0, 0), (0.999, 0), (1, 1)])
def test_how_far_is_far(lab, share, unmeasured):
    """As the record says; a client whose way is not known is near."""
    with crafted.Offer(lab, rtt_us=int(share * far_ms(lab) * 1000)) as offer:
        before = lab.counters("bridge1")
        offer.send()
        assert offer.told().type == crafted.ACCEPTED
        # The web server answers the second SYN as well.
        crafted.counted(lab, "bridge1", before, spliced=1, unmeasured=unmeasured,
                        drop_swallowed=1 + unmeasured)


def test_large_file(lab):
    """At the speed at which the web server itself sends it."""
    def seconds(host):
        begin = time.monotonic()
        lab.sha256(f"http://{host}/files/100M.bin")
        return time.monotonic() - begin

    with relayed(lab, "delay", 20):
        straight = min(seconds(server) for server in SERVERS.values())
        assert seconds(VIP) < 2 * straight + 1
