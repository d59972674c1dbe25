"""Requests to the servers that programs run in containers: which container answers which, and which wait for one.

They are in no store, since a request ends with its connection. To the scheduler's core each is an input that runs until it
is answered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from jiffy.core import facts
from jiffy.core.facts import Fact
from jiffy.core.pools import Container
from jiffy.errors import ExhaustedError, UnavailableError
from jiffy.identifiers import random_id
from jiffy.server.known_functions import KnownFunction


class Scaler(Protocol):
    """Who has containers launched and ended."""

    def tell(self, fact: Fact) -> None: ...
    def peek_container(self, task_id: str) -> Container | None: ...
    def may_grow(self, function_id: str) -> bool: ...
    def dismiss(self, container: Container, reason: str) -> None: ...
    async def add_demand(self, function_id: str, inputs: int) -> None: ...


@dataclass(slots=True)
class _Serving:
    """A container that answers requests. `target` and `most`: how many at once it should have, and may. `window`: seconds
    after which it may end when it has none."""

    task_id: str
    target: int
    most: float
    window: float
    running: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Waiting:
    request_id: str
    since: float
    answer: asyncio.Future[_Serving]


@dataclass(slots=True)
class _Server:
    serving: dict[str, _Serving] = field(default_factory=dict)
    waiting: deque[_Waiting] = field(default_factory=deque)


class Requests:
    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._servers: dict[str, _Server] = {}

    @asynccontextmanager
    async def admitted(self, function: KnownFunction) -> AsyncIterator[str]:
        """The id of the container that is to answer a request, for as long as that takes. ExhaustedError when all have as
        many as they may, and no more containers may come."""
        server = self._servers.setdefault(function.function_id, _Server())
        request_id = random_id("in")
        if (serving := self._choose(server)) is not None:
            self._begin(serving, request_id)
        else:
            serving = await self._wait(function, server, request_id)
        try:
            if len(serving.running) > serving.target:
                await self._scaler.add_demand(function.function_id, 1)
            yield serving.task_id
        finally:
            self._end(server, serving, request_id)

    async def serve(self, function: KnownFunction, task_id: str) -> None:
        """Have a container answer requests until it has ended."""
        settings, most = function.settings, function.definition.max_concurrent_inputs or math.inf
        serving = _Serving(task_id, settings.limits.slots, most, settings.scaledown_window)
        serving.emptied.set()
        server = self._servers.setdefault(function.function_id, _Server())
        server.serving[task_id] = serving
        self._scaler.tell(facts.ContainerAsked(task_id))
        self._rest(serving)
        self._give(server)
        await serving.ended.wait()

    def serves(self, task_id: str) -> bool:
        return any(task_id in server.serving for server in self._servers.values())

    def forget(self, function_id: str, task_id: str) -> None:
        """The container has ended."""
        if (server := self._servers.get(function_id)) is None:
            return
        if (serving := server.serving.pop(task_id, None)) is not None:
            serving.ended.set()
            if serving.timer is not None:
                serving.timer.cancel()
        if not server.serving and not server.waiting:
            del self._servers[function_id]

    def demand(self, function_id: str) -> tuple[int, int, float]:
        """Requests that wait, requests that are being answered, and for how many seconds the oldest has waited."""
        if (server := self._servers.get(function_id)) is None:
            return 0, 0, 0.0
        running = sum(len(serving.running) for serving in server.serving.values())
        oldest = time.monotonic() - server.waiting[0].since if server.waiting else 0.0
        return len(server.waiting), running, oldest

    def fail(self, function_id: str, reason: str) -> None:
        """No container comes for those that wait."""
        server = self._servers.get(function_id)
        while server is not None and server.waiting:
            failure = UnavailableError("the server of this endpoint did not start", why=reason)
            server.waiting.popleft().answer.set_exception(failure)

    async def drain(self, function_id: str, task_id: str, seconds: float) -> None:
        """Until a container that takes no more has answered all, or the time is over."""
        server = self._servers.get(function_id)
        serving = None if server is None else server.serving.get(task_id)
        if serving is not None:
            try:
                async with asyncio.timeout(seconds):
                    await serving.emptied.wait()
            except TimeoutError:
                pass

    def _choose(self, server: _Server) -> _Serving | None:
        """The busiest that has fewer than it should: others can end then. If there is none, the one with the fewest."""
        able = [each for each in server.serving.values() if len(each.running) < each.most and self._takes(each)]
        below = [each for each in able if len(each.running) < each.target]
        if below:
            return max(below, key=lambda each: len(each.running))
        return min(able, key=lambda each: len(each.running), default=None)

    def _takes(self, serving: _Serving) -> bool:
        container = self._scaler.peek_container(serving.task_id)
        return container is not None and not container.stopping

    async def _wait(self, function: KnownFunction, server: _Server, request_id: str) -> _Serving:
        if server.serving and not self._scaler.may_grow(function.function_id):
            raise ExhaustedError(
                f"{function.definition.function_name} answers as many requests as it may", hint="ask again soon"
            )
        waiting = _Waiting(request_id, time.monotonic(), asyncio.get_running_loop().create_future())
        server.waiting.append(waiting)
        try:
            await self._scaler.add_demand(function.function_id, 1)
            return await waiting.answer
        except BaseException:
            if waiting in server.waiting:
                server.waiting.remove(waiting)
            elif not waiting.answer.cancelled() and waiting.answer.exception() is None:
                self._end(server, waiting.answer.result(), request_id)
            raise

    def _begin(self, serving: _Serving, request_id: str) -> None:
        serving.running.add(request_id)
        serving.emptied.clear()
        if serving.timer is not None:
            serving.timer.cancel()
            serving.timer = None
        self._scaler.tell(facts.InputsTaken(serving.task_id, {request_id: math.inf}))

    def _end(self, server: _Server, serving: _Serving, request_id: str) -> None:
        serving.running.discard(request_id)
        self._scaler.tell(facts.InputsEnded(serving.task_id, (request_id,), 0.0))
        if serving.running:
            self._give(server)
            return
        serving.emptied.set()
        container = self._scaler.peek_container(serving.task_id)
        if container is None:
            return
        if container.stopping:
            self._scaler.dismiss(container, "it has answered all that it had")
            return
        self._scaler.tell(facts.ContainerAsked(serving.task_id))
        self._rest(serving)
        self._give(server)

    def _give(self, server: _Server) -> None:
        """Those that wait go to containers that can take them."""
        while server.waiting and (serving := self._choose(server)) is not None:
            waiting = server.waiting.popleft()
            self._begin(serving, waiting.request_id)
            waiting.answer.set_result(serving)

    def _rest(self, serving: _Serving) -> None:
        """Tell each time that a container has had no request for its window."""

        def tell() -> None:
            self._rest(serving)
            self._scaler.tell(facts.ContainerRested(serving.task_id))

        serving.timer = asyncio.get_running_loop().call_later(serving.window, tell)
