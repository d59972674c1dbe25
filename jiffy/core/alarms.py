"""Times at which something is to be looked at. Each key has one; setting it again replaces it.

One that is put off, as most are again and again, keeps its place until that comes up: so there are as many places as keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K")


class Alarms(Generic[K]):
    """`_places` has the time of the earliest place in the heap that each key has."""

    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._places: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0

    def __len__(self) -> int:
        """Places in the heap."""
        return len(self._heap)

    def set(self, key: K, at: float) -> None:
        self._times[key] = at
        if at < self._places.get(key, math.inf):
            self._take_place(key, at)

    def cancel(self, key: K) -> None:
        self._times.pop(key, None)

    def next(self) -> float | None:
        """When the first one is due; None without any."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._places.get(key) == at == self._times.get(key):
                return at
            self._leave_first()
            if key not in self._places and key in self._times:
                self._take_place(key, self._times[key])
        return None

    def due(self, now: float) -> Iterator[K]:
        """Those whose time has come, each taken away. One that is set meanwhile is for the next time."""
        come = []
        while (first := self.next()) is not None and first <= now:
            key = self._leave_first()
            del self._times[key]
            come.append(key)
        yield from come

    def _take_place(self, key: K, at: float) -> None:
        self._places[key] = at
        self._order += 1
        heappush(self._heap, (at, self._order, key))

    def _leave_first(self) -> K:
        at, _, key = heappop(self._heap)
        if self._places.get(key) == at:
            del self._places[key]
        return key
