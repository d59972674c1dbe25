"""Tables and plots of figures that were kept, for a page that has marks where they go: `<!-- figures NAME -->` and
`<!-- end -->`."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib import pyplot

from bench.figures import Figure, summarise

_SECTION: Final = re.compile(r"(<!-- figures ([a-z]+) -->\n).*?(<!-- end -->)", re.S)
_OURS: Final = "#1b6ca8"
_PEER: Final = "#9a9a9a"
_COLOURS: Final = (_OURS, "#d1495b", "#2e8b57", "#8d6a9f", "#e08e0b")

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "jiffy",
        "svg.fonttype": "none",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def write_report(kept: Path, page: Path) -> Iterator[str]:
    """Give the name of each section that was written; sections whose figures were not kept stay as they are."""
    text = page.read_text()

    def fill(match: re.Match[str]) -> str:
        path = kept / f"{match[2]}.json"
        if not path.exists():
            return match[0]
        described = json.loads(path.read_text())
        figures = [Figure.read(each) for each in described["figures"]]
        plot(figures, kept / f"{match[2]}.svg")
        link = (kept / f"{match[2]}.svg").relative_to(page.parent)
        parts = [_describe(described["machine"], figures), table(figures)]
        parts += [_split_table(split) for split in described["splits"]]
        return f"{match[1]}{chr(10).join(parts)}![{match[2]}]({link})\n{match[3]}"

    written = [match[2] for match in _SECTION.finditer(text) if (kept / f"{match[2]}.json").exists()]
    page.write_text(_SECTION.sub(fill, text))
    yield from written


def table(figures: Sequence[Figure]) -> str:
    """In Markdown."""
    lines = ["| figure | jiffy | beside | | ratio | reach |", "|---|---|---|---|---|---|"]
    for figure in figures:
        ours, spread = summarise(figure.samples, figure.unit)
        peer, its_spread = summarise(figure.peer_samples, figure.unit)
        reach = f"{figure.reach:g}" if figure.reach else ""
        lines.append(
            f"| {figure.name} | {ours} ({spread}) | {figure.peer} | {peer} ({its_spread}) | {figure.ratio:.2f} | {reach} |"
        )
    return "\n".join(lines) + "\n"


def _split_table(split: dict[str, Any]) -> str:
    lines = [f"| {split['name']} | {split['unit']} |", "|---|---|"]
    lines += [f"| {phase} | {value:.1f} |" for phase, value in split["phases"].items()]
    return "\n".join(lines) + "\n"


def plot(figures: Sequence[Figure], target: Path) -> None:
    """Lines for what has an axis, else bars of the ratios."""
    lined = [figure for figure in figures if figure.series]
    groups = [list(group) for _, group in groupby(sorted(lined, key=_group), key=_group)]
    bars = [figure for figure in figures if not figure.series]
    count = len(groups) + bool(bars)
    heights = [2.8] * len(groups) + [0.6 + 0.24 * len(bars)] * bool(bars)
    drawing, axes = pyplot.subplots(count, 1, figsize=(7, sum(heights)), height_ratios=heights, squeeze=False)
    for axis, group in zip(axes[:, 0], groups, strict=False):
        _plot_lines(axis, group)
    if bars:
        _plot_bars(axes[-1, 0], bars)
    drawing.tight_layout()
    drawing.savefig(target, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(drawing)


def _group(figure: Figure) -> tuple[str, str]:
    return figure.axis, figure.unit


def _plot_lines(axis: Any, figures: Sequence[Figure]) -> None:
    series = dict.fromkeys(figure.series for figure in figures)
    for name, colour in zip(series, _COLOURS * 3, strict=False):
        line = [figure for figure in figures if figure.series == name]
        places = [figure.x for figure in line]
        axis.plot(places, [figure.value for figure in line], "o-", color=colour, label=name, markersize=3)
        axis.fill_between(
            places,
            [min(f.samples) for f in line],
            [max(f.samples) for f in line],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    peers = {name: tuple((f.peer, f.x, f.peer_value) for f in figures if f.series == name) for name in series}
    named: set[str] = set()
    for points in dict.fromkeys(peers.values()):
        _, marks, values = zip(*points, strict=True)
        axis.plot(marks, values, "--", color=_PEER, linewidth=0.8, label="" if named else points[0][0])
        named.add(points[0][0])
    axis.set_xscale("symlog", linthresh=min((figure.x for figure in figures if figure.x), default=1.0))
    axis.set_yscale("log")
    axis.set_xlabel(figures[0].axis)
    axis.set_ylabel(figures[0].unit)
    axis.legend(frameon=False, fontsize=6)


def _plot_bars(axis: Any, figures: Sequence[Figure]) -> None:
    """Each ratio with the spread of the samples over the peer's median."""
    for place, figure in enumerate(figures):
        low, high = (each / figure.peer_value for each in (min(figure.samples), max(figure.samples)))
        axis.barh(place, figure.ratio, color=_OURS, height=0.6)
        axis.plot([low, high], [place, place], color="black", linewidth=0.8)
        if figure.reach:
            axis.plot([figure.reach] * 2, [place - 0.4, place + 0.4], color=_COLOURS[1], linewidth=1.5)
    axis.axvline(1, color=_PEER, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(figures)), [f"{figure.name} / {figure.peer}" for figure in figures], fontsize=6)
    axis.invert_yaxis()
    axis.set_xlabel("ratio to what it is beside; red: to reach")


def _describe(machine: dict[str, Any], figures: Sequence[Figure]) -> str:
    samples = int(statistics.median(len(figure.samples) for figure in figures))
    memory = machine["memory_bytes"] / 2**30
    kernel = machine["kernel"].partition("-")[0]
    return f"{samples} samples, median and spread; Linux {kernel}, {machine['cores']} cores, {memory:.0f} GiB.\n"
