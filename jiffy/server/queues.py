"""Inputs for containers that ask: a line of waiting containers for each function, and the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from jiffy.core.line import Line
from jiffy.store.calls import Calls, Input


@dataclass(frozen=True, slots=True)
class Asking:
    """A container that asks for inputs of its function, at most `limit`. The same `key` asks again for the same inputs.
    `rested` is called each time that it has waited for `window` seconds."""

    task_id: str
    function_id: str
    limit: int
    key: str
    window: float
    rested: Callable[[], None]
    is_stopping: Callable[[], bool]


class Queues:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()

    def call(self, function_id: str, count: int) -> None:
        """So many inputs arrived: have as many containers look."""
        if (line := self._lines.get(function_id)) is not None:
            line.call(count)

    def call_all(self, function_id: str) -> None:
        if (line := self._lines.get(function_id)) is not None:
            line.call_all()

    async def take(self, asking: Asking) -> list[Input] | None:
        """Inputs once there are some; None when the container should end."""
        line = self._line(asking.function_id)
        owes_a_look = False
        try:
            while not asking.is_stopping():
                has_looked = False
                turn = asyncio.Event()
                ticket = line.join(turn.set)
                try:
                    inputs = await self._calls.claim(asking.function_id, asking.task_id, asking.limit, asking.key)
                    owes_a_look = False
                    if inputs:
                        return inputs
                    has_looked = owes_a_look = await _wait(turn, asking.window)
                finally:
                    line.leave(ticket, has_looked=has_looked)
                if not has_looked:
                    asking.rested()
        finally:
            if owes_a_look:
                line.call(1)
        return None

    def _line(self, function_id: str) -> Line:
        if (line := self._lines.get(function_id)) is None:
            line = self._lines[function_id] = Line()
        return line


async def _wait(turn: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(turn.wait(), seconds)
    return turn.is_set()
