# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic of lab/bench, and what it prints and draws, with numbers made by hand."""

import pathlib
import sys
import xml.etree.ElementTree

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lab" / "benchmark"))

import figures
import report


def measurement(number, path, workload="bulk", busy=0.0, **metrics):
    return {"round": number, "workload": workload, "path": path, "busy_before": busy,
            "metrics": metrics}


def rates(path, *values, metric="gbit_per_s"):
    return [measurement(number, path, **{metric: value})
            for number, value in enumerate(values, 1)]


def test_derive():
    counted = {"seconds": 4.0, "requests": 2000, "connections": 500, "bytes": 500_000_000,
               "cpu_s": 3.0, "balancer_bytes": 1_000_000_000, "packets": 1500}
    assert figures.derive(counted, {"balancer": 0.5, "bridge1": 0.0}) == {
        "requests_per_s": 500, "gbit_per_s": 1, "balancer_gb_per_gb": 2,
        "cpu_s_per_gb": 6, "cpu_s_per_gb:balancer": 1, "cpu_s_per_gb:bridge1": 0,
        "cpu_s_per_1000": 1.5, "cpu_s_per_1000:balancer": 0.25, "cpu_s_per_1000:bridge1": 0,
        "packets_per_connection": 3}


def test_derive_without_daemons_that_see_packets():
    counted = {"seconds": 1, "requests": 1, "connections": 1, "bytes": 1, "cpu_s": 1,
               "balancer_bytes": 0}
    assert "packets_per_connection" not in figures.derive(counted, {})


@pytest.mark.parametrize("values, median", [([3], 3), ([1, 9, 2], 2), ([4, 1, 2, 9], 3)])
def test_spread(values, median):
    assert figures.spread(values) == {"median": median, "lowest": min(values),
                                      "highest": max(values)}


def test_ratios_are_of_the_same_round():
    """Each round twice as fast as the one before: ratios of medians would not show 0.5."""
    both = rates("direct", 10, 20, 40) + rates("kernel", 5, 10, 20)
    assert figures.ratios(both, "bulk", "kernel", "gbit_per_s", "direct") == [0.5, 0.5, 0.5]
    disturbed = rates("direct", 10, 5, 40) + rates("kernel", 10, 10, 20)
    assert figures.ratios(disturbed, "bulk", "kernel", "gbit_per_s", "direct") == [1, 2, 0.5]


def test_ratios_of_rounds_that_have_both():
    assert figures.ratios(rates("direct", 10, 10)[:1] + rates("kernel", 5, 7), "bulk", "kernel",
                          "gbit_per_s", "direct") == [0.5]
    assert figures.ratios(rates("direct", 0) + rates("kernel", 5), "bulk", "kernel",
                          "gbit_per_s", "direct") == []


def test_summarise():
    summary = figures.summarise(rates("direct", 10, 20, 40) + rates("kernel", 5, 12, 16))
    assert summary["bulk"]["kernel"]["gbit_per_s"] == {
        "median": 12, "lowest": 5, "highest": 16,
        "ratio": {"median": 0.5, "lowest": 0.4, "highest": 0.6}}
    assert summary["bulk"]["direct"]["gbit_per_s"]["ratio"]["median"] == 1


def test_summarise_without_direct():
    summary = figures.summarise(rates("kernel", 5))
    assert "ratio" not in summary["bulk"]["kernel"]["gbit_per_s"]


LEAST = figures.Target("rate", "bulk", "kernel", "gbit_per_s", "direct", at_least=0.95)
MOST = figures.Target("CPU", "bulk", "kernel", "gbit_per_s", "direct", at_most=1.1)


@pytest.mark.parametrize("target, values, met", [
    (LEAST, (0.95, 0.95, 0.1), True), (LEAST, (0.94, 0.94, 9), False),
    (MOST, (1.1, 1.1, 9), True), (MOST, (1.11, 1.11, 0.1), False)])
def test_judge_by_the_median(target, values, met):
    judged, = figures.judge(rates("direct", 1, 1, 1) + rates("kernel", *values), [target])
    assert (judged["met"], judged["rounds"]) == (met, 3)


def test_judge_leaves_out_what_was_not_measured():
    assert figures.judge(rates("direct", 1) + rates("userspace", 1), [LEAST]) == []


def test_every_target_can_be_judged():
    """A metric, path or workload of another name would never be looked at."""
    counted = {"seconds": 1, "requests": 1, "connections": 1, "bytes": 1, "cpu_s": 1,
               "balancer_bytes": 0}
    every = [measurement(1, path, workload, **figures.derive(counted, {}))
             for path in report.COLOURS for workload in ("bulk", "bulk-8", "new-100B")]
    assert len(figures.judge(every)) == len(figures.TARGETS)


def test_disturbed():
    every = [measurement(1, "direct", busy=busy) for busy in (0.0, 0.09, 0.1, 2)]
    assert figures.disturbed(every) == 2


@pytest.mark.parametrize("value, text", [(0.123, "0.12"), (9.994, "9.99"), (12.34, "12.3"),
                                         (123.4, "123"), (12345.6, "12,346")])
def test_number(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize("highest, last", [(1.0, 1.0), (1.01, 1.2), (2.0, 2.0), (9.39, 10)])
def test_ticks(highest, last):
    steps = report.ticks(highest)
    assert steps[0] == 0 and steps[-1] == pytest.approx(last)
    assert len(steps) <= 11


def result():
    metrics = {"gbit_per_s": 8.0, "cpu_s_per_gb": 2.0, "cpu_s_per_gb:balancer": 0.25,
               "packets_per_connection": 240.0, "balancer_gb_per_gb": 0.01}
    every = [measurement(number, path, busy=busy, **metrics)
             for number, busy in ((1, 0.0), (2, 1.5)) for path in ("direct", "kernel")]
    return {"date": "2026-01-01 00:00 UTC", "command": "lab/bench --rounds 2",
            "versions": {"l3dsr": "0123456789ab"},
            "machine": {"cpus": 2, "cpu": "X", "kernel": "6.1"}, "settings": {"rounds": 2},
            "summary": figures.summarise(every), "targets": figures.judge(every),
            "measurements": every}


def test_markdown():
    text = report.markdown(result())
    row = next(line for line in text.splitlines() if line.startswith("| bulk     | kernel"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "bulk", "kernel", "8.00 Gbit/s", "1.00", "–", "2.00 s/GB", "1.00", "balancer 0.25", "240",
        "0.01"]
    assert text.startswith("2026-01-01 00:00 UTC, commit 0123456789ab, 2 cores of X, kernel 6.1, ")
    assert "Something else kept the machine busy when 2 of 4" in text
    assert "1.00 of direct, wanted at least 0.95: reached" in text


def test_latency_has_its_spread():
    every = [measurement(number, "kernel", "new-100B", requests_per_s=10, cpu_s_per_1000=1,
                         balancer_gb_per_gb=0, p50_ms=number, p99_ms=2 * number)
             for number in (1, 2, 3)]
    text = report.markdown({**result(), "summary": figures.summarise(every)})
    assert "| 2.00 (1.00–3.00), 4.00 (2.00–6.00) |" in text


def test_plot_is_drawn_inside_its_frame():
    root = xml.etree.ElementTree.fromstring(report.plot(result()))
    width, height = float(root.get("width")), float(root.get("height"))
    dots = [one for one in root if one.tag.endswith("circle")]
    assert len(dots) == 4
    for one in dots:
        assert 0 < float(one.get("cx")) < width and 0 < float(one.get("cy")) < height
