# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemons as programs: how they start, what stops them, and what they keep in the kernel."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

import crafted
from conftest import TOP, VIP, wait_until
from support import paused

pytestmark = pytest.mark.once

HOST_OF = {"balancer": "balancer", "bridge1": "backend1", "bridge2": "backend2"}
TABLE_OF = {"balancer": "l3dsr_balancer", "bridge1": "l3dsr_bridge", "bridge2": "l3dsr_bridge"}
SETS_OF = {"balancer": ("services4", "backends4", "answers4"),
           "bridge1": ("bridges4", "vips4", "servers4")}
BOTH = ("balancer", "bridge1")
BUILD = pathlib.Path(os.environ.get("L3DSR_BUILD", TOP)).resolve()


def ruleset(name):
    return TOP / "nft" / ("balancer.nft" if name == "balancer" else "bridge.nft")


def load(lab, name):
    lab.exec(HOST_OF[name], BUILD / "lab/load-ruleset", ruleset(name))


def command(lab, name, config=None):
    program = "l3dsr-balancer" if name == "balancer" else "l3dsr-bridge"
    return [TOP / "lab/exec", HOST_OF[name], BUILD / program, "-c",
            config or lab.state / f"{name}.conf"]


def fails_to_start(lab, name, config=None):
    """Run a daemon that must not get far; returns what it says, one line at least."""
    done = subprocess.run(command(lab, name, config), env=lab.environ, capture_output=True,
                          text=True, timeout=10)
    assert done.returncode == 1
    assert "Sanitizer" not in done.stderr
    return done.stderr


def elements(lab, name, set_name):
    """What a set or map of the daemon's table holds."""
    kind = "map" if set_name == "vips4" else "set"
    text = lab.exec(HOST_OF[name], "nft", "-j", "list", kind, "inet", TABLE_OF[name],
                    set_name).stdout
    listed, = [item[kind] for item in json.loads(text)["nftables"] if kind in item]
    return listed.get("elem", [])


def all_elements(lab, name):
    return {set_name: elements(lab, name, set_name) for set_name in SETS_OF[name]}


class Manager:
    """What a service manager is to a daemon: it starts it, and hears what it has to say."""

    def __init__(self, lab, name, directory, **environ):
        self.lab, self.name = lab, name
        path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.told = []
        self.log = open(directory / "log", "w+")
        environ = dict(lab.environ, NOTIFY_SOCKET=str(path), **environ)
        self.process = subprocess.Popen(command(lab, name), env=environ, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.socket.close()
        self.log.close()

    def messages(self):
        """All that it has said so far."""
        while True:
            try:
                self.told += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.told

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=15) == 0
        self.log.seek(0)
        assert "Sanitizer" not in self.log.read()


@pytest.fixture(scope="module")
def spare(data_plane, tmp_path_factory):
    """The lab behind the fixture spare_lab."""
    with crafted.running(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def spare_lab(spare):
    """A lab whose daemons and tables are there again when the next test begins."""
    yield spare
    for name in HOST_OF:
        if not spare.pid(name):
            load(spare, name)
            spare.daemon("start", name)


@pytest.mark.parametrize("name", BOTH)
def test_ready_means_serving(spare_lab, tmp_path, name):
    spare_lab.daemon("stop", name)
    for set_name in SETS_OF[name]:
        spare_lab.exec(HOST_OF[name], "nft", "flush", "map" if set_name == "vips4" else "set",
                       "inet", TABLE_OF[name], set_name)
    with Manager(spare_lab, name, tmp_path) as manager:
        wait_until(lambda: "READY=1" in manager.messages(), what="READY=1")
        assert all(all_elements(spare_lab, name).values())
        queues = spare_lab.exec(HOST_OF[name], "cat", "/proc/net/netfilter/nfnetlink_queue").stdout
        assert [line.split()[0] for line in queues.splitlines()] == ["0", "1", "2", "3"]
        backends = {crafted.fetch(spare_lab, f"/page/{number}").backend for number in range(20)}
        assert backends == {"backend1", "backend2"}
        wait_until(lambda: any(line.startswith("STATUS=") for line in manager.messages()))
        manager.stop()
        assert "WATCHDOG=1" not in manager.messages()


@pytest.mark.parametrize("name", BOTH)
def test_what_a_service_manager_hears(spare_lab, tmp_path, name):
    path = crafted.path_of(spare_lab, "backend1")
    spare_lab.daemon("stop", name)
    with Manager(spare_lab, name, tmp_path, WATCHDOG_USEC="150000") as manager:
        wait_until(lambda: manager.messages().count("WATCHDOG=1") >= 5, timeout=1.5,
                   what="a ping of the watchdog each 50 ms")
        assert manager.told.count("READY=1") == 1
        assert any(re.match(r"STATUS=0 flows\b", line) for line in manager.told)
        with crafted.connect(spare_lab) as sock:
            assert crafted.ask(sock, path).backend == "backend1"
            wait_until(lambda: any(re.match(r"STATUS=1 flows\b", line)
                                   for line in manager.messages()), what="a status that counts")
        assert "STOPPING=1" not in manager.messages()
        manager.stop()
        assert "STOPPING=1" in manager.messages()


@pytest.mark.parametrize("name", BOTH)
def test_without_its_table(spare_lab, name):
    spare_lab.daemon("stop", name)
    spare_lab.exec(HOST_OF[name], "nft", "delete", "table", "inet", TABLE_OF[name])
    told = fails_to_start(spare_lab, name)
    assert f"table inet {TABLE_OF[name]} is missing" in told
    assert re.search(rf"nft -f \S*/{ruleset(name).name}\b", told)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("sets", ["", "set {} {{ type mark; elements = {{ 5 }}; }}"],
                         ids=["without_sets", "other_type"])
def test_a_foreign_table_of_that_name(spare_lab, sets, name):
    """It is not the daemon's, and stays as it is."""
    table = ("table", "inet", TABLE_OF[name])
    foreign = " ".join(table) + " { " + sets.format(SETS_OF[name][0]) + """
        chain own { type filter hook input priority 5; meta mark 7 accept; }
    }"""
    spare_lab.daemon("stop", name)
    spare_lab.exec(HOST_OF[name], "nft", "delete", *table)
    try:
        spare_lab.exec(HOST_OF[name], "nft", "-f", "-", input=foreign)
        before = spare_lab.exec(HOST_OF[name], "nft", "list", *table).stdout
        assert "meta mark" in before
        told = fails_to_start(spare_lab, name)
        assert f"table inet {TABLE_OF[name]} is missing or of another version" in told
        assert spare_lab.exec(HOST_OF[name], "nft", "list", *table).stdout == before
    finally:
        spare_lab.exec(HOST_OF[name], "nft", "delete", *table)


@pytest.mark.parametrize("name", BOTH)
def test_rules_of_another_version(spare_lab, name):
    """All else of it may be the same."""
    spare_lab.daemon("stop", name)
    spare_lab.exec(HOST_OF[name], "nft", "delete", "chain", "inet", TABLE_OF[name], "version1")
    told = fails_to_start(spare_lab, name)
    assert f"table inet {TABLE_OF[name]} is missing or of another version" in told


@pytest.mark.parametrize("name", BOTH)
def test_queues_of_another_process(lab, name):
    told = fails_to_start(lab, name)
    assert "cannot bind queue 0" in told
    assert crafted.fetch(lab, "/page/1").status == 200


def test_answer_port_of_another_process(spare_lab):
    spare_lab.daemon("stop", "balancer")
    with crafted.inside(spare_lab, "balancer"):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with other:
        other.bind((VIP, crafted.ANSWER_PORT))
        told = fails_to_start(spare_lab, "balancer")
    assert f"{VIP}:{crafted.ANSWER_PORT}" in told
    assert "answer_port" in told
    assert "Address already in use" in told


def test_service_port_of_another_process(spare_lab):
    spare_lab.daemon("stop", "balancer")
    with crafted.inside(spare_lab, "balancer"):
        other = socket.socket()
    with other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((VIP, 80))
        other.listen()
        told = fails_to_start(spare_lab, "balancer")
    assert f"cannot listen on {VIP}:80" in told
    assert "Address already in use" in told


def test_the_vip_may_come_later(own_lab, tmp_path):
    """As on a standby, or when the daemon starts before the network is complete."""
    later = "192.168.33.12"
    texts = {name: crafted.template(name) for name in HOST_OF}
    texts["balancer"] = texts["balancer"].replace(f'\t\taddress = "{VIP}"',
                                                  f'\t\taddress = "{later}"')
    for name in ("bridge1", "bridge2"):
        texts[name] = texts[name].replace(VIP, later)
    assert all(later in text for text in texts.values())
    crafted.up(own_lab, tmp_path, **texts)
    own_lab.exec("balancer", "ip", "address", "add", f"{later}/24", "dev", "eth0")
    assert crafted.fetch(own_lab, "/page/1", vip=later).status == 200


def test_the_answer_address_may_come_later(own_lab, tmp_path):
    later = "192.168.33.13"
    text = crafted.template("balancer").replace(f'answer_address = "{VIP}"',
                                                f'answer_address = "{later}"')
    crafted.up(own_lab, tmp_path, balancer=text)
    assert f"warning: {later}, answer_address, is no address of this host yet" \
        in own_lab.log("balancer")
    own_lab.exec("balancer", "ip", "address", "add", f"{later}/24", "dev", "eth0")
    assert crafted.fetch(own_lab, "/page/1").status == 200


def test_the_bridge_address_may_come_later(own_lab):
    own_lab.up()
    path = crafted.path_of(own_lab, "backend1")
    own_lab.daemon("stop", "bridge1")
    # With it goes that of the web server, its secondary.
    own_lab.exec("backend1", "ip", "address", "del", "192.168.33.20/24", "dev", "eth0")
    own_lab.daemon("start", "bridge1")
    assert "192.168.33.20, address, is no address of this host yet" in own_lab.log("bridge1")
    assert crafted.fetch(own_lab, path).backend == "backend2"
    for address in "192.168.33.20/24", "192.168.33.30/24":
        own_lab.exec("backend1", "ip", "address", "add", address, "dev", "eth0")
    wait_until(lambda: crafted.fetch(own_lab, path).backend == "backend1", what="the first backend")


KEY = "1 " + "ab" * 32 + "\n"

KEY_FILES = {
    "missing": (None, 0, "No such file or directory"),
    "world_readable": (KEY, 0o644, "mode 0644"),
    "world_writable": (KEY, 0o602, "mode 0602"),
    "empty": ("", 0o600, "holds no key"),
    "comment": ("# 1 " + KEY, 0o600, "holds no key"),
    "short": (KEY[:-2] + "\n", 0o600, ":1: "),
    "long": (KEY[:-1] + "ab\n", 0o600, ":1: "),
    "no_hex": ("# first\n" + KEY.replace("a", "g"), 0o600, ":2: "),
    "no_id": (KEY[2:], 0o600, ":1: "),
    "id_0": ("0" + KEY[1:], 0o600, ":1: "),
    "id_too_large": ("65536" + KEY[1:], 0o600, ":1: "),
    "twice": (KEY + KEY, 0o600, ":2: "),
    "binary": ("\x00\x01\x02" * 100, 0o600, ":1: "),
}


@pytest.mark.parametrize("wrong", KEY_FILES)
def test_wrong_key_files(lab, tmp_path, wrong):
    """It is named with its line, and no key is ever written into a log."""
    text, mode, complaint = KEY_FILES[wrong]
    path = tmp_path / "some.key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    for name in BOTH:
        config = tmp_path / f"{name}.conf"
        config.write_text(lab.config(name, str(lab.state / "handoff.key"), str(path)))
        told = fails_to_start(lab, name, config)
        assert str(path) in told
        assert complaint in told
        assert "abab" not in told and "gbgb" not in told


@pytest.mark.parametrize("name", BOTH)
def test_a_table_that_is_deleted_and_loaded_again(own_lab, name):
    own_lab.up()
    before = all_elements(own_lab, name)
    assert all(before.values())
    own_lab.exec(HOST_OF[name], "nft", "delete", "table", "inet", TABLE_OF[name])
    wait_until(lambda: "was deleted" in own_lab.log(name))
    assert own_lab.counters(name)["table_deleted"] == 1
    load(own_lab, name)
    wait_until(lambda: "its sets are filled again" in own_lab.log(name))
    wait_until(lambda: all_elements(own_lab, name) == before, what="the sets as they were")
    backends = {crafted.fetch(own_lab, f"/page/{number}").backend for number in range(20)}
    assert backends == {"backend1", "backend2"}


NFTABLES_GROUP = 7
PIDFD_GETFD = 438


def event_socket(pid):
    """Of a daemon: the socket on which it hears of tables, and how many messages it has lost."""
    lines = [line.split() for line in
             pathlib.Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
    for number in os.listdir(f"/proc/{pid}/fd"):
        link = os.readlink(f"/proc/{pid}/fd/{number}")
        for line in lines:
            if link == f"socket:[{line[9]}]" and int(line[3], 16) & 1 << NFTABLES_GROUP - 1:
                return int(number), int(line[8])
    raise AssertionError("no socket of that group")


def shrink(pid, number):
    """The receive buffer of a process's socket becomes as small as it can be."""
    pidfd = os.pidfd_open(pid)
    fd = crafted.LIBC.syscall(PIDFD_GETFD, pidfd, number, 0)
    os.close(pidfd)
    assert fd >= 0
    with socket.socket(fileno=fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


@pytest.mark.parametrize("name", BOTH)
def test_news_of_tables_that_are_lost(own_lab, name):
    """While the daemon stands still: something was missed, so it fills the sets again."""
    own_lab.up()
    before = all_elements(own_lab, name)
    pid = own_lab.pid(name)
    number, drops = event_socket(pid)
    assert drops == 0
    shrink(pid, number)
    with paused(pid):
        # Of other tables, until there is no room: what is about its own is lost.
        for other in range(200):
            own_lab.exec(HOST_OF[name], "nft", "add", "table", "inet", f"other{other}")
            if event_socket(pid)[1]:
                break
        lost = event_socket(pid)[1]
        assert lost
        own_lab.exec(HOST_OF[name], "nft", "flush", "set", "inet", TABLE_OF[name], SETS_OF[name][0])
        load(own_lab, name)
        assert event_socket(pid)[1] > lost
        assert all_elements(own_lab, name) != before
    wait_until(lambda: "its sets are filled again" in own_lab.log(name))
    wait_until(lambda: all_elements(own_lab, name) == before, what="the sets as they were")
    assert crafted.fetch(own_lab, "/page/1").status == 200


@pytest.mark.parametrize("name", BOTH)
def test_a_ruleset_that_is_loaded_twice(own_lab, name):
    """While connections go on and begin: what the sets hold stays."""
    own_lab.up()
    before = all_elements(own_lab, name)
    path = crafted.path_of(own_lab, "backend1")
    with crafted.connect(own_lab) as sock:
        assert crafted.ask(sock, path).status == 200
        for _ in range(3):
            load(own_lab, name)
            assert all_elements(own_lab, name) == before
            assert crafted.ask(sock, path).status == 200
            assert crafted.fetch(own_lab, path).backend == "backend1"


@pytest.mark.parametrize("name", BOTH)
def test_a_set_that_was_changed_by_hand(spare_lab, name):
    """A restart makes it hold what the configuration says, and nothing else."""
    before = all_elements(spare_lab, name)
    changes = {"balancer": ["add element inet l3dsr_balancer backends4 { 192.168.33.1 }",
                            "flush set inet l3dsr_balancer services4"],
               "bridge1": ["add element inet l3dsr_bridge vips4 { 5 : 192.168.33.1 }",
                           "flush set inet l3dsr_bridge servers4"]}
    spare_lab.exec(HOST_OF[name], "nft", "-f", "-", input="\n".join(changes[name]) + "\n")
    assert all_elements(spare_lab, name) != before
    spare_lab.daemon("stop", name)
    spare_lab.daemon("start", name)
    assert all_elements(spare_lab, name) == before


ADMIN = """
	set friends {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2 }
	}
	counter seen {
	}
	chain input {
		type filter hook input priority 100
		ip saddr @friends counter name seen
	}"""


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("family", ["ip", "inet"])
def test_tables_of_the_administrator_are_left_alone(spare_lab, name, family):
    """Also one of the same name in another family."""
    table = f"{family} {TABLE_OF[name] if family == 'ip' else 'admin'}"
    host = HOST_OF[name]

    def listed():
        return spare_lab.exec(host, "nft", "list", "table", *table.split()).stdout

    with crafted.nft(spare_lab, host, ADMIN, table):
        before = listed()
        assert "192.0.2.2" in before
        load(spare_lab, name)
        spare_lab.daemon("stop", name)
        spare_lab.daemon("start", name)
        told = spare_lab.log(name).count("are filled again")
        spare_lab.exec(host, "nft", "delete", "table", "inet", TABLE_OF[name])
        load(spare_lab, name)
        wait_until(lambda: spare_lab.log(name).count("are filled again") > told)
        assert listed() == before


@pytest.mark.parametrize("name", BOTH)
def test_the_ruleset_as_it_is_shipped(lab, name):
    """Checked by nft, which some kernels refuse the queue statements, and only these."""
    lines = ruleset(name).read_text().splitlines()
    before = lab.exec("client", "nft", "list", "ruleset").stdout
    done = lab.exec("client", "nft", "-c", "-f", ruleset(name), check=False)
    wrong = [int(number) for number in
             re.findall(rf"{ruleset(name).name}:(\d+):\S*: Error", done.stderr)]
    assert (done.returncode == 0) == (not wrong)
    for number in wrong:
        assert re.fullmatch(r"\s*queue num \d", lines[number - 1])
    others = "\n".join(line for line in lines if not re.fullmatch(r"\s*queue num \d", line))
    assert len(others.splitlines()) == len(lines) - 4
    lab.exec("client", "nft", "-c", "-f", "-", input=others + "\n")
    assert lab.exec("client", "nft", "list", "ruleset").stdout == before
