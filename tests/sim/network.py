"""What lies between the simulated processes: requests and connections that are late, lost, or come twice, and places that
cannot reach each other for a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from aiohttp import WSMsgType

T = TypeVar("T")

_TIMEOUT = 5.0
_KEEPALIVE = 12.0
"""Seconds after which either end of a silent connection gives it up."""


class UnreachableError(Exception):
    """No answer, or no way there. Whether the request was heard is not known."""


class Network:
    """Places are named. `calm` makes it perfect but for small delays."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._parted: set[frozenset[str]] = set()
        self._jobs: set[asyncio.Future[Any]] = set()
        self.calm = False

    def part(self, one: str, other: str) -> None:
        self._parted.add(frozenset((one, other)))

    def join(self, one: str, other: str) -> None:
        self._parted.discard(frozenset((one, other)))

    def heal(self) -> None:
        self._parted.clear()
        self.calm = True

    def are_parted(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._parted

    def delay(self) -> float:
        """Mostly a millisecond or so, now and then much longer."""
        if not self.calm and self._random.random() < 0.03:
            return self._random.uniform(0.05, 1.5)
        return self._random.expovariate(1000)

    async def ask(self, one: str, other: str, answer: Callable[[], Awaitable[T]], died: asyncio.Event) -> T:
        """A request and its answer, which whoever answers goes on making when nobody waits for it. UnreachableError also
        when `died` is set meanwhile: the answering process is gone."""
        await self._travel(one, other)
        if died.is_set():
            raise UnreachableError("refused")
        if not self.calm and self._random.random() < 0.02:
            self.spawn(self._answer_again(answer))
        job = self.spawn(answer())
        death: asyncio.Future[Any] = asyncio.ensure_future(died.wait())
        waiting: set[asyncio.Future[Any]] = {job, death}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
        if not job.done():
            raise UnreachableError("the connection was reset")
        await self._travel(other, one)
        return job.result()

    async def _answer_again(self, answer: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.sleep(self._random.uniform(0, 2))
        await answer()

    async def _travel(self, one: str, other: str) -> None:
        if self.are_parted(one, other) or (not self.calm and self._random.random() < 0.01):
            await asyncio.sleep(_TIMEOUT)
            raise UnreachableError("no answer in time")
        await asyncio.sleep(self.delay())

    def spawn(self, work: Awaitable[T]) -> asyncio.Future[T]:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._forget)
        return job

    def _forget(self, job: asyncio.Future[Any]) -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()  # whoever asked may be gone


@dataclass(frozen=True, slots=True)
class Message:
    type: WSMsgType
    data: str


class Socket:
    """One end of a connection. What is sent arrives in order; a connection that carries nothing for long breaks."""

    def __init__(self, network: Network, here: str, there: str) -> None:
        self._network = network
        self._here = here
        self._there = there
        self._received: asyncio.Queue[str | None] = asyncio.Queue()
        self._under_way: deque[tuple[float, str]] = deque()
        self._sent_until = 0.0
        self.closed = False
        self.close_code: int | None = None
        self.peer: Socket | None = None
        self.frozen = False

    async def send_str(self, data: str) -> None:
        if self.closed:
            raise ConnectionResetError("the connection is closed")
        loop = asyncio.get_running_loop()
        self._sent_until = max(self._sent_until, loop.time() + self._network.delay())
        self._under_way.append((self._sent_until, data))
        loop.call_at(self._sent_until, self._deliver)

    def _deliver(self) -> None:
        """All that has come so far; while the way is cut, what was sent first is tried again first."""
        loop, peer = asyncio.get_running_loop(), self.peer
        while self._under_way and self._under_way[0][0] <= loop.time():
            if self.closed or peer is None or peer.closed:
                return
            if self.frozen or peer.frozen or self._network.are_parted(self._here, self._there):
                if loop.time() - self._under_way[0][0] > _KEEPALIVE:
                    self.break_off()
                else:
                    loop.call_later(0.25, self._deliver)
                return
            peer._received.put_nowait(self._under_way.popleft()[1])

    async def receive_str(self) -> str:
        data = await self._received.get()
        if data is None:
            raise ConnectionResetError("the connection is closed")
        return data

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (data := await self._received.get()) is not None:
            yield Message(WSMsgType.TEXT, data)

    async def close(self, code: int | None = None) -> None:
        """What was sent still arrives, unless the way is cut."""
        if not self.closed and self._under_way:
            rest = self._sent_until - asyncio.get_running_loop().time()
            await asyncio.sleep(max(rest, 0.0) + 0.0001)
        self.break_off(code)

    def break_off(self, code: int | None = None) -> None:
        """Both ends learn of it, the other one a moment later."""
        if self.closed:
            return
        self._end(code)
        if self.peer is not None:
            asyncio.get_running_loop().call_later(self._network.delay(), self.peer._end, code)

    def _end(self, code: int | None) -> None:
        if not self.closed:
            self.closed = True
            self.close_code = code
            self._received.put_nowait(None)


def connect(network: Network, one: str, other: str) -> tuple[Socket, Socket]:
    """The end at one place and the end at the other."""
    here, there = Socket(network, one, other), Socket(network, other, one)
    here.peer, there.peer = there, here
    return here, there
