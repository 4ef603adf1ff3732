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

# From which round trip time on a client is far, in ms; see src/bridge/open.h.
FAR_MS = {"cubic": 150, "bbr": 1}


def set_congestion_control(lab, host, name):
    """As on a host whose default it is; the lab's own is cubic."""
    if lab.exec(host, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={name}",
                check=False).returncode:
        pytest.skip(f"namespaces cannot have {name}: see net.ipv4.tcp_allowed_congestion_control")
    route, = lab.exec(host, "ip", "route", "show", "192.168.33.0/24").stdout.splitlines()
    lab.exec(host, "ip", "route", "change", *route.split(), "congctl", name)


@pytest.fixture(scope="module", params=FAR_MS)
def far_lab(request, data_plane, tmp_path_factory):
    """With that congestion control on the backends; far_ms is what is far there."""
    with crafted.running(tmp_path_factory.mktemp("far")) as lab:
        if request.param != "cubic":
            for number, host in enumerate(SERVERS, 1):
                set_congestion_control(lab, host, request.param)
                lab.daemon("restart", f"bridge{number}")
        lab.far_ms = FAR_MS[request.param]
        yield lab


def shortest_ms(lab, port):
    """The shortest round trip time to that port of the client, as the first web server's kernel saw it."""
    told = lab.exec("backend1", "ss", "-Htin", f"sport = :80 and dport = :{port}").stdout
    found = re.search(r"minrtt:([\d.]+)", told)
    return float(found.group(1)) if found else None


@pytest.mark.parametrize("delay_ms", [10, 100])
def test_round_trip_time(far_lab, delay_ms):
    path = crafted.path_of(far_lab, "backend1")
    before = far_lab.counters("bridge1").get("unmeasured", 0)
    with relayed(far_lab, "delay", delay_ms), crafted.connect(far_lab) as sock:
        assert crafted.ask(sock, path).status == 200
        port = sock.getsockname()[1]
        shortest = wait_until(lambda: shortest_ms(far_lab, port), what="a measured round trip")
    if 2 * delay_ms >= far_lab.far_ms:
        # The relay adds what the machine keeps it waiting, so how much more is no matter of the bridge.
        assert 2 * delay_ms <= shortest < 2 * delay_ms + 100
        assert far_lab.counters("bridge1")["unmeasured"] == before + 1
    else:
        assert shortest < 2 * delay_ms
        assert far_lab.counters("bridge1").get("unmeasured", 0) == before


@pytest.mark.parametrize("share, unmeasured", [(0, 0), (0.999, 0), (1, 1)])
def test_how_far_is_far(far_lab, share, unmeasured):
    """As the record says; a client whose way is not known is near."""
    with crafted.Offer(far_lab, rtt_us=int(share * far_lab.far_ms * 1000)) as offer:
        before = far_lab.counters("bridge1")
        offer.send()
        assert offer.told().type == crafted.ACCEPTED
        # The web server answers the second SYN as well.
        crafted.counted(far_lab, "bridge1", before, spliced=1, unmeasured=unmeasured,
                        drop_swallowed=1 + unmeasured)


@pytest.mark.quiet
def test_large_file(far_lab):
    """At the speed at which the web server itself sends it.

    On a busy machine round trips grow, CUBIC takes that for a full path (HyStart) and leaves slow start
    early, whoever is asked.
    """
    def seconds(host):
        begin = time.monotonic()
        far_lab.sha256(f"http://{host}/files/100M.bin")
        return time.monotonic() - begin

    with relayed(far_lab, "delay", 20):
        straight = min(seconds(server) for server in SERVERS.values())
        assert seconds(VIP) < 2 * straight + 1
