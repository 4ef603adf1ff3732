# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic of lab/bench: from what was counted to medians, ratios and targets.

A *measurement* is one path under one workload in one round: a dict with `round`, `workload`, `path`
and `metrics`, a dict of numbers. All that is here works on a list of them, without a lab.
"""

import dataclasses
import statistics

GIGA = 1e9
BUSY = 0.1          # of a core: a machine that does more than this beside is not idle


def derive(counted, daemons):
    """Metrics of a measurement.

    counted: seconds, requests, connections, bytes (delivered to clients), cpu_s (whole machine),
    balancer_bytes (in and out of its interface), and packets (seen by the daemons in userspace) if
    there is such a daemon. daemons: CPU seconds by name; they become metrics `cpu...:NAME`.
    """
    gigabytes = counted["bytes"] / GIGA
    thousands = counted["requests"] / 1000
    metrics = {
        "requests_per_s": counted["requests"] / counted["seconds"],
        "gbit_per_s": counted["bytes"] * 8 / GIGA / counted["seconds"],
        "balancer_gb_per_gb": counted["balancer_bytes"] / counted["bytes"],
    }
    for name, seconds in [("", counted["cpu_s"])] + [(f":{name}", daemons[name])
                                                     for name in daemons]:
        metrics[f"cpu_s_per_gb{name}"] = seconds / gigabytes
        metrics[f"cpu_s_per_1000{name}"] = seconds / thousands
    if "packets" in counted:
        metrics["packets_per_connection"] = counted["packets"] / counted["connections"]
    return metrics


def spread(values):
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def by_round(measurements, workload, path, metric):
    """The values of a metric, by the number of the round."""
    return {one["round"]: one["metrics"][metric] for one in measurements
            if one["workload"] == workload and one["path"] == path and metric in one["metrics"]}


def ratios(measurements, workload, path, metric, base):
    """A metric of a path as a ratio to the same of another path in the same round.

    The rounds that have both, in their order: what disturbs a whole round disturbs both.
    """
    values = by_round(measurements, workload, path, metric)
    bases = by_round(measurements, workload, base, metric)
    return [values[number] / bases[number] for number in sorted(values)
            if bases.get(number)]


def summarise(measurements, base="direct"):
    """Of each workload, path and metric the spread; under `ratio` that of the ratio to `base`."""
    summary = {}
    for one in measurements:
        metrics = summary.setdefault(one["workload"], {}).setdefault(one["path"], {})
        for metric in one["metrics"]:
            if metric in metrics:
                continue
            place = (measurements, one["workload"], one["path"], metric)
            metrics[metric] = spread(list(by_round(*place).values()))
            to_base = ratios(*place, base)
            if to_base:
                metrics[metric]["ratio"] = spread(to_base)
    return summary


def disturbed(measurements):
    """How many of them began while something else kept the machine busy."""
    return sum(one["busy_before"] >= BUSY for one in measurements)


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound for the median ratio of a path to another one in the same rounds."""

    words: str
    workload: str
    path: str
    metric: str
    base: str
    at_least: float = None
    at_most: float = None

    def met_by(self, value):
        return (self.at_least is None or value >= self.at_least) and \
            (self.at_most is None or value <= self.at_most)


TARGETS = (
    *(Target(f"{workload}: rate through the kernel data plane", workload, "kernel", "gbit_per_s",
             "direct", at_least=0.95) for workload in ("bulk", "bulk-8")),
    *(Target(f"{workload}: rate through the userspace data plane", workload, "userspace",
             "gbit_per_s", "direct", at_least=0.45) for workload in ("bulk", "bulk-8")),
    *(Target(f"{workload}: CPU of the machine per GB, kernel data plane", workload, "kernel",
             "cpu_s_per_gb", "direct", at_most=1.1) for workload in ("bulk", "bulk-8")),
    Target("new-100B: requests/s, kernel data plane", "new-100B", "kernel", "requests_per_s",
           "haproxy", at_least=1.0),
    Target("new-100B: CPU of the machine per 1,000 requests, kernel data plane", "new-100B",
           "kernel", "cpu_s_per_1000", "haproxy", at_most=1.0),
)


def judge(measurements, targets=TARGETS):
    """Each target that the measurements have something about, with what was reached."""
    judged = []
    for target in targets:
        values = ratios(measurements, target.workload, target.path, target.metric, target.base)
        if values:
            reached = spread(values)
            judged.append({**dataclasses.asdict(target), "ratio": reached, "rounds": len(values),
                           "met": target.met_by(reached["median"])})
    return judged
