# SPDX-License-Identifier: GPL-2.0-or-later
"""The labs of lab/bench, and the paths from client to web server that are up in them.

All paths are up at the same time, so that measurements can take turns. What would be in the way of
another one has a lab of its own: there are no rules and no daemons of l3dsr where the direct path
and the proxies are measured.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
CONF = TOP / "lab" / "conf"
OBJECTS = TOP / "build" / "bench-objects"
VIP = "192.168.33.10"
SERVERS = {"backend1": "192.168.33.30", "backend2": "192.168.33.31"}
HOSTS = ("client", "balancer", *SERVERS)
L3DSR = ("balancer", "bridge1", "bridge2")
SIZES = {"100B": 100, "10KB": 10_000, "1MB": 1_000_000, "5MB": 5_000_000, "500MB": 500_000_000}
PREFIX = os.environ.get("L3DSR_LAB") or f"bench{os.getpid()}"

# The same on all hosts of all labs. The rest is what lab/up sets.
SYSCTLS = {"net.ipv4.tcp_tw_reuse": "1"}
SYSCTLS_TOLD = (*SYSCTLS, "net.ipv4.ip_local_port_range", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
                "net.ipv4.tcp_timestamps", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_max_tw_buckets",
                "net.core.somaxconn", "net.ipv4.tcp_no_metrics_save")


class BenchError(Exception):
    """The run cannot go on; the message says why."""


@dataclasses.dataclass(frozen=True)
class Path:
    """A way from the client to a web server.

    `chosen_by` says what decides the backend: "host" (the client itself), "url" or "port" (of the
    client). `daemons` are those whose CPU is told alone.
    """

    name: str
    lab: str
    chosen_by: str
    port: int = 80
    daemons: tuple = ()


PATHS = {path.name: path for path in (
    Path("direct", "plain", "host"),
    Path("kernel", "kernel", "url", daemons=L3DSR),
    Path("userspace", "userspace", "url", daemons=L3DSR),
    Path("haproxy", "plain", "url", 8081, ("haproxy",)),
    Path("nginx", "plain", "url", 8082, ("nginx",)),
    Path("nft-dsr", "dsr", "port"),
)}


def run(command, **options):
    """Run a command to its end and return its output; its failure is that of the whole run."""
    done = subprocess.run(list(map(str, command)), text=True, capture_output=True, **options)
    if done.returncode:
        raise BenchError(f"{' '.join(map(str, command))} returned {done.returncode}:\n"
                         f"{done.stdout}{done.stderr}")
    return done.stdout


def fill(template, words):
    text = (CONF / template).read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def make_objects():
    """What the web servers serve: random bytes, once for all labs."""
    OBJECTS.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        file = OBJECTS / name
        if file.exists() and file.stat().st_size == size:
            continue
        with open(file, "wb") as out:
            for start in range(0, size, 1 << 20):
                out.write(os.urandom(min(1 << 20, size - start)))


def cpu_of_machine():
    """CPU seconds since the start of the machine that were not idle, on all cores together."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _, _, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def cpu_of(pids):
    """CPU seconds of processes with all their threads."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        except OSError as error:
            raise BenchError(f"a process that is measured has ended: {error}") from error
        total += sum(map(int, text.rpartition(")")[2].split()[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def wait_for(answer, seconds, what):
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        given = answer()
        if given:
            return given
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds} s")
        time.sleep(0.005)


def nginx_pids(file):
    """The master process of an nginx, and a worker for each core once they are there."""
    master = int(file.read_text())

    def all_pids():
        children = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text()
        workers = list(map(int, children.split()))
        return [master, *workers] if len(workers) == os.cpu_count() else None

    return wait_for(all_pids, 5, f"{file}: the workers")


class Lab:
    """One of the labs: kind is plain, dsr, or a data plane of l3dsr."""

    def __init__(self, kind):
        self.kind = kind
        self.name = f"{PREFIX}_{kind}"
        self.state = pathlib.Path(f"/run/l3dsr-lab-{self.name}")
        self.environ = dict(os.environ, L3DSR_LAB=self.name)
        self.pids = {}

    def script(self, name, *arguments, **options):
        return run([TOP / "lab" / name, *arguments], env=self.environ, **options)

    def inside(self, host, *command):
        """The command line that runs a command on a host, without the shell of lab/exec."""
        return ["ip", "netns", "exec", f"l3dsr-{self.name}-{host}", *map(str, command)]

    def up(self, paths):
        """Bring it up with these paths of it; whoever has called this calls down() in the end."""
        plane = ["--data-plane", self.kind] if self.kind in PATHS else []
        self.script("up", "--no-web", *plane)
        if self.kind in ("plain", "dsr"):
            self.remove_l3dsr()
        else:
            self.pids = {name: list(map(int, self.script("daemon", "pids", name).split()))
                         for name in L3DSR}
        for host in HOSTS:
            self.script("exec", host, "sysctl", "-qw",
                        *(f"{name}={value}" for name, value in SYSCTLS.items()))
        for host, address in SERVERS.items():
            self.start_server(host, address)
        if self.kind == "dsr":
            for host in ("balancer", *SERVERS):
                self.script("exec", host, "nft", "-f", "-",
                            input=fill("bench-dsr.nft.in", {"VIP": VIP}))
        if PATHS["haproxy"] in paths:
            self.start_haproxy()
        if PATHS["nginx"] in paths:
            self.start_proxy()

    def down(self):
        self.script("down")

    def remove_l3dsr(self):
        for name in L3DSR:
            self.script("daemon", "stop", name)
        for host in ("balancer", *SERVERS):
            self.script("exec", host, "nft", "flush", "ruleset")

    def start(self, host, file, text, *command):
        """Write a configuration and start a program with it, which goes into the background."""
        (self.state / file).write_text(text)
        self.script("exec", host, *command, self.state / file)

    def start_server(self, host, address):
        locations = "\n".join(f"\t\tlocation /object/{size}/ {{ try_files /{size} =404; }}"
                              for size in SIZES)
        text = fill("bench-server.conf.in", {"STATE": self.state, "BACKEND": host,
                                             "SERVER": address, "OBJECTS": OBJECTS,
                                             "LOCATIONS": locations})
        self.start(host, f"bench-{host}.conf", text, "nginx", "-e",
                   self.state / f"bench-{host}.log", "-c")

    def start_haproxy(self):
        words = {"CPUS": os.cpu_count(), "VIP": VIP, "PORT": PATHS["haproxy"].port}
        self.start("balancer", "bench-haproxy.cfg", fill("bench-haproxy.cfg.in", words),
                   "haproxy", "-D", "-p", self.state / "bench-haproxy.pid", "-f")
        self.pids["haproxy"] = [int((self.state / "bench-haproxy.pid").read_text())]

    def start_proxy(self):
        words = {"STATE": self.state, "VIP": VIP, "PORT": PATHS["nginx"].port}
        self.start("balancer", "bench-proxy.conf", fill("bench-nginx.conf.in", words),
                   "nginx", "-e", self.state / "bench-proxy.log", "-c")
        self.pids["nginx"] = nginx_pids(self.state / "bench-proxy.pid")

    def congestion_control(self):
        """Of the web servers, as their routes say."""
        return {host: re.search(r" congctl (\w+)", self.script("exec", host, "ip", "route", "show"))[1]
                for host in SERVERS}

    def sysctls(self):
        text = self.script("exec", "client", "sysctl", *SYSCTLS_TOLD)
        return dict(re.split(r"\s*=\s*", line, maxsplit=1)
                    for line in text.replace("\t", " ").splitlines())

    def balancer_bytes(self):
        """Bytes that the interface of the balancer's host has received and sent."""
        link, = json.loads(run(self.inside("balancer", "ip", "-s", "-j", "link", "show", "dev",
                                           "eth0")))
        return sum(link["stats64"][way]["bytes"] for way in ("rx", "tx"))

    def counters(self):
        """All counters of the three daemons, NAME.COUNTER; empty in a lab without them."""
        return {f"{name}.{counter}": value for name in L3DSR if name in self.pids
                for counter, value in self.counters_of(name).items()}

    def counters_of(self, name):
        """A daemon logs them when it is asked to by SIGUSR1."""
        log = self.state / f"daemon-{name}.log"
        start = log.stat().st_size
        os.kill(self.pids[name][0], signal.SIGUSR1)

        def complete():
            text = log.read_bytes()[start:].decode(errors="replace")
            return text if re.search(r"\bcounter end$", text, re.M) else None

        text = wait_for(complete, 10, f"{log}: all counters")
        return {counter: int(value)
                for counter, value in re.findall(r"\bcounter (\S+) (\d+)$", text, re.M)}
