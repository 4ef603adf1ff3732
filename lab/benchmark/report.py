# SPDX-License-Identifier: GPL-2.0-or-later
"""What lab/bench shows of its results: one table in Markdown, and a plot in SVG."""

import html

import figures

NONE = "–"

# What is told of a path in the columns, by the kind of workload: metric, unit, factor.
BULK = {"rate": ("gbit_per_s", "Gbit/s", 1), "cpu": ("cpu_s_per_gb", "s/GB", 1)}
REQUESTS = {"rate": ("requests_per_s", "/s", 1), "cpu": ("cpu_s_per_1000", "ms/1,000", 1000)}

HEADINGS = ("workload", "path", "rate", "of direct", "p50, p99 ms", "CPU of the machine",
            "of direct", "CPU of each daemon", "packets in userspace", "balancer GB/GB")


def told(workload):
    return BULK if workload.startswith("bulk") else REQUESTS


def number(value):
    """Three digits that matter, with commas; no exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def with_spread(figure, factor=1):
    low, middle, high = (number(figure[name] * factor) for name in ("lowest", "median", "highest"))
    return middle if low == high else f"{middle} ({low}–{high})"


def ratio_of(figure):
    if "ratio" not in figure:
        return NONE
    return with_spread(figure["ratio"])


def daemons_of(metrics, metric, factor):
    """CPU of each daemon, in the order in which they were measured."""
    return ", ".join(f"{name.partition(':')[2]} {number(metrics[name]['median'] * factor)}"
                     for name in metrics if name.startswith(f"{metric}:")) or NONE


def row(workload, path, metrics):
    metric, unit, factor = told(workload)["rate"]
    cpu_metric, cpu_unit, cpu_factor = told(workload)["cpu"]
    rate, cpu = metrics[metric], metrics[cpu_metric]
    latency = NONE
    if "p50_ms" in metrics:
        latency = ", ".join(with_spread(metrics[name]) for name in ("p50_ms", "p99_ms"))
    packets = metrics.get("packets_per_connection")
    return (workload, path, f"{with_spread(rate, factor)} {unit}", ratio_of(rate), latency,
            f"{with_spread(cpu, cpu_factor)} {cpu_unit}", ratio_of(cpu),
            daemons_of(metrics, cpu_metric, cpu_factor),
            number(packets["median"]) if packets else NONE,
            number(metrics["balancer_gb_per_gb"]["median"]))


def aligned(rows):
    """A Markdown table that can be read as it is."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
             for line in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def target_line(target):
    at_least = target["at_least"] is not None
    bound = target["at_least"] if at_least else target["at_most"]
    return (f"- {target['words']}: {with_spread(target['ratio'])} of {target['base']}, wanted "
            f"{'at least' if at_least else 'at most'} {bound:.2f}: "
            f"{'reached' if target['met'] else 'NOT reached'}")


def markdown(result):
    """Where, when and how; the table; the targets."""
    machine = result["machine"]
    rows = [HEADINGS]
    for workload, paths in result["summary"].items():
        rows += [row(workload, path, metrics) for path, metrics in paths.items()]
    rounds = result["settings"]["rounds"]
    parts = [f"{result['date']}, commit {result['versions']['l3dsr']}, {machine['cpus']} cores of "
             f"{machine['cpu']}, kernel {machine['kernel']}, `{result['command']}`: median "
             f"(lowest–highest) of {rounds} {'round' if rounds == 1 else 'rounds'}; of daemons, "
             "packets and the balancer's bytes the median.", aligned(rows)]
    disturbed = figures.disturbed(result["measurements"])
    if disturbed:
        parts.append(f"Something else kept the machine busy when {disturbed} of "
                     f"{len(result['measurements'])} measurements began.")
    if result["targets"]:
        parts.append("\n".join(map(target_line, result["targets"])))
    return "\n\n".join(parts) + "\n"


# The plot: two panels side by side, a group of rows for each workload, a row for each path.

COLOURS = {"direct": "#555555", "kernel": "#0b6e4f", "userspace": "#1f6fb2", "haproxy": "#c8553d",
           "nginx": "#b8860b", "nft-dsr": "#7b4fa3"}
ROW, GROUP_GAP, TOP, LABELS, PANEL, PANEL_GAP, FOOT = 15, 12, 70, 180, 360, 40, 45


class Svg:
    """A drawing that grows by one element at a time."""

    def __init__(self, width, height):
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                      f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
                      f'<rect width="{width}" height="{height}" fill="white"/>']

    def text(self, x, y, words, anchor="start", **more):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
                          f'{attributes(more)}>{html.escape(words)}</text>')

    def line(self, x1, y1, x2, y2, colour, width=1, **more):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                          f'stroke="{colour}" stroke-width="{width}" {attributes(more)}/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')

    def __str__(self):
        return "\n".join(self.parts + ["</svg>\n"])


def attributes(more):
    return " ".join(f'{name.replace("_", "-")}="{value}"' for name, value in more.items())


def ticks(highest):
    """Steps of an axis from zero: at most ten, and the last is not below the highest value."""
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
                if highest <= step * 10)
    count = int(-(-highest // step))
    return [index * step for index in range(count + 1)]


def places(summary):
    """The y of each workload's heading and of each of its paths, and where the last one ends."""
    rows, y = [], TOP
    for workload, paths in summary.items():
        rows.append((workload, None, y + ROW / 2))
        for path in paths:
            y += ROW
            rows.append((workload, path, y + ROW / 2))
        y += ROW + GROUP_GAP
    return rows, y


def panel(svg, summary, left, heading, kind):
    """One of the two: the ratios of all paths in `rate` or in `cpu`."""
    rows, bottom = places(summary)
    found = {}
    for workload, path, y in rows:
        figure = path and summary[workload][path][told(workload)[kind][0]]
        if figure and "ratio" in figure:
            found[workload, path, y] = figure["ratio"]
    steps = ticks(max([1.0] + [ratio["highest"] for ratio in found.values()]))

    def x_of(value):
        return left + value / steps[-1] * PANEL

    svg.text(left, TOP - 30, heading, font_weight="bold")
    for step in steps:
        svg.line(x_of(step), TOP - 5, x_of(step), bottom, "#dddddd")
        svg.text(x_of(step), bottom + 14, f"{step:g}", "middle")
    svg.line(x_of(1), TOP - 5, x_of(1), bottom, "#000000", stroke_dasharray="4 3")
    svg.text(left + PANEL / 2, bottom + 32, "ratio to direct in the same round", "middle")
    for (_, path, y), ratio in found.items():
        colour = COLOURS[path]
        svg.line(x_of(ratio["lowest"]), y, x_of(ratio["highest"]), y, colour, 2)
        svg.dot(x_of(ratio["median"]), y, colour)


def plot(result):
    """The ratios as an SVG: dots are medians, lines go from the lowest to the highest round."""
    summary = result["summary"]
    rows, bottom = places(summary)
    svg = Svg(LABELS + 2 * PANEL + PANEL_GAP + 30, bottom + FOOT)
    svg.text(15, 22, f"l3dsr: paths compared with direct, {result['date']}", font_size="15",
             font_weight="bold")
    for workload, path, y in rows:
        if path:
            svg.text(LABELS - 12, y + 4, path, "end", fill=COLOURS[path])
        else:
            svg.text(15, y + 4, workload, font_weight="bold")
    panel(svg, summary, LABELS, "Rate: more is better", "rate")
    panel(svg, summary, LABELS + PANEL + PANEL_GAP,
          "CPU of the machine per GB or request: less is better", "cpu")
    return str(svg)
