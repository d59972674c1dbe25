"""An event loop in which no time passes but what is waited for: hours take milliseconds, and a seed gives the same run."""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

EPOCH = 1_700_000_000.0


class StalledError(AssertionError):
    """Everybody waits, and nothing will ever happen."""


class _NoWaiting(selectors.SelectSelector):
    """Instead of waiting for files, time is moved on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StalledError("nothing is left that could happen")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """The clocks of this process show the loop's time."""
    with (
        mock.patch.object(time, "time", lambda: EPOCH + loop.time()),
        mock.patch.object(time, "monotonic", loop.time),
    ):
        yield


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end, in virtual time. Garbage is collected afterwards: when that happens depends on
    what ran before, and what a killed server left would come to life for a moment."""
    loop = VirtualLoop()
    gc.collect()
    gc.disable()
    try:
        with virtual_time(loop):
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        gc.enable()
