"""Inputs for containers that ask: a line of waiting containers for each function, and the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from jiffy.core.line import Line
from jiffy.store.calls import Calls, Input

_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class Asking:
    """A container that asks for inputs of its function, at most `limit`. The same `key` asks again for the same inputs.
    `rested` is called each time that it has waited for `window` seconds. When there are fewer inputs than that, more are
    waited for, for `linger` seconds."""

    task_id: str
    function_id: str
    limit: int
    key: str
    window: float
    linger: float
    rested: Callable[[], None]
    is_stopping: Callable[[], bool]


@dataclass(slots=True)
class _Container:
    """`key` is of its latest request, whose repetitions wait beside it; earlier ones are overtaken. `turns` wake those that
    wait. `answered`: the last keys under which inputs were given. A request that comes again, late, must get no others:
    its answer may be heard by nobody."""

    key: str = ""
    turns: list[asyncio.Event] = field(default_factory=list)
    answered: dict[str, None] = field(default_factory=dict)

    def note_answer(self, key: str) -> None:
        self.answered[key] = None
        if len(self.answered) > _REMEMBERED:
            del self.answered[next(iter(self.answered))]

    def overtake(self, key: str) -> None:
        if key != self.key:
            self.key = key
            for turn in self.turns:
                turn.set()


class Queues:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()
        self._containers: dict[str, _Container] = {}

    def call(self, function_id: str, count: int) -> None:
        """So many inputs arrived: have as many containers look."""
        if (line := self._lines.get(function_id)) is not None:
            line.call(count)

    def call_all(self, function_id: str) -> None:
        if (line := self._lines.get(function_id)) is not None:
            line.call_all()

    def forget(self, task_id: str) -> None:
        """The container has ended."""
        self._containers.pop(task_id, None)

    async def take(self, asking: Asking) -> list[Input] | None:
        """Inputs once there are some; none when the request was overtaken by another; None when the container should end."""
        container = self._containers.setdefault(asking.task_id, _Container())
        turn = asyncio.Event()
        if asking.key not in container.answered:
            container.overtake(asking.key)
        container.turns.append(turn)
        try:
            inputs = await self._wait_in_line(asking, container, turn)
            if inputs and asking.linger and asking.key not in container.answered:
                await self._linger(asking, inputs, turn)
        finally:
            container.turns.remove(turn)
        if inputs:
            container.note_answer(asking.key)
        return inputs

    async def _wait_in_line(self, asking: Asking, container: _Container, turn: asyncio.Event) -> list[Input] | None:
        line = self._line(asking.function_id)
        owes_a_look = False
        try:
            while not asking.is_stopping():
                has_looked = False
                turn.clear()
                if asking.key in container.answered:
                    return await self._calls.claimed_under(asking.task_id, asking.key)
                if asking.key != container.key:
                    return []
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

    async def _linger(self, asking: Asking, inputs: list[Input], turn: asyncio.Event) -> None:
        """Add what comes until there are as many as were asked for."""
        line = self._line(asking.function_id)
        deadline = asyncio.get_running_loop().time() + asking.linger
        while len(inputs) < asking.limit and not asking.is_stopping():
            turn.clear()
            ticket = line.join(turn.set)
            has_looked = False
            try:
                rest = asking.limit - len(inputs)
                more = await self._calls.claim(asking.function_id, asking.task_id, rest, asking.key, besides=True)
                inputs += more
                if more:
                    continue
                seconds = deadline - asyncio.get_running_loop().time()
                has_looked = await _wait(turn, seconds) and not asking.is_stopping()
            finally:
                line.leave(ticket, has_looked=has_looked)
            if not has_looked:
                return

    def _line(self, function_id: str) -> Line:
        if (line := self._lines.get(function_id)) is None:
            line = self._lines[function_id] = Line()
        return line


async def _wait(turn: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await turn.wait()
    return turn.is_set()
