"""Bells: long polls wait on a name, and are woken when something happened to it, on any of the servers of a store."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
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
            async with asyncio.timeout(max(0.0, timeout)):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Bells:
    """`pass_on` is told of each ring of this server, for the others."""

    def __init__(self, pass_on: Callable[[str], None] | None = None) -> None:
        self._pass_on = pass_on
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
        self.ring_here(name)
        if self._pass_on is not None:
            self._pass_on(name)

    def ring_here(self, name: str) -> None:
        """For those who listen at this server."""
        for bell in self._listeners.get(name, ()):
            bell.ring()

    def ring_all_here(self) -> None:
        """A ring may have been missed: everybody looks again."""
        for name in self._listeners:
            self.ring_here(name)
