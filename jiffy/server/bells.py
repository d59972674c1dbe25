"""Bells: long polls wait on a name, and are woken when something happened to it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """One waiter's view. Rung since the last `wait` counts: look at the state, then wait, and no ring is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """True when rung, False after `timeout` seconds."""
        try:
            await asyncio.wait_for(self._event.wait(), max(0.0, timeout))
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Bells:
    def __init__(self) -> None:
        self._listeners: dict[str, dict[Bell, None]] = defaultdict(dict)

    @contextmanager
    def listen(self, name: str) -> Iterator[Bell]:
        bell = Bell()
        self._listeners[name][bell] = None
        try:
            yield bell
        finally:
            del self._listeners[name][bell]
            if not self._listeners[name]:
                del self._listeners[name]

    def ring(self, name: str) -> None:
        for bell in self._listeners.get(name, ()):
            bell.ring()
