"""The workers that are connected: what room they have, what they are told, what they tell.

A worker holds one WebSocket. It sends an event until it is acknowledged; orders are kept until the worker that they are
for is gone, and sent again when it reconnects: they are idempotent.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.events import Event, WorkerConnected, WorkerReported
from jiffy.core.messages import describe, read_event
from jiffy.core.placement import Need, Refusal, Room, place
from jiffy.errors import InvalidError

logger = logging.getLogger(__name__)

RECONNECT_GRACE: Final = 3.0
"""Seconds that a worker has to come back before its containers are given up."""


class Listener(Protocol):
    """Who hears what workers tell."""

    async def worker_connected(self, event: WorkerConnected) -> None: ...
    async def events_arrived(self, worker_id: str, events: Sequence[tuple[int, Event]]) -> None: ...
    async def worker_lost(self, worker_id: str) -> None: ...


@dataclass(slots=True)
class Worker:
    """A worker that is connected, or was a moment ago. `orders`: task id -> what it was told last of it."""

    hello: WorkerConnected
    socket: web.WebSocketResponse | None = None
    report: WorkerReported | None = None
    orders: dict[str, list[Action]] = field(default_factory=dict)
    outbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    lost_timer: asyncio.TimerHandle | None = None


class Workers:
    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._reserved: dict[str, tuple[str, Need]] = {}
        self._expected: dict[str, asyncio.TimerHandle] = {}
        self._jobs: set[asyncio.Future[None]] = set()
        self.listener: Listener | None = None

    def place(self, need: Need) -> str | Refusal:
        """The worker that should run a container of this size, or why there is none."""
        return place(need, [self._room(worker) for worker in self._workers.values() if worker.socket is not None])

    def reserve(self, worker_id: str, task_id: str, need: Need) -> None:
        self._reserved[task_id] = (worker_id, need)

    def free(self, task_id: str) -> None:
        """The task has ended: give back its room, forget its orders."""
        worker_id, _ = self._reserved.pop(task_id, ("", None))
        if (worker := self._workers.get(worker_id)) is not None:
            worker.orders.pop(task_id, None)

    def send(self, worker_id: str, action: Action) -> None:
        """Tell a worker, now or when it reconnects. Nothing happens when it is gone for good."""
        if (worker := self._workers.get(worker_id)) is None:
            return
        orders = worker.orders.setdefault(action.task_id, [])
        if isinstance(action, StopContainer):
            orders[:] = [order for order in orders if isinstance(order, LaunchContainer)]
        orders.append(action)
        worker.outbox.put_nowait(_envelope(action))

    def expect(self, worker_ids: Iterable[str]) -> None:
        """Workers of an earlier server: they come back soon, or are lost."""
        loop = asyncio.get_running_loop()
        for worker_id in worker_ids:
            self._expected[worker_id] = loop.call_later(RECONNECT_GRACE, self._spawn, self._miss, worker_id)

    def connected(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.socket is not None]

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """The WebSocket of one worker, from its first message to its end."""
        socket = web.WebSocketResponse(heartbeat=10, max_msg_size=64 * 2**20)
        await socket.prepare(request)
        worker = await self._welcome(socket)
        sender = asyncio.ensure_future(_send_forever(worker, socket))
        try:
            await self._listen(worker, socket)
        finally:
            sender.cancel()
            self._part(worker, socket)
        return socket

    async def close(self) -> None:
        for timer in self._expected.values():
            timer.cancel()
        for worker in self._workers.values():
            if worker.lost_timer is not None:
                worker.lost_timer.cancel()
            if worker.socket is not None:
                await worker.socket.close()

    async def _welcome(self, socket: web.WebSocketResponse) -> Worker:
        hello = read_event(json.loads(await socket.receive_str())["event"])
        if not isinstance(hello, WorkerConnected):
            raise InvalidError("a worker must introduce itself first")
        if (timer := self._expected.pop(hello.worker_id, None)) is not None:
            timer.cancel()
        worker = self._workers.setdefault(hello.worker_id, Worker(hello))
        if worker.lost_timer is not None:
            worker.lost_timer.cancel()
        worker.hello, worker.socket, worker.outbox = hello, socket, asyncio.Queue()
        for order in [order for orders in worker.orders.values() for order in orders]:
            worker.outbox.put_nowait(_envelope(order))
        logger.info("worker %s connected, %d containers", hello.worker_id, len(hello.containers))
        if self.listener is not None:
            await self.listener.worker_connected(hello)
        return worker

    async def _listen(self, worker: Worker, socket: web.WebSocketResponse) -> None:
        """Events are taken in groups: all that has arrived is recorded in one transaction."""
        waiting: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()
        recorder = asyncio.ensure_future(self._record_forever(worker, waiting))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._receive(worker, json.loads(message.data), waiting)
        finally:
            waiting.put_nowait(None)
            await recorder

    def _receive(
        self, worker: Worker, envelope: dict[str, object], waiting: asyncio.Queue[tuple[int, Event] | None]
    ) -> None:
        event = read_event(envelope["event"])
        if isinstance(event, WorkerReported):
            worker.report = event
        elif not isinstance(event, WorkerConnected):
            waiting.put_nowait((int(str(envelope["sequence"])), event))

    async def _record_forever(self, worker: Worker, waiting: asyncio.Queue[tuple[int, Event] | None]) -> None:
        while (first := await waiting.get()) is not None:
            group = [first]
            while not waiting.empty() and (event := waiting.get_nowait()) is not None:
                group.append(event)
            if self.listener is not None:
                await self.listener.events_arrived(worker.hello.worker_id, group)
            worker.outbox.put_nowait(json.dumps({"acknowledged": group[-1][0]}))

    def _part(self, worker: Worker, socket: web.WebSocketResponse) -> None:
        if worker.socket is not socket:
            return
        worker.socket = None
        grace = 0.0 if socket.close_code == WSCloseCode.GOING_AWAY else RECONNECT_GRACE
        loop = asyncio.get_running_loop()
        worker.lost_timer = loop.call_later(grace, self._spawn, self._give_up, worker.hello.worker_id)

    async def _give_up(self, worker_id: str) -> None:
        if (worker := self._workers.get(worker_id)) is not None and worker.socket is None:
            del self._workers[worker_id]
            await self._report_loss(worker_id)

    async def _miss(self, worker_id: str) -> None:
        if self._expected.pop(worker_id, None) is not None:
            await self._report_loss(worker_id)

    async def _report_loss(self, worker_id: str) -> None:
        logger.warning("worker %s is lost", worker_id)
        if self.listener is not None:
            await self.listener.worker_lost(worker_id)

    def _spawn(self, work: Callable[[str], Awaitable[None]], worker_id: str) -> None:
        job = asyncio.ensure_future(work(worker_id))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _room(self, worker: Worker) -> Room:
        needs = [need for worker_id, need in self._reserved.values() if worker_id == worker.hello.worker_id]
        return Room(
            worker_id=worker.hello.worker_id,
            cpu_millis=worker.hello.cpu_millis,
            memory_bytes=worker.hello.memory_bytes,
            cpu_millis_reserved=sum(need.cpu_millis for need in needs),
            memory_bytes_reserved=sum(need.memory_bytes for need in needs),
        )


async def _send_forever(worker: Worker, socket: web.WebSocketResponse) -> None:
    outbox = worker.outbox
    while not socket.closed:
        await socket.send_str(await outbox.get())


def _envelope(action: Action) -> str:
    return json.dumps({"action": describe(action)})
