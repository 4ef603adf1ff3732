# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pool gets a request, and by which key its backend is chosen."""

import re

import pytest

import crafted
from conftest import SERVERS

pytestmark = pytest.mark.once

POOLS = """
	{ name = "first"; backends = ( { name = "cache1"; address = "192.168.33.20"; } ); },
	{ name = "second"; backends = ( { name = "cache2"; address = "192.168.33.21"; } ); },
"""
ROUTES = """
	routes = (
		{ host = "one.example"; path = "/live/"; pool = "first"; },
		{ host = "one.example"; pool = "second"; },
		{ host = "*.example"; pool = "first"; },
		{ path = "/caf%C3%A9/"; pool = "second"; },
		{ path = "/page/"; pool = "first"; }
	);
"""


def balancer(service):
    """The lab's configuration with two more pools, and with something else for its service's pool."""
    text = crafted.replaced(crafted.template("balancer"), "pools = (", f"pools = ({POOLS}")
    return crafted.replaced(text, 'pool = "caches";', service)


def get(lab, target, host="www"):
    """The backend that answered, or None after a reset."""
    line = f"Host: {host}\r\n" if host is not None else ""
    with crafted.connect(lab) as sock:
        sock.sendall(f"GET {target} HTTP/1.{1 if line else 0}\r\n{line}\r\n".encode("latin-1"))
        try:
            # Not all of these are there, but each answer says whose it is.
            data = sock.recv(4096)
        except ConnectionResetError:
            return None
    return re.search(rb"X-Backend: (\S+)", data).group(1).decode()


def test_routes(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path, balancer=balancer(ROUTES))
    first, second = SERVERS
    for target, host, backend in [
            ("/live/1", "one.example", first),
            ("/live", "one.example", second),
            ("/vod/../live/1", "ONE.Example.:80", first),
            ("/%6Cive/1", "one.example", first),
            ("/live%2F1", "one.example", second),
            ("http://one.example/live/1", "www", first),
            ("http://one.example", "www", second),
            ("/x", "a.example", first),
            ("/x", "a.b.example:8080", first),
            ("/caf%c3%a9/1", "www", second),
            ("/caf\xc3\xa9/1", "www", second),
            ("/page/1", "example", first),
            ("/page/1", None, first),
            # Nobody wants these, and there is no other pool.
            ("/x", "example", None),
            ("/x", "one.example.com", None),
            ("/x", None, None)]:
        assert get(own_lab, target, host) == backend, (target, host)
    counters = own_lab.counters("balancer")
    assert counters["no_route"] == 3
    assert counters["requests"] == counters["accepted"] == 13
    # Nor is there one for what is no request.
    with crafted.connect(own_lab) as sock:
        sock.sendall(b"\x16\x03\x01 and so on")
        assert crafted.how_it_ends(sock) == ("reset", b"")
    crafted.counted(own_lab, "balancer", counters, fallback_reset=1, requests_not_recognised=1)


def test_a_pool_for_the_rest(own_lab, tmp_path):
    crafted.up(own_lab, tmp_path, balancer=balancer(
        'routes = ( { path = "/live/"; pool = "first"; } ); pool = "second";'))
    first, second = SERVERS
    assert get(own_lab, "/live/1") == first
    assert get(own_lab, "/vod/1") == second
    with crafted.connect(own_lab) as sock:
        sock.sendall(b"no request\r\n")
        assert b"X-Backend: " + second.encode() in sock.recv(4096)


def test_four_backends(own_lab, tmp_path):
    """Pools that share backends; each stays within its own, and uses all of them."""
    def pool(name, *numbers):
        return f'{{ name = "{name}"; backends = (' + ", ".join(
            f'{{ name = "cache{number}"; address = "192.168.33.{19 + number}"; }}'
            for number in numbers) + "); }"

    def seen(target, host, count=60):
        return {get(own_lab, target.format(number), host) for number in range(count)}

    text = crafted.replaced(crafted.template("balancer"), "pools = (",
                            f"pools = ({pool('live', 1, 2, 3)}, {pool('vod', 3, 4)}, ")
    text = crafted.replaced(text, 'pool = "caches";', """
        routes = (
            { path = "/live/"; depth = 2; pool = "live"; },
            { host = "vod.example"; key = "host+path"; pool = "vod"; }
        );
        pool = "caches"; """)
    crafted.up(own_lab, tmp_path, "--backends", 4, balancer=text)
    assert seen("/live/{}/1.ts", "www") == {"backend1", "backend2", "backend3"}
    assert seen("/{}", "vod.example") == {"backend3", "backend4"}
    assert seen("/page/{}", "www") == {"backend1", "backend2"}
    # All of a stream together, and together with others where a host has said so.
    assert len(seen("/live/news/{}.ts", "vod.example")) == 1
    # A pool goes on with what it has left, and with nothing of another. Each try of a dead one takes 0.3 s.
    own_lab.daemon("kill", "bridge4")
    assert seen("/{}", "vod.example", 12) == {"backend3"}
    own_lab.daemon("kill", "bridge3")
    assert seen("/{}", "vod.example", 4) == {None}
    assert seen("/live/{}/1.ts", "www", 20) == {"backend1", "backend2"}


def backends(lab, targets, host="www"):
    """The backends that answer, one for each target."""
    return [get(lab, target, host) for target in targets]


KEYS = {
    # What is one key, and what differs
    'key = "path";': ((("/a/1", "x"), ("/a/1?q=1", "y"), ("/a/./1", "z"), ("/%61/1", "www")), "/a/{}", "www"),
    'key = "path"; depth = 1;': ((("/a/1", "x"), ("/a/2", "x"), ("/a", "y"), ("/a/?q", "x")),
                                 "/{}/1", "www"),
    'key = "host+path";': ((("/a", "x.example"), ("/a?q", "X.example.:80")), "/{}", "www"),
    'key = "uri";': ((("/a?q=%7e", "x"), ("/a?q=~", "y")), "/a?q={}", "www"),
    'key = "uri"; arguments = "v id";': ((("/a?v=1&id=2&utm=3", "x"), ("/a?id=2&v=1", "y")),
                                         "/a?v={}", "www"),
    'key = "host";': ((("/a", "x.example"), ("/b?c", "X.EXAMPLE:80")), "/", "{}.example"),
}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: re.sub(r"\W+", "-", key).strip("-"))
def test_keys(own_lab, tmp_path, key):
    crafted.up(own_lab, tmp_path, balancer=balancer(f'{key} pool = "caches";'))
    same, target, host = KEYS[key]
    assert len({get(own_lab, *one) for one in same}) == 1
    # Chance gives all 40 to one backend once in 5 * 10^11.
    assert {get(own_lab, target.format(number), host.format(number)) for number in range(40)} == \
        set(SERVERS)


def test_source(own_lab, tmp_path):
    """All of a client's connections go to one backend, whatever they want; clients are spread."""
    crafted.up(own_lab, tmp_path, balancer=balancer('key = "source"; pool = "caches";'))
    seen = [{crafted.fetch(own_lab, f"/page/{page}", source=(f"192.168.33.{client}", 0)).backend
             for page in range(4)} for client in range(101, 116)]
    assert all(len(backends_of_one) == 1 for backends_of_one in seen)
    assert set.union(*seen) == set(SERVERS)


def test_a_host_that_is_not_said(own_lab, tmp_path):
    """It is no key, so the fallback has to help."""
    crafted.up(own_lab, tmp_path, balancer=balancer('key = "host"; pool = "caches";'))
    before = own_lab.counters("balancer")
    assert get(own_lab, "/page/1", None) in SERVERS
    crafted.counted(own_lab, "balancer", before, requests_nameless=1, fallback_source=1)


def test_a_host_that_a_route_needs(own_lab, tmp_path):
    """The fallback stays in the pool of the route."""
    crafted.up(own_lab, tmp_path, balancer=balancer(
        'routes = ( { path = "/page/"; key = "host"; pool = "second"; } );'))
    before = own_lab.counters("balancer")
    for page in range(5):
        assert get(own_lab, f"/page/{page}", None) == list(SERVERS)[1]
    crafted.counted(own_lab, "balancer", before, requests_nameless=5, fallback_source=5, no_route=0)
