"""What of a machine containers may use: its processors and memory, or less where a control group limits this process."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.runtime.cgroups import ROOT, Layout, find_layout

_MEMORY_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Capacity:
    """`cpu_millis`: thousandths of a processor."""

    cpu_millis: int
    memory_bytes: int


def find_capacity(root: Path = ROOT) -> Capacity:
    """The rest of the memory is for the worker, and for what the kernel keeps of files."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cpus = 1000 * len(os.sched_getaffinity(0))
    limit = _memory_limit(root)
    quota = _cpu_quota(root)
    return Capacity(
        cpu_millis=cpus if quota is None else min(cpus, quota),
        memory_bytes=int(_MEMORY_SHARE * (memory if limit is None else min(memory, limit))),
    )


def _memory_limit(root: Path) -> int | None:
    is_v2 = find_layout(root) is Layout.V2
    words = _words(root / "memory.max" if is_v2 else root / "memory" / "memory.limit_in_bytes")
    return int(words[0]) if words and words[0].isdecimal() else None


def _cpu_quota(root: Path) -> int | None:
    if find_layout(root) is Layout.V2:
        words = _words(root / "cpu.max")
    else:
        words = _words(root / "cpu" / "cpu.cfs_quota_us") + _words(root / "cpu" / "cpu.cfs_period_us")
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    return 1000 * int(words[0]) // int(words[1])


def _words(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().split()
    return []
