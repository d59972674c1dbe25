"""The workers' connections: what they are told, what they tell.

A worker holds one WebSocket. It sends an event until it is acknowledged; orders are kept until the worker that they are
for is gone, and sent again when it reconnects: they are idempotent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from jiffy.core.actions import Action, ExecInContainer, LaunchContainer, OpenChannel, StopContainer
from jiffy.core.events import PROTOCOL, Event, VolumeAnswered, WorkerConnected, WorkerReported
from jiffy.core.messages import describe, read_event
from jiffy.core.placement import Room
from jiffy.errors import ConflictError, InvalidError, JiffyError, UnavailableError
from jiffy.jobs import Jobs
from jiffy.version import VERSION

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0


class Listener(Protocol):
    """Who hears what workers tell."""

    async def worker_connected(self, event: WorkerConnected, room: Room) -> None: ...
    async def events_arrived(self, worker_id: str, events: Sequence[tuple[int, Event]]) -> None: ...
    def worker_reported(self, report: WorkerReported, room: Room) -> None: ...
    def worker_disconnected(self, worker_id: str, *, for_good: bool) -> None: ...
    async def worker_fenced(self, worker_id: str) -> None: ...


class Socket(Protocol):
    """A connection that carries text."""

    @property
    def closed(self) -> bool: ...
    @property
    def close_code(self) -> int | None: ...
    async def receive_str(self) -> str: ...
    async def send_str(self, data: str) -> None: ...
    async def close(self) -> Any: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...


@dataclass(slots=True)
class Worker:
    """A worker that is connected, or was a moment ago. `orders`: task id -> what it was told last of it."""

    hello: WorkerConnected
    socket: Socket | None = None
    report: WorkerReported | None = None
    orders: dict[str, list[Action]] = field(default_factory=dict)
    outbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def room(self) -> Room:
        report = self.report
        return Room(
            worker_id=self.hello.worker_id,
            cpu_millis=self.hello.cpu_millis,
            memory_bytes=self.hello.memory_bytes,
            gpus=self.hello.gpus,
            gpu_type=self.hello.gpu_type,
            labels=frozenset(self.hello.labels),
            layers=frozenset() if report is None else frozenset(report.layers),
            leaving=self.hello.leaving if report is None else report.leaving,
        )


class Workers:
    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._jobs = Jobs()
        self.listener: Listener | None = None

    def send(self, worker_id: str, action: Action) -> None:
        """Tell a worker, now or when it reconnects. Nothing happens when it is gone for good."""
        if (worker := self._workers.get(worker_id)) is None:
            return
        orders = worker.orders.setdefault(action.task_id, [])
        if isinstance(action, StopContainer):
            orders[:] = [order for order in orders if isinstance(order, LaunchContainer)]
        orders.append(action)
        worker.outbox.put_nowait(_envelope(action))

    def send_now(self, worker_id: str, action: OpenChannel | ExecInContainer) -> None:
        """Tell a worker what is of use at once or not at all; UnavailableError when it is not connected."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.socket is None:
            raise UnavailableError(f"worker {worker_id} is not connected")
        worker.outbox.put_nowait(_envelope(action))

    def forget(self, worker_id: str, task_id: str) -> None:
        """The task has ended: its orders need not be sent again."""
        if (worker := self._workers.get(worker_id)) is not None:
            worker.orders.pop(task_id, None)

    def fence(self, worker_id: str) -> None:
        """Have nothing to do with a worker any more. If it lives, it introduces itself again."""
        logger.warning("worker %s is lost", worker_id)
        worker = self._workers.pop(worker_id, None)
        if worker is not None and worker.socket is not None:
            self._jobs.begin(_close(worker.socket))
        if self.listener is not None:
            self._jobs.begin(self.listener.worker_fenced(worker_id))

    def connected(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.socket is not None]

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """The WebSocket of one worker, from its first message to its end."""
        socket = web.WebSocketResponse(heartbeat=10, max_msg_size=64 * 2**20)
        await socket.prepare(request)
        await self.talk(socket)
        return socket

    async def talk(self, socket: Socket) -> None:
        """With one worker, until its end. One that cannot be understood is told why."""
        try:
            worker = await self._welcome(socket)
        except (InvalidError, ConflictError) as error:
            logger.error("%s", error)
            await socket.send_str(json.dumps({"refused": str(error)}))
            await socket.close()
            return
        sender = asyncio.ensure_future(_send_forever(worker, socket))
        try:
            await self._listen(worker, socket)
        finally:
            sender.cancel()
            self._part(worker, socket)

    async def close(self) -> None:
        for worker in list(self._workers.values()):
            if worker.socket is not None:
                await worker.socket.close()

    async def _welcome(self, socket: Socket) -> Worker:
        hello = read_event(json.loads(await socket.receive_str())["event"])
        if not isinstance(hello, WorkerConnected):
            raise InvalidError("a worker must introduce itself first")
        if hello.protocol != PROTOCOL:
            raise ConflictError(
                f"worker {hello.worker_id} cannot join",
                why=f"it runs jiffy {hello.version}, whose protocol is {hello.protocol}; this is {VERSION} with {PROTOCOL}",
                hint="run the same version of jiffy on both",
            )
        worker = self._workers.setdefault(hello.worker_id, Worker(hello))
        if worker.socket is not None:
            self._jobs.begin(_close(worker.socket))
        worker.hello, worker.socket, worker.outbox, worker.report = hello, socket, asyncio.Queue(), None
        for order in [order for orders in worker.orders.values() for order in orders]:
            worker.outbox.put_nowait(_envelope(order))
        logger.info("worker %s connected, %d containers", hello.worker_id, len(hello.containers))
        if self.listener is not None:
            await self.listener.worker_connected(hello, worker.room())
        return worker

    async def _listen(self, worker: Worker, socket: Socket) -> None:
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
            if self.listener is not None and self._workers.get(event.worker_id) is worker:
                self.listener.worker_reported(event, worker.room())
        elif not isinstance(event, WorkerConnected):
            if isinstance(event, VolumeAnswered):
                _drop_order(worker.orders.get(event.task_id, []), event.request_id)
            waiting.put_nowait((int(str(envelope["sequence"])), event))

    async def _record_forever(self, worker: Worker, waiting: asyncio.Queue[tuple[int, Event] | None]) -> None:
        """Until None is there, which is the last."""
        is_over = False
        while not is_over:
            group = [await waiting.get()]
            while not waiting.empty():
                group.append(waiting.get_nowait())
            is_over = group[-1] is None
            if events := [event for event in group if event is not None]:
                await self._record(worker.hello.worker_id, events)
                worker.outbox.put_nowait(json.dumps({"acknowledged": events[-1][0]}))

    async def _record(self, worker_id: str, group: Sequence[tuple[int, Event]]) -> None:
        """A store that fails is asked again: the worker tells each event once in a connection."""
        while self.listener is not None:
            try:
                await self.listener.events_arrived(worker_id, group)
                return
            except JiffyError as error:
                logger.error("what worker %s tells is recorded later: %s", worker_id, error)
                await asyncio.sleep(_RETRY_SECONDS)

    def _part(self, worker: Worker, socket: Socket) -> None:
        if worker.socket is not socket:
            return
        worker.socket = None
        if self.listener is not None and self._workers.get(worker.hello.worker_id) is worker:
            for_good = socket.close_code == WSCloseCode.GOING_AWAY
            self.listener.worker_disconnected(worker.hello.worker_id, for_good=for_good)


def _drop_order(orders: list[Action], request_id: str) -> None:
    """One that was obeyed need not be sent again."""
    orders[:] = [order for order in orders if getattr(order, "request_id", None) != request_id]


async def _close(socket: Socket) -> None:
    """A worker that hangs does not answer."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(socket.close(), _CLOSE_SECONDS)


async def _send_forever(worker: Worker, socket: Socket) -> None:
    outbox = worker.outbox
    while not socket.closed:
        await socket.send_str(await outbox.get())


def _envelope(action: Action) -> str:
    return json.dumps({"action": describe(action)})
