"""What containers use: measured between two reports."""

from __future__ import annotations

import time
from collections.abc import Mapping

from jiffy.runtime import cgroups


class Meter:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def read(self, groups: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """For each container that was there the last time too: thousandths of a CPU since then, and bytes of memory now.
        `groups`: task id -> control group."""
        now = time.monotonic()
        found: dict[str, tuple[int, int]] = {}
        seen: dict[str, tuple[float, float]] = {}
        for task_id, group in groups.items():
            usage = cgroups.read_usage(group)
            seen[task_id] = (now, usage.cpu_seconds)
            if (before := self._seen.get(task_id)) is not None and now > before[0]:
                millis = 1000 * (usage.cpu_seconds - before[1]) / (now - before[0])
                found[task_id] = (max(0, round(millis)), usage.memory_bytes)
        self._seen = seen
        return found
