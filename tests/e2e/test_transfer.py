# SPDX-License-Identifier: GPL-2.0-or-later
"""Large files, both ways, with and without loss and offloads; and which way their bytes take."""

import concurrent.futures
import contextlib
import os

import pytest

from conftest import FILES, SERVERS, IfaceBytes, sha256_of, wait_until
from support import lost, packets_sent, sha256_of_file

# Segments of 1448 bytes: with timestamps, in packets of 1500.
SEGMENTS = {"500M.bin": 345304, "100M.bin": 69061}
LARGE = "500M.bin"

offloads = pytest.mark.parametrize("offload", ["on", "off"])
losses = pytest.mark.parametrize("percent", [0, 2], ids=["all", "lossy"])


def up(lab, offload, percent):
    lab.up("--offload", offload)
    if percent:
        lab.impair("loss", percent)


def assert_lost(dropped, percent, least):
    """That part of at least so many packets; a tenth less is many standard deviations away."""
    assert dropped >= 0.9 * percent / 100 * least


def count_answers(lab):
    """From now on, count the packets of web servers that come to the balancer."""
    lab.exec("balancer", "nft", "-f", "-", input="""
        table inet witness {
            counter answers {
            }
            chain prerouting {
                type filter hook prerouting priority -400
                tcp sport 80 counter name answers
            }
        }""")


def answers_counted(lab):
    text = lab.exec("balancer", "nft", "list", "counter", "inet", "witness", "answers").stdout
    return int(text.split("packets")[1].split()[0])


@contextlib.contextmanager
def none_passes_the_balancer(lab):
    """Not one byte of an answer passes the balancer meanwhile.

    It receives what the client sends and little else, and sends no more than that.
    """
    count_answers(lab)
    hosts = ("client", "balancer")
    before = [lab.iface_bytes(host) for host in hosts]
    yield
    client, balancer = (IfaceBytes(now.received - then.received, now.sent - then.sent)
                        for now, then in zip(map(lab.iface_bytes, hosts), before))
    # ARP, and the bridge's ACCEPTED.
    assert balancer.received < client.sent + 1000
    # ARP, the SYN-ACK, OPEN.
    assert balancer.sent < balancer.received + 1000
    assert client.received > 1000000
    assert answers_counted(lab) == 0


def assert_translated(lab, counter, file, offload):
    """Where the daemons translate, a packet is a segment without offloads, and many with them."""
    if os.environ["L3DSR_DATA_PLANE"] != "userspace":
        return
    packets = sum(lab.counters(name).get(counter, 0) for name in ("bridge1", "bridge2"))
    if offload == "off":
        assert packets >= SEGMENTS[file]
    else:
        assert packets < SEGMENTS[file] / 5


@pytest.mark.plain
@offloads
def test_download(own_lab, offload):
    up(own_lab, offload, 0)
    with none_passes_the_balancer(own_lab):
        assert own_lab.sha256(f"/files/{LARGE}") == sha256_of(LARGE)
    assert_translated(own_lab, "to_client", LARGE, offload)


@pytest.mark.plain
def test_answers_of_many_connections_pass_the_balancer_by(own_lab):
    """Whole connections, with all that belongs to their beginning and end, of 1 MB each."""
    own_lab.up()
    paths = ["/files" + "/" * number + "1M.bin" for number in range(1, 9)]
    own_lab.curl("/page/warm-up")
    count_answers(own_lab)
    for path in paths:
        assert own_lab.sha256(path) == sha256_of("1M.bin")
    assert answers_counted(own_lab) == 0


@pytest.mark.plain
@offloads
def test_download_with_loss(own_lab, offload):
    file = LARGE if offload == "on" else "100M.bin"
    up(own_lab, offload, 2)
    before = packets_sent(own_lab, "client")
    assert own_lab.sha256(f"/files/{file}") == sha256_of(file)
    dropped = lost(own_lab)
    assert_lost(dropped["to_client"], 2, SEGMENTS[file])
    acknowledgements = packets_sent(own_lab, "client") - before
    assert acknowledgements > 1000
    assert dropped["from_client"] > 0.5 * 2 / 100 * acknowledgements


@pytest.mark.both
@losses
@offloads
def test_upload(own_lab, offload, percent):
    up(own_lab, offload, percent)
    path = "/upload/large.bin"
    assert own_lab.curl(path, "-T", FILES / "100M.bin").status == 201
    stored, = own_lab.state.glob("backend*/upload/large.bin")
    assert sha256_of_file(stored) == sha256_of("100M.bin")
    if percent:
        dropped = lost(own_lab)
        assert_lost(dropped["from_client"], percent, SEGMENTS["100M.bin"])
        assert dropped["to_client"] > 0
    else:
        assert_translated(own_lab, "to_server", "100M.bin", offload)


@pytest.mark.both
def test_downloads_in_parallel(own_lab):
    """Eight URLs of one file: the balancer takes a URL as it is, nginx merges the slashes."""
    own_lab.up()
    paths = ["/files" + "/" * number + "100M.bin" for number in range(1, 9)]
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        assert list(pool.map(own_lab.sha256, paths)) == [sha256_of("100M.bin")] * len(paths)
    for backend in SERVERS:
        wait_until(lambda: "100M.bin HTTP/1.1\" 200" in own_lab.web_log(backend))


@pytest.mark.plain
def test_the_counter_of_answers_counts(own_lab):
    """The tests above could not fail otherwise."""
    own_lab.up()
    count_answers(own_lab)
    own_lab.exec("balancer", "curl", "-sS", "--fail", "http://192.168.33.30/whoami")
    assert answers_counted(own_lab) > 0
