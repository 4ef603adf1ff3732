# SPDX-License-Identifier: GPL-2.0-or-later
"""The workloads of lab/bench: what a client does, and what is counted meanwhile."""

import dataclasses
import json
import pathlib
import subprocess
import time

import figures
from labs import SERVERS, SIZES, VIP, BenchError, cpu_of, cpu_of_machine, run

CONNECTIONS = 64
THREADS = 2
IN_TURN = 4         # downloads of `bulk`, one after the other: one alone is too short to measure
AT_ONCE = 8
URLS = 16           # for each backend; which URL goes where differs between the balancers
CANDIDATES = 256
SETTLE_SECONDS = 2


@dataclasses.dataclass(frozen=True)
class Workload:
    """`size` names an object; `parallel` is the number of downloads at once, 0 means requests."""

    name: str
    size: str
    parallel: int = 0
    keepalive: bool = False


WORKLOADS = {workload.name: workload for workload in (
    Workload("bulk", "500MB", parallel=1),
    Workload("bulk-8", "500MB", parallel=AT_ONCE),
    Workload("new-100B", "100B"),
    Workload("new-10KB", "10KB"),
    Workload("new-1MB", "1MB"),
    Workload("keepalive-100B", "100B", keepalive=True),
)}

# Answers are read by wrk itself; what it found is told in one line of JSON.
LUA = """
local addresses, paths = {%(addresses)s}, {%(paths)s}
local threads, requests, last = 0, {}, 0

function setup(thread)
    threads = threads + 1
    local address = addresses[(threads - 1) %% #addresses + 1]
    thread.addr = wrk.lookup(address, "%(port)d")[1]
end

function init(args)
    for number, path in ipairs(paths) do
        requests[number] = wrk.format("GET", path)
    end
end

function request()
    last = last %% #requests + 1
    return requests[last]
end

function done(summary, latency, rates)
    local errors = summary.errors
    print(string.format('JSON {"requests": %%d, "microseconds": %%d, "bytes": %%d, ' ..
        '"p50_us": %%d, "p99_us": %%d, "errors": {"connect": %%d, "read": %%d, "write": %%d, ' ..
        '"status": %%d, "timeout": %%d}}', summary.requests, summary.duration, summary.bytes,
        latency:percentile(50), latency:percentile(99), errors.connect, errors.read,
        errors.write, errors.status, errors.timeout))
end
"""


def many_sources(lab):
    """The library with which a client of one address becomes one of many."""
    library = lab.state / "sources.so"
    if not library.exists():
        run(["cc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-o", library,
             pathlib.Path(__file__).with_name("sources.c")])
    return library


def curl_config(url):
    """What curl reads to fetch it on a connection of its own."""
    return f'url = "{url}"\nheader = "Connection: close"\nsilent\nshow-error\nfail\n'


def candidates(path, size):
    """URLs of which probe() chooses."""
    servers = list(SERVERS.values()) if path.chosen_by == "host" else [VIP]
    return [f"http://{servers[number % len(servers)]}:{path.port}/object/{size}/{number}"
            for number in range(CANDIDATES)]


def probe(lab, path, size):
    """URLs by backend, URLS of each: every path has the same load on both web servers."""
    urls = candidates(path, size)
    if path.chosen_by == "port":  # of the client: any URL may go anywhere
        return {backend: urls[:URLS] for backend in SERVERS}
    found = {backend: [] for backend in SERVERS}
    for start in range(0, CANDIDATES, 2 * URLS):
        some = urls[start:start + 2 * URLS]
        config = "next\n".join(f"{curl_config(url)}head\n" for url in some)
        text = run(lab.inside("client", "curl", "-K", "-"), input=config)
        backends = [line.split()[1] for line in text.splitlines()
                    if line.lower().startswith("x-backend:")]
        if len(backends) != len(some):
            raise BenchError(f"{path.name}: {len(backends)} answers to {len(some)} requests")
        for url, backend in zip(some, backends):
            found[backend].append(url)
        if all(len(urls_found) >= URLS for urls_found in found.values()):
            return {backend: urls_found[:URLS] for backend, urls_found in found.items()}
    raise BenchError(f"{path.name}: of {CANDIDATES} URLs {found} is all that a backend gets")


def alternating(urls):
    """All URLs, one backend after the other in turn."""
    return [url for pair in zip(*urls.values()) for url in pair]


def settle(seconds):
    """Wait until the machine is idle, but not for longer; returns how many cores are not."""
    deadline = time.monotonic() + seconds
    while True:
        start, before = time.monotonic(), cpu_of_machine()
        time.sleep(0.1)
        busy = (cpu_of_machine() - before) / (time.monotonic() - start)
        if busy < figures.BUSY or time.monotonic() > deadline:
            return round(busy, 3)


class Measurer:
    """Runs workloads over paths; knows the labs, and what to fetch from them."""

    def __init__(self, labs, seconds, quick):
        self.labs = labs
        self.seconds = seconds
        self.quick = quick
        self.urls = {}

    def size_of(self, workload):
        return "5MB" if self.quick and workload.parallel else workload.size

    def urls_of(self, path, size):
        if (path.name, size) not in self.urls:
            self.urls[path.name, size] = probe(self.labs[path.lab], path, size)
        return self.urls[path.name, size]

    def warm_up(self, path, workload):
        """Find out which URL goes where, and do it once without looking at the clock."""
        self.urls_of(path, self.size_of(workload))
        self.load(path, workload, 1)

    def measure(self, path, workload):
        """Run it once; returns the metrics, and what they were made from."""
        lab = self.labs[path.lab]
        busy_before = settle(0 if self.quick else SETTLE_SECONDS)
        counters, octets = lab.counters(), lab.balancer_bytes()
        daemons = {name: cpu_of(lab.pids[name]) for name in path.daemons}
        cpu = cpu_of_machine()
        counted, latency = self.load(path, workload, self.seconds)
        counted["cpu_s"] = cpu_of_machine() - cpu
        daemons = {name: cpu_of(lab.pids[name]) - before for name, before in daemons.items()}
        counted["balancer_bytes"] = lab.balancer_bytes() - octets
        steps = {name: value - counters.get(name, 0) for name, value in lab.counters().items()}
        if counters:
            counted["packets"] = sum(steps[f"{name}.packets"] for name in path.daemons)
        return {"metrics": {**figures.derive(counted, daemons), **latency},
                "counted": counted, "daemon_cpu_s": daemons, "busy_before": busy_before,
                "counters": {name: step for name, step in steps.items() if step}}

    def load(self, path, workload, seconds):
        """Returns what was delivered, and the metrics of latency."""
        if workload.parallel:
            return self.download(path, workload), {}
        return self.request(path, workload, seconds)

    def download(self, path, workload):
        lab, size = self.labs[path.lab], self.size_of(workload)
        urls = self.urls_of(path, size)
        if workload.parallel > 1:
            steps = [alternating(urls)[:workload.parallel]]
        else:
            steps = [[url] for url in urls["backend1"][:IN_TURN]]
        seconds = sum(self.fetch(lab, step, SIZES[size]) for step in steps)
        number = sum(map(len, steps))
        return {"seconds": seconds, "requests": number, "connections": number,
                "bytes": number * SIZES[size]}

    @staticmethod
    def fetch(lab, urls, size):
        """All at the same time, each by a curl of its own; returns how long the slowest one took.

        Curl's own clock knows nothing of its start as a program, which is the same for all paths.
        """
        clients = []
        for url in urls:
            command = lab.inside("client", "curl", "-K", "-", "-o", "/dev/null", "--max-time", 120,
                                 "-w", "%{size_download} %{time_total}")
            client = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            client.stdin.write(curl_config(url))
            client.stdin.close()
            client.stdin = None
            clients.append(client)
        slowest = 0.0
        for url, client in zip(urls, clients):
            out, err = client.communicate()
            got, _, seconds = out.partition(" ")
            if client.returncode or got != str(size):
                raise BenchError(f"{url}: curl returned {client.returncode}, got {got} bytes: {err}")
            slowest = max(slowest, float(seconds))
        return slowest

    def request(self, path, workload, seconds):
        lab, size = self.labs[path.lab], self.size_of(workload)
        urls = [url.partition("/object/") for url in alternating(self.urls_of(path, size))]
        addresses = SERVERS.values() if path.chosen_by == "host" else [VIP]
        script = lab.state / "bench.lua"
        script.write_text(LUA % {
            "addresses": ", ".join(f'"{address}"' for address in addresses),
            "paths": ", ".join(f'"{slash}{rest}"' for _, slash, rest in urls), "port": path.port})
        close = [] if workload.keepalive else ["-H", "Connection: close"]
        text = run(lab.inside(
            "client", "env", f"LD_PRELOAD={many_sources(lab)}", "wrk", f"-t{THREADS}",
            f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", script, *close,
            urls[0][0]))
        return self.told_by_wrk(path, workload, text)

    def told_by_wrk(self, path, workload, text):
        line = next((line for line in text.splitlines() if line.startswith("JSON ")), "JSON {}")
        told = json.loads(line.partition(" ")[2])
        if not told.get("requests") or any(told["errors"].values()) or \
                told["bytes"] < told["requests"] * SIZES[self.size_of(workload)]:
            raise BenchError(f"{path.name}, {workload.name}: requests failed:\n{text}")
        # Those that wrk has open in the end are cut off, and not counted as requests.
        connections = CONNECTIONS + (0 if workload.keepalive else told["requests"])
        counted = {"seconds": told["microseconds"] / 1e6, "requests": told["requests"],
                   "connections": connections, "bytes": told["bytes"]}
        return counted, {"p50_ms": told["p50_us"] / 1000, "p99_ms": told["p99_us"] / 1000}
