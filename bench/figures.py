"""Figures: what was measured, beside what it is compared with."""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def at_share(values: Sequence[float], share: float) -> float:
    """The value that this share of all is below: 0.5 for the median."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Figure:
    """`samples` and `peer_samples` were taken in turns. Values are medians, `reach` is the highest ratio that is good
    enough, or the lowest where more is better; 0 where none was set. Figures of one `series` are a line in a plot, at
    places `x` of the axis that it names."""

    name: str
    unit: str
    samples: Sequence[float]
    peer: str
    peer_samples: Sequence[float]
    reach: float = 0.0
    series: str = ""
    x: float = 0.0
    axis: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def peer_value(self) -> float:
        return statistics.median(self.peer_samples)

    @property
    def ratio(self) -> float:
        return self.value / self.peer_value

    def describe(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "reach": self.reach,
            "samples": list(self.samples),
            "peer_samples": list(self.peer_samples),
            "series": self.series,
            "x": self.x,
            "axis": self.axis,
        }

    @classmethod
    def read(cls, described: dict[str, Any]) -> Figure:
        """What `describe` gave."""
        return cls(**{field.name: described[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time of something went: phase -> its samples, in order."""

    name: str
    unit: str
    phases: dict[str, list[float]]

    def describe(self) -> dict[str, Any]:
        medians = {phase: statistics.median(samples) for phase, samples in self.phases.items()}
        return {"name": self.name, "unit": self.unit, "phases": medians}


@dataclass(frozen=True, slots=True)
class Report:
    figures: Sequence[Figure]
    splits: Sequence[Split] = ()

    def describe(self) -> dict[str, Any]:
        return {
            "machine": describe_machine(),
            "figures": [figure.describe() for figure in self.figures],
            "splits": [split.describe() for split in self.splits],
        }

    def print(self) -> None:
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(_figure_table(self.figures))
        for split in self.splits:
            console.print(_split_table(split))


def describe_machine() -> dict[str, Any]:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processor": model[1] if model is not None else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    }


def summarise(samples: Sequence[float], unit: str) -> tuple[str, str]:
    """The median with its unit, and the spread."""
    median = statistics.median(samples)
    digits = 0 if median >= 1000 else 1 if median >= 10 else 2
    return f"{median:,.{digits}f} {unit}".strip(), f"{min(samples):,.{digits}f}-{max(samples):,.{digits}f}"


def _summarise(samples: Sequence[float], unit: str) -> str:
    median, spread = summarise(samples, unit)
    return f"{median} [dim]{spread}[/dim]"


def _figure_table(figures: Sequence[Figure]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("figure", "median, spread", "beside", "median, spread", "ratio"):
        table.add_column(column, justify="right" if column == "ratio" else "left", no_wrap=True)
    for figure in figures:
        ratio = f"{figure.ratio:.2f}" + (f" [dim](reach {figure.reach:g})[/dim]" if figure.reach else "")
        ours, peer = _summarise(figure.samples, figure.unit), _summarise(figure.peer_samples, figure.unit)
        table.add_row(figure.name, ours, figure.peer, peer, ratio)
    return table


def _split_table(split: Split) -> Table:
    table = Table(title=f"\n{split.name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("phase")
    table.add_column("median, spread")
    for phase, samples in split.phases.items():
        table.add_row(phase, _summarise(samples, split.unit))
    return table
