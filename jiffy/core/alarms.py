"""Times at which something is to be looked at. Each key has one; setting it again replaces it."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K")


class Alarms(Generic[K]):
    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0

    def set(self, key: K, at: float) -> None:
        self._times[key] = at
        self._order += 1
        heappush(self._heap, (at, self._order, key))

    def cancel(self, key: K) -> None:
        self._times.pop(key, None)

    def next(self) -> float | None:
        """When the first one is due; None without any."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[K]:
        """Those whose time has come, each taken away. One that is set meanwhile is for the next time."""
        come = []
        while (first := self.next()) is not None and first <= now:
            _, _, key = heappop(self._heap)
            del self._times[key]
            come.append(key)
        yield from come

    def _drop_stale(self) -> None:
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
