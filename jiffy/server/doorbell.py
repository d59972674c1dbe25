"""Rings between the servers of one store: of bells, and of inputs that came in at one and are for the scheduler of another.

What rings is in the store already; a ring only says when to look. One may be lost with the connection that carries it: when
it is made anew, all bells ring, and the scheduler counts again from time to time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from jiffy.errors import JiffyError
from jiffy.jobs import Jobs
from jiffy.server.bells import Bells

logger = logging.getLogger(__name__)

_MOST_BYTES: Final = 7000
_RETRY_SECONDS: Final = 0.5

AddDemand = Callable[[str, int], Awaitable[None]]


class Announcements(Protocol):
    """A way to tell all servers of a store a short text."""

    async def announce(self, text: str) -> None: ...
    async def listen(self, hear: Callable[[str], None], ready: Callable[[], None]) -> None: ...


class Doorbell:
    """`bells` are this server's. While this server leads, `scheduler` is told of inputs."""

    def __init__(self, announcements: Announcements) -> None:
        self.bells = Bells(self._note_ring)
        self.scheduler: AddDemand | None = None
        self._announcements = announcements
        self._sender = secrets.token_hex(4)
        self._rings: dict[str, None] = {}
        self._inputs: Counter[str] = Counter()
        self._noted = asyncio.Event()
        self._jobs = Jobs()

    def call_containers(self, function_id: str, inputs: int) -> None:
        """They are called by the server that leads, once it hears of it."""

    async def add_demand(self, function_id: str, inputs: int, *, called: bool = False) -> None:
        """Inputs of a function are in the store: for a server that does not lead."""
        self._inputs[function_id] += inputs
        self._noted.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.gather(self._announce_forever(), self._listen_forever())
        finally:
            await self._jobs.cancel()

    def _note_ring(self, name: str) -> None:
        self._rings[name] = None
        self._noted.set()

    async def _announce_forever(self) -> None:
        """What comes while something is announced is announced together."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            while text := self._take_some():
                try:
                    await self._announcements.announce(text)
                except JiffyError as error:
                    logger.error("other servers do not hear of something: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)

    def _take_some(self) -> str:
        """As much as one announcement holds; empty when there is nothing."""
        rings: list[str] = []
        inputs: dict[str, int] = {}
        size = 0
        while (self._rings or self._inputs) and size < _MOST_BYTES:
            if self._inputs:
                function_id, count = self._inputs.popitem()
                inputs[function_id] = count
                size += len(function_id) + 20
            else:
                rings.append(name := next(iter(self._rings)))
                del self._rings[name]
                size += len(name) + 4
        return json.dumps({"from": self._sender, "rings": rings, "inputs": inputs}) if rings or inputs else ""

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._announcements.listen(self._hear, self.bells.ring_all_here)
            except JiffyError as error:
                logger.error("other servers are not heard: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _hear(self, text: str) -> None:
        heard = json.loads(text)
        if heard["from"] == self._sender:
            return
        for name in heard["rings"]:
            self.bells.ring_here(name)
        if self.scheduler is not None and heard["inputs"]:
            self._jobs.begin(_tell(self.scheduler, heard["inputs"]))


async def _tell(scheduler: AddDemand, inputs: dict[str, int]) -> None:
    for function_id, count in inputs.items():
        try:
            await scheduler(function_id, count)
        except JiffyError as error:
            logger.error("inputs of %s wait for the next count: %s", function_id, error)
