# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator says at run time: drain, activate, weight; what is seen of it and stays."""

import contextlib

import pytest

import crafted
from conftest import VIP, wait_until
from crafted import replaced
from test_control import both, ctl, rows
from test_health import (load, more_requests, news, served, start_downloads, up,
                         web_server_stopped)
from test_reload import taken

BRIDGES = [f"bridge{number}" for number in range(1, 5)]
NAMES = [f"cache{number}" for number in range(1, 5)]
ANSWERS = "the web server answers"


def pools(lab, *backends):
    """What show pools says, by backend."""
    found = {row["backend"]: row for row in rows(lab, "balancer", "show", "pools")}
    return [found[name] for name in backends] if backends else found


def spliced(lab):
    return [lab.counters(name).get("spliced", 0) for name in BRIDGES]


def shares(lab, count=1500):
    """Of the next requests, in percent: how many go to each bridge."""
    before = spliced(lab)

    def enough():
        now = [after - earlier for after, earlier in zip(spliced(lab), before)]
        return now if sum(now) >= count else None

    now = wait_until(enough, 20, "requests")
    return [100 * part / sum(now) for part in now]


@pytest.mark.plain
def test_under_load(own_lab, tmp_path):
    """No request fails, what a drained backend has goes on, nothing new comes to it."""
    up(own_lab, tmp_path)
    path = crafted.path_of(own_lab, "backend1")
    with load(own_lab, tmp_path) as result, crafted.connect(own_lab) as old:
        assert crafted.ask(old, path).backend == "backend1"
        told, = rows(own_lab, "balancer", "drain", "cache1")
        assert (told["backend"], told["state"], told["effective"], told["share"]) == \
            ("cache1", "drained", 0, 0)
        # What was offered a moment ago comes a moment later.
        more_requests(own_lab, "bridge2")
        before = own_lab.counters("bridge1")["opens"]
        more_requests(own_lab, "bridge2", 300)
        assert own_lab.counters("bridge1")["opens"] == before
        wait_until(lambda: pools(own_lab)["cache1"]["connections"] == 1, what="only the old one")
        assert crafted.ask(old, path).backend == "backend1"
        now, = pools(own_lab, "cache1")
        assert (now["state"], now["weight"], now["last"]) == ("drained", 100, ANSWERS)
        assert now["age"] < 2
        assert [row["share"] for row in pools(own_lab, *NAMES)] == [0, 33.3, 33.3, 33.3]

        ctl(own_lab, "balancer", "activate", "cache1")
        more_requests(own_lab)
        assert {row["state"] for row in pools(own_lab, *NAMES)} == {"up"}
        for weight, wanted in ((1, 100 / 301), (900, 75)):
            told, = rows(own_lab, "balancer", "weight", "cache2", weight)
            assert told["weight"] == told["effective"] == weight
            assert told["share"] == pytest.approx(wanted, abs=0.1)
            assert shares(own_lab)[1] == pytest.approx(wanted, abs=8)
        told, = rows(own_lab, "balancer", "weight", "cache2", "configured")
        assert (told["weight"], told["share"]) == (100, 25)
        assert shares(own_lab) == pytest.approx([25] * 4, abs=8)
        assert crafted.ask(old, path).backend == "backend1"
    print(f"{result.requests} requests")
    assert result.failed == 0
    counters = own_lab.counters("balancer")
    for key in ("no_backend", "open_refused", "open_silent", "last_resort"):
        assert not counters.get(key), counters
    for text in ("cache1 is drained", "cache1 is active", "cache2 has weight 900",
                 "cache2 has weight configured"):
        assert f"backend {text}: l3dsrctl says so" in own_lab.log("balancer")


def known(lab):
    """What is known of each backend, of the things that only an event changes."""
    return {name: tuple(row[key] for key in ("state", "weight", "effective", "share", "why"))
            for name, row in pools(lab).items()}


MORE = '''pools = (
	{ name = "more"; backends = ( { name = "cache2"; address = "192.168.33.21"; },
		{ name = "cache9"; address = "192.168.33.22"; weight = 300; } ); },'''


def test_a_reload_keeps_it(own_lab, tmp_path):
    """A backend that is down, one that is drained, and a weight; in a pool that is new as well."""
    up(own_lab, tmp_path)
    text = own_lab.config("balancer")
    more = replaced(replaced(text, "pools = (", MORE), 'pool = "caches";',
                    'pool = "caches"; routes = ( { path = "/page/more"; pool = "more"; } );')
    path = crafted.path_of(own_lab, "backend2")
    with web_server_stopped(own_lab), crafted.connect(own_lab) as old:
        wait_until(lambda: news(own_lab), what="the news")
        assert crafted.ask(old, path).backend == "backend2"
        ctl(own_lab, "balancer", "drain", "cache2")
        ctl(own_lab, "balancer", "weight", "cache3", 50)
        before = known(own_lab)
        assert before == {
            "cache1": ("down", 100, 0, 0, "the web server refuses connections"),
            "cache2": ("drained", 100, 0, 0, ANSWERS),
            "cache3": ("up", 50, 50, 33.3, ANSWERS), "cache4": ("up", 100, 100, 66.7, ANSWERS)}
        opens = own_lab.counters("bridge2")["opens"]
        refused = own_lab.counters("balancer").get("open_refused", 0)
        for _ in range(3):
            taken(own_lab, "balancer", text)
            assert known(own_lab) == before
        taken(own_lab, "balancer", more)
        wait_until(lambda: pools(own_lab)["cache9"]["state"] == "up", what="news of the new one")
        found = [row for row in both(own_lab, "balancer", "show", "pools") if row["pool"] == "more"]
        assert [(row["backend"], row["state"], row["share"]) for row in found] == \
            [("cache2", "drained", 0), ("cache9", "up", 100)]
        assert set(served(own_lab).values()) == {"backend3", "backend4"}
        assert set(served(own_lab, [f"/page/more{number}" for number in range(20)]).values()) == \
            {"backend3"}
        # One that is down is the last to be tried, one that is drained is not tried.
        found = rows(own_lab, "balancer", "lookup", f"http://{VIP}{path}")
        assert {row["backend"] for row in found[:2]} == {"cache3", "cache4"}
        assert [row["backend"] for row in found[2:]] == ["cache1"]
        assert own_lab.counters("bridge2")["opens"] == opens
        assert own_lab.counters("balancer").get("open_refused", 0) == refused
        assert crafted.ask(old, path).backend == "backend2"
    taken(own_lab, "balancer", text)
    wait_until(lambda: known(own_lab)["cache1"][0] == "up", what="the return")
    assert [state for state, _ in news(own_lab)] == ["down", "up"]
    ctl(own_lab, "balancer", "activate", "cache2")
    assert set(served(own_lab).values()) == {f"backend{number}" for number in range(1, 5)}
    # With its name it is forgotten.
    ctl(own_lab, "balancer", "drain", "cache3")
    taken(own_lab, "balancer", text.replace('"cache3"', '"other"'))
    assert pools(own_lab)["other"]["weight"] == 100
    taken(own_lab, "balancer", text)
    assert pools(own_lab)["cache3"]["weight"] == 100
    assert pools(own_lab)["cache3"]["state"] != "drained"


@pytest.mark.once
def test_what_is_said_wins(own_lab, tmp_path):
    """Over the configuration that is in force, and over the next."""
    up(own_lab, tmp_path, backends=2, change=lambda text: replaced(
        text, '"192.168.33.20"; }', '"192.168.33.20"; state = "drain"; }'))
    assert pools(own_lab)["cache1"]["state"] == "drained"
    ctl(own_lab, "balancer", "activate", "cache1")
    taken(own_lab, "balancer")
    assert pools(own_lab)["cache1"]["state"] in ("new", "up")
    assert set(served(own_lab).values()) == {"backend1", "backend2"}
    # A daemon that begins anew knows its configuration.
    own_lab.daemon("stop", "balancer")
    own_lab.daemon("start", "balancer")
    assert pools(own_lab)["cache1"]["state"] == "drained"


@pytest.mark.once
def test_what_is_refused(own_lab, tmp_path):
    up(own_lab, tmp_path, backends=2, change=lambda text: replaced(text, "pools = (", MORE))
    before = known(own_lab)

    def says(text, *words, name="balancer", status=1):
        assert text in ctl(own_lab, name, *words, status=status), words

    for command in (["drain"], ["activate"], ["weight", 7]):
        says('no pool has a backend "cache3"', command[0], "cache3", *command[1:])
        says("does not know the command", command[0], "cache1", *command[1:], name="bridge1")
        says("expected", command[0], "cache1", *command[1:], "x")
        says("the name of a backend is expected", command[0], status=2)
    says('no pool has a backend ""', "drain", "")
    says('\\x0a', "drain", "cache1\n")
    says("expected", "weight", "cache1")
    for weight in ("0", "1001", "ten", "", "1.5", "99999999999999999999", "+5"):
        says("is neither 1 to 1000", "weight", "cache1", weight)
    assert known(own_lab) == before
    # A pool that no service has is there, and its backends can be spoken of.
    unused = {row["backend"]: row for row in rows(own_lab, "balancer", "show", "pools")
              if row["pool"] == "more"}["cache9"]
    assert (unused["service"], unused["state"], unused["age"]) == ("", "unused", None)
    assert [row["state"] for row in rows(own_lab, "balancer", "drain", "cache9")] == ["unused"]


def test_connections(own_lab, tmp_path):
    """Those of a drained backend are counted until the last of them has ended."""
    up(own_lab, tmp_path, backends=2)
    with contextlib.ExitStack() as stack:
        found = start_downloads(own_lab, stack, 5)
        owner, = {f"cache{name[-1]}" for name in found}
        ctl(own_lab, "balancer", "drain", owner)
        asked = own_lab.counters("balancer")["status_received"]
        wait_until(lambda: own_lab.counters("balancer")["status_received"] >= asked + 6,
                   what="new numbers")
        assert pools(own_lab)[owner]["connections"] == 5
        assert set(start_downloads(own_lab, stack, 3)) == {f"backend{3 - int(owner[-1])}"}
    wait_until(lambda: [row["connections"] for row in pools(own_lab).values()] == [0, 0], 10,
               what="no connections")
