# SPDX-License-Identifier: GPL-2.0-or-later
"""Which backend gets a URL: the same one always and everywhere, and shares as the weights say."""

import re

import pytest

import crafted
from conftest import SERVERS, wait_until
from support import CLIENTS, backends_of

pytestmark = pytest.mark.once

PATHS = [f"/page/video/{number}/segment.ts" for number in range(400)]
FEW = PATHS[:40]

CACHES = re.compile(r'(\{ name = "cache1".*?\}),\s*(\{ name = "cache2".*?\})')


def served_by(served, backend):
    return {path for path, found in served.items() if found == backend}


def with_caches(text, change):
    """A configuration with other text for its two backends; change(cache1, cache2)."""
    assert len(CACHES.findall(text)) == 1
    return CACHES.sub(lambda found: change(*found.groups()), text)


def with_weights(first, second):
    return with_caches(crafted.template("balancer"), lambda *caches: ", ".join(
        crafted.replaced(cache, "; }", f"; weight = {weight}; }}")
        for cache, weight in zip(caches, (first, second))))


def test_every_client_reaches_the_same_backend(lab):
    served = backends_of(lab, FEW)
    assert set(served.values()) == set(SERVERS)
    for source in CLIENTS:
        assert backends_of(lab, FEW, source) == served


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_of_the_balancer(own_lab, end):
    own_lab.up()
    served = backends_of(own_lab, PATHS)
    own_lab.daemon(end, "balancer")
    own_lab.daemon("start", "balancer")
    assert backends_of(own_lab, PATHS) == served


def test_other_order_in_the_file(own_lab):
    own_lab.up()
    served = backends_of(own_lab, PATHS)
    text = own_lab.config("balancer")
    swapped = with_caches(text, lambda first, second: f"{second}, {first}")
    assert swapped.index('"cache2"') < swapped.index('"cache1"')
    (own_lab.state / "balancer.conf").write_text(swapped)
    own_lab.daemon("stop", "balancer")
    own_lab.daemon("start", "balancer")
    assert backends_of(own_lab, PATHS) == served


def test_other_addresses_in_the_file(own_lab):
    """The name decides: who has the other's name has the other's URLs."""
    own_lab.up()
    served = backends_of(own_lab, PATHS)
    text = own_lab.config("balancer")
    for old, new in (("cache1", "cache"), ("cache2", "cache1"), ('"cache"', '"cache2"')):
        text = crafted.replaced(text, old, new)
    (own_lab.state / "balancer.conf").write_text(text)
    own_lab.daemon("stop", "balancer")
    own_lab.daemon("start", "balancer")
    other = dict(zip(SERVERS, reversed(SERVERS)))
    assert backends_of(own_lab, PATHS) == {path: other[found] for path, found in served.items()}


def test_equal_weights_give_equal_shares(lab):
    """Five standard deviations of 400 draws are 50."""
    assert 150 < len(served_by(backends_of(lab, PATHS), "backend1")) < 250


def test_weights_move_shares_and_nothing_else(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path, balancer=with_weights(100, 100))
    before = served_by(backends_of(own_lab, PATHS), "backend1")
    (own_lab.state / "balancer.conf").write_text(own_lab.config("balancer", "weight = 100; }, ",
                                                                "weight = 300; }, "))
    own_lab.daemon("stop", "balancer")
    own_lab.daemon("start", "balancer")
    after = served_by(backends_of(own_lab, PATHS), "backend1")
    # Three quarters, and five standard deviations.
    assert 256 < len(after) < 344
    assert before < after


def test_the_query_is_no_part_of_the_key(lab):
    served = backends_of(lab, FEW)
    for query in ("?", "?token=1", "?token=2&x=/page/other", "?" + "q" * 3000):
        assert backends_of(lab, [path + query for path in FEW]) == {
            path + query: backend for path, backend in served.items()}


def test_method_and_headers_are_no_part_of_the_key(lab):
    served = backends_of(lab, FEW)
    for path, backend in served.items():
        with crafted.connect(lab) as sock:
            sock.sendall(crafted.request(path, "Range: bytes=0-3", "Host: other", method="HEAD")
                         .replace(b"Host: www\r\n", b""))
            answer = crafted.response(sock, method="HEAD")
            local = "{}:{}".format(*sock.getsockname())
        assert answer.status in (200, 206)
        wait_until(lambda: f'{local} "HEAD {path} ' in lab.web_log(backend))


def test_a_connection_stays_where_its_first_request_went(lab):
    served = backends_of(lab, FEW)
    with crafted.connect(lab) as sock:
        assert {crafted.ask(sock, path).backend for path in FEW} == {served[FEW[0]]}
