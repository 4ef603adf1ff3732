# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the end-to-end tests: labs, running or not, and what is asked of every daemon.

lab      a running lab, one for the whole session: a test leaves it as it found it
own_lab  a lab that is not up yet, for the test alone: own_lab.up(...)

Each test runs once with either data plane, unless it is marked as only for one: lab/up takes it from
L3DSR_DATA_PLANE.

When a test ends, no daemon may have reported an error of a sanitizer; those of `own_lab` that still
run are stopped and must end with status 0, and with a verdict for each packet. L3DSR_BUILD is the
directory of the programs.
"""

import collections
import dataclasses
import itertools
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
FILES = TOP / "build" / "lab-files"
DAEMONS = ("balancer", "bridge1", "bridge2")
HOSTS = ("client", "balancer", "backend1", "backend2")
VIP = "192.168.33.10"
SERVERS = {"backend1": "192.168.33.30", "backend2": "192.168.33.31"}  # of a usual lab
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|runtime error:|WARNING: .*Sanitizer")

DATA_PLANES = ["kernel", "userspace"]

IfaceBytes = collections.namedtuple("IfaceBytes", "received sent")


def wait_until(predicate, timeout=5.0, what="the condition"):
    """Ask until the answer is true, and return it; fail when the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout} s")
        time.sleep(0.01)


@dataclasses.dataclass
class Answer:
    """What curl got. For a page, `backend` is who served it and `seen` the client it saw."""

    status: int
    body: bytes
    local: str
    seconds: float

    @property
    def text(self):
        return self.body.decode()

    @property
    def backend(self):
        return self.text.split()[0]

    @property
    def seen(self):
        return self.text.split()[1]


class Lab:
    """A lab of its own name. Its methods are the scripts in lab/, which say what they do."""

    numbers = itertools.count()

    def __init__(self):
        self.name = f"t{os.getpid()}-{next(self.numbers)}".replace("-", "_")
        self.state = pathlib.Path(f"/run/l3dsr-lab-{self.name}")
        self.environ = dict(os.environ, L3DSR_LAB=self.name)
        self.killed = set()
        self.reported = collections.Counter()

    @property
    def daemons(self):
        """Those it has while it is up: DAEMONS, and more after up("--backends", 4)."""
        count = self.state / "backends"
        bridges = int(count.read_text()) if count.exists() else len(SERVERS)
        return ("balancer", *(f"bridge{number + 1}" for number in range(bridges)))

    def run(self, script, *arguments, check=True, timeout=40, **options):
        """Run lab/SCRIPT; its output is captured as text."""
        options.setdefault("text", True)
        done = subprocess.run([TOP / "lab" / script, *map(str, arguments)], env=self.environ,
                              capture_output=True, timeout=timeout, **options)
        if check and done.returncode:
            pytest.fail(f"lab/{script} {' '.join(map(str, arguments))} returned "
                        f"{done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def up(self, *arguments, **options):
        return self.run("up", *arguments, **options)

    def down(self):
        return self.run("down")

    def inside(self, host, *command):
        """The command that lab/exec becomes: it is run so often that bash would be half of the time."""
        return ["ip", "netns", "exec", f"l3dsr-{self.name}-{host}", *map(str, command)]

    def exec(self, host, *command, check=True, timeout=40, **options):
        """Run a command on a host; its output is captured as text."""
        options.setdefault("text", True)
        done = subprocess.run(self.inside(host, *command), env=self.environ, capture_output=True,
                              timeout=timeout, **options)
        if check and done.returncode:
            pytest.fail(f"{' '.join(map(str, command))} on {host} returned {done.returncode}:\n"
                        f"{done.stdout}{done.stderr}")
        return done

    def popen(self, host, *command, **options):
        """A command that goes on while the test does; the test ends it."""
        return subprocess.Popen(self.inside(host, *command), env=self.environ, **options)

    def daemon(self, verb, name, *arguments, **options):
        """lab/daemon; returns the pids for `pids`."""
        if verb == "kill":
            self.killed.add(name)
        elif verb == "start":
            self.killed.discard(name)
        done = self.run("daemon", verb, name, *arguments, **options)
        return [int(pid) for pid in done.stdout.split()] if verb == "pids" else done

    def pid(self, name):
        """Of a daemon; None if it does not run."""
        try:
            return int((self.state / f"{name}.pid").read_text() or 0) or None
        except FileNotFoundError:
            return None

    def pids(self):
        return {name: self.pid(name) for name in self.daemons}

    def impair(self, *arguments):
        return self.run("impair", *arguments)

    def config(self, name, old="", new=""):
        """The text of the running configuration of a daemon, with something replaced in it.

        Write it into a file of the right name and give that to up(), or over self.state/NAME.conf
        and start the daemon again.
        """
        text = (self.state / f"{name}.conf").read_text()
        assert not old or old in text
        return text.replace(old, new) if old else text

    def log(self, name):
        path = self.state / f"daemon-{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def web_log(self, backend):
        return (self.state / backend / "access.log").read_text()

    def curl(self, url, *arguments, check=True, timeout=20):
        """Fetch a URL, or a path of the VIP, on the client; fails if curl does."""
        if url.startswith("/"):
            url = f"http://{VIP}{url}"
        # What is written to stderr is kept apart from the body.
        done = self.exec("client", "curl", "-sS", "-w", "%{stderr}\n%{json}", "--max-time", timeout,
                         *arguments, url, check=False, text=False, timeout=timeout + 5)
        if check and done.returncode:
            pytest.fail(f"curl {url} returned {done.returncode}: {done.stderr.decode()}")
        told = json.loads(done.stderr.splitlines()[-1])
        return Answer(told["http_code"], done.stdout, f"{told['local_ip']}:{told['local_port']}",
                      told["time_total"])

    def sha256(self, url, *arguments, timeout=120):
        """Fetch a URL on the client and return the hash of what came, without keeping it."""
        if url.startswith("/"):
            url = f"http://{VIP}{url}"
        script = 'set -o pipefail; curl -sS --fail "$@" | sha256sum'
        done = self.exec("client", "bash", "-c", script, "bash", "--max-time", timeout, *arguments,
                         url, timeout=timeout + 5)
        return done.stdout.split()[0]

    def counters(self, name):
        """All counters of a daemon, which it logs when it is asked to by SIGUSR1."""
        path = self.state / f"daemon-{name}.log"
        start = path.stat().st_size
        pid = self.pid(name)
        assert pid, f"{name} is not running"
        os.kill(pid, signal.SIGUSR1)

        def complete():
            with open(path, "rb") as log:
                log.seek(start)
                text = log.read().decode(errors="replace")
            if not re.search(r"\bcounter end$", text, re.M):
                return None
            return {key: int(value)
                    for key, value in re.findall(r"\bcounter (\S+) (\d+)$", text, re.M)}

        return wait_until(complete, what=f"the counters of {name}")

    def iface_bytes(self, host):
        """Bytes that the interface of a host has received and sent."""
        link, = json.loads(self.exec(host, "ip", "-s", "-j", "link", "show", "dev", "eth0").stdout)
        return IfaceBytes(link["stats64"]["rx"]["bytes"], link["stats64"]["tx"]["bytes"])

    def sanitizer_reports(self):
        """Lines of the daemons' logs in which a sanitizer complains, each told once."""
        found = []
        for name in self.daemons:
            text = self.log(name)
            found += [f"{name}: {line}" for line in text[self.reported[name]:].splitlines()
                      if SANITIZER.search(line)]
            self.reported[name] = len(text)
        return found

    def last_numbers(self, name):
        """Packets and verdicts of each run of a daemon that was stopped."""
        return [(int(packets), int(verdicts)) for packets, verdicts in
                re.findall(r"stopped: (\d+) packets, (\d+) verdicts$", self.log(name), re.M)]

    def stop_daemons(self):
        """Stop all that run; return what is wrong with how they ended."""
        wrong = []
        if not (self.state / "up").exists():
            return wrong
        running = [pid for pid in self.pids().values() if pid]
        for pid in running:
            os.kill(pid, signal.SIGTERM)
        if running:
            wait_until(lambda: not any(self.pids().values()), 20, "the end of the daemons")
        for name in self.daemons:
            status = self.state / f"{name}.status"
            told = wait_until(lambda: status.exists() and status.read_text().strip(),
                              what=f"how {name} ended")
            if told != "exit 0" and not (name in self.killed and told == "signal 9"):
                wrong.append(f"{name} ended with {told}")
            wrong += [f"{name} stopped: {packets} packets, {verdicts} verdicts"
                      for packets, verdicts in self.last_numbers(name) if packets != verdicts]
        return wrong

    def finish(self):
        """Take it down, and fail if a daemon did not end well."""
        try:
            wrong = self.stop_daemons() + self.sanitizer_reports()
        finally:
            self.down()
        assert not wrong


def sha256_of(name):
    """The hash of a file in /files/."""
    for line in (FILES / "SHA256SUMS").read_text().splitlines():
        digest, file = line.split()
        if file == name:
            return digest
    raise KeyError(name)


@pytest.fixture(scope="session", autouse=True, params=DATA_PLANES)
def data_plane(request):
    """The data plane of all labs that are made from now on."""
    os.environ["L3DSR_DATA_PLANE"] = request.param
    # Most tests are about what happens when a backend is chosen that does not serve: no probe shall
    # have taken its weight away. Those of test_health.py have a configuration that says otherwise.
    os.environ["L3DSR_PROBES"] = "off"
    return request.param


@pytest.fixture(scope="session")
def session_lab(data_plane):
    """The lab behind the fixture `lab`."""
    lab = Lab()
    lab.up()
    yield lab
    lab.finish()


@pytest.fixture
def lab(session_lab):
    """The running lab of the session: leave it as you found it."""
    for name in DAEMONS:
        # The test in which it went away has failed. This one may not.
        if not session_lab.pid(name):
            session_lab.daemon("start", name)
    before = session_lab.pids()
    yield session_lab
    assert not session_lab.sanitizer_reports()
    assert session_lab.pids() == before


@pytest.fixture
def own_lab():
    """A lab for one test, not up yet."""
    lab = Lab()
    yield lab
    lab.finish()


def pytest_addoption(parser):
    parser.addoption("--data-plane", choices=DATA_PLANES, help="run the tests with this one only")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; lab/check --long runs it")
    config.addinivalue_line("markers", "plain: about size, time or the lab; lab/check runs it with "
                            "the build without sanitizers, and all others with them")
    config.addinivalue_line("markers", "alone: loads the machine; lab/check runs it when nothing "
                            "else runs, with the plain build")
    config.addinivalue_line("markers", "quiet: measures a time that is short for a machine with other work; "
                            "lab/check runs it behind those")
    config.addinivalue_line("markers", "only(data_plane): about that one")
    config.addinivalue_line("markers", "once: hardly about the data plane; lab/check runs it with "
                            "the kernel's only, unless it is only for the other one")
    config.addinivalue_line("markers", "both: lab/check runs it with both builds")
    config.addinivalue_line("markers", "everywhere: lab/check runs it with the sanitizers in the "
                            "data plane of userspace, too")
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests need root", returncode=2)
    # As lab/exec does it, for the programs that tests run on hosts.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    # As Ctrl-C does: end the tests, but take the labs down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Take out what is not for its data plane, or not for the one that is asked for."""
    asked = config.getoption("--data-plane")

    def wanted(item):
        data_plane = item.callspec.params["data_plane"]
        only = item.get_closest_marker("only")
        return data_plane in (only.args if only else DATA_PLANES) and \
            asked in (None, data_plane)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = filter(wanted, items)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Show the logs of the daemons with a test that failed."""
    report = (yield).get_result()
    if not report.failed:
        return
    for fixture in ("session_lab", "own_lab"):
        lab = getattr(item, "funcargs", {}).get(fixture)
        for name in lab.daemons if lab else ():
            lines = lab.log(name).splitlines()[-100:]
            if lines:
                report.sections.append((f"end of the log of {name}, {fixture}", "\n".join(lines)))
