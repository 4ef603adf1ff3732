# SPDX-License-Identifier: GPL-2.0-or-later
"""lab/bench: it measures what it says, fails when a request does, and leaves nothing behind."""

import json
import os
import pathlib
import signal
import subprocess
import xml.etree.ElementTree

import pytest

from conftest import TOP, wait_until

pytestmark = [pytest.mark.plain, pytest.mark.only("kernel")]

PATHS = ("direct", "kernel", "userspace", "haproxy", "nginx", "nft-dsr")


def environ():
    return dict(os.environ, L3DSR_LAB=f"t{os.getpid()}_bench")


def left_behind():
    name = environ()["L3DSR_LAB"]
    return [path for directory in ("/run", "/run/netns")
            for path in pathlib.Path(directory).glob(f"l3dsr-*{name}*")]


def bench(*arguments):
    command = [TOP / "lab" / "bench", *map(str, arguments)]
    with subprocess.Popen(command, env=environ(), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as running:
        try:
            out, err = running.communicate(timeout=300)
        except BaseException:  # if only Ctrl-C: it has labs to take down
            running.terminate()
            running.communicate(timeout=60)
            raise
    return subprocess.CompletedProcess(command, running.returncode, out, err)


def quick(*arguments):
    """A run that works; what it printed, and its measurements."""
    done = bench("--quick", *arguments)
    assert done.returncode == 0, done.stderr
    assert not left_behind()
    result = json.loads((arguments[-1] / "bench.json").read_text())
    return done, {(one["workload"], one["path"]): one for one in result["measurements"]}


def test_quick(tmp_path):
    done, measured = quick("--workloads", "bulk,new-100B", "--output", tmp_path)
    assert len(measured) == 2 * len(PATHS)
    for (workload, path), one in measured.items():
        assert one["metrics"]["requests_per_s"] > 0 and one["counted"]["cpu_s"] > 0
        through = one["metrics"]["balancer_gb_per_gb"]
        if path in ("haproxy", "nginx"):
            assert through > 2
        elif workload == "bulk":
            assert through < 0.05
        assert ("packets" in one["counted"]) == (path in ("kernel", "userspace"))
    steered = measured["new-100B", "userspace"]["counters"]
    assert steered["balancer.accepted"] >= measured["new-100B", "userspace"]["counted"]["requests"]
    # Both backends, under every path whose URLs were chosen so.
    assert abs(steered["bridge1.spliced"] - steered["bridge2.spliced"]) < \
        0.1 * steered["balancer.accepted"]
    assert xml.etree.ElementTree.parse(tmp_path / "bench.svg").getroot().tag.endswith("svg")
    assert done.stdout.count("\n| ") == 2 * len(PATHS) + 2
    shown = bench("--show", tmp_path / "bench.json", "--output", tmp_path / "again")
    assert shown.stdout == done.stdout
    assert (tmp_path / "again" / "bench.svg").read_text() == (tmp_path / "bench.svg").read_text()


def test_quick_with_other_workloads(tmp_path):
    _, measured = quick("--paths", "kernel,haproxy", "--workloads", "bulk-8,keepalive-100B",
                        "--output", tmp_path)
    for path in ("kernel", "haproxy"):
        assert measured["bulk-8", path]["counted"]["connections"] == 8
        counted = measured["keepalive-100B", path]["counted"]
        assert counted["requests"] > 10 * counted["connections"]
    # Not one more for all the requests behind the first.
    assert measured["keepalive-100B", "kernel"]["metrics"]["packets_per_connection"] <= 10


def start(tmp_path):
    """A run that takes longer than what the test does to it; it has just begun to fetch."""
    running = subprocess.Popen([TOP / "lab" / "bench", "--paths", "direct", "--workloads",
                                "keepalive-100B", "--seconds", "10", "--output", tmp_path],
                               env=environ(), text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    lua = pathlib.Path(f"/run/l3dsr-lab-{environ()['L3DSR_LAB']}_plain/bench.lua")
    wait_until(lua.exists, 60, "the first requests")
    return running


def test_a_failed_request_ends_the_run(tmp_path):
    running = start(tmp_path)
    found = subprocess.run(["ip", "netns", "pids",
                            f"l3dsr-{environ()['L3DSR_LAB']}_plain-backend1"],
                           capture_output=True, text=True, check=True).stdout.split()
    for pid in found:  # nginx and its worker; nothing else runs there
        os.kill(int(pid), signal.SIGKILL)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1 and out == ""
    # wrk says the latter if it has not come to its first request.
    assert "bench: direct, keepalive-100B: requests failed" in err or "unable to connect" in err
    assert not left_behind()


def test_ended_by_a_signal(tmp_path):
    running = start(tmp_path)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 1
    assert not left_behind()


@pytest.mark.parametrize("arguments", [["--paths", "direct,other"], ["--workloads", "none"],
                                       ["--rounds", "0"]])
def test_wrong_words(arguments):
    assert bench(*arguments).returncode == 2
