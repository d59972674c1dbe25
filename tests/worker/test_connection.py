"""A worker tells everything once, whatever becomes of its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import WSCloseCode, web

from jiffy.core.actions import Action, StopContainer
from jiffy.core.events import PROTOCOL, ContainerExited, ExitReason, LogWritten, WorkerConnected, WorkerReported
from jiffy.core.messages import describe
from jiffy.worker.connection import Connection, Outbox

HELLO = WorkerConnected("wo-1", (), 2000, 2**30, 9901, PROTOCOL)


def event(number: int) -> LogWritten:
    return LogWritten("ta-1", 1, str(number), 0.0)


def test_events_stay_until_they_are_acknowledged() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put(event(number))
    assert [sequence for sequence, _ in outbox.after(0)] == [1, 2, 3]
    outbox.acknowledge(2)
    assert [sequence for sequence, _ in outbox.after(0)] == [3]
    outbox.acknowledge(3)
    assert outbox.is_empty()


def test_logs_that_nobody_takes_fill_it() -> None:
    outbox = Outbox()
    for _ in range(65):
        outbox.put(LogWritten("ta-1", 1, "x" * 2**20, 0.0))
    assert outbox.is_full()
    outbox.acknowledge(65)
    assert not outbox.is_full()


def test_containers_whose_end_was_not_heard_are_known() -> None:
    outbox = Outbox()
    outbox.put(ContainerExited("ta-1", 0, ExitReason.FINISHED, "", 0.0))
    outbox.put(event(1))
    assert outbox.ended() == {"ta-1"}
    outbox.acknowledge(1)
    assert outbox.ended() == set()


class FakeServer:
    """Takes a worker's messages; acknowledges only when it is told to."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.codes: list[int | None] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            self.received.append(message.json())
        self.codes.append(socket.close_code)
        return socket

    def sequences(self) -> list[int]:
        return [message["sequence"] for message in self.received if "sequence" in message]

    async def await_sequences(self, count: int) -> list[int]:
        async with asyncio.timeout(10):
            while len(self.sequences()) < count:
                await asyncio.sleep(0.005)
        return self.sequences()


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    application = web.Application()
    application.router.add_get("/worker", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


class Worker:
    def __init__(self, server: FakeServer) -> None:
        self.orders: list[Action] = []
        self.connection = Connection(
            lambda: (f"http://127.0.0.1:{server.port}", "id:secret"),
            lambda: HELLO,
            lambda: WorkerReported("wo-1", 0.0, 0, 0),
            self.orders.append,
        )
        self.job = asyncio.ensure_future(self.connection.run())


@pytest.fixture
async def worker(fake: FakeServer) -> AsyncIterator[Worker]:
    running = Worker(fake)
    yield running
    running.job.cancel()
    await asyncio.gather(running.job, return_exceptions=True)


async def test_it_introduces_itself_first(fake: FakeServer, worker: Worker) -> None:
    worker.connection.outbox.put(event(1))
    await fake.await_sequences(1)
    assert fake.received[0]["event"]["kind"] == "WorkerConnected"


async def test_what_a_lost_server_did_not_acknowledge_is_told_to_the_next(fake: FakeServer, worker: Worker) -> None:
    for number in range(3):
        worker.connection.outbox.put(event(number))
    await fake.await_sequences(3)
    await fake.sockets[0].send_json({"acknowledged": 1})
    await fake.sockets[0].close()
    assert (await fake.await_sequences(5))[3:] == [2, 3]


async def test_orders_are_obeyed_and_nonsense_is_ignored(fake: FakeServer, worker: Worker) -> None:
    worker.connection.outbox.put(event(1))
    await fake.await_sequences(1)
    order = StopContainer("ta-1", "because", 1.0)
    await fake.sockets[0].send_json({"action": {"kind": "Nonsense"}})
    await fake.sockets[0].send_json({"action": describe(order)})
    async with asyncio.timeout(5):
        while not worker.orders:
            await asyncio.sleep(0.005)
    assert worker.orders == [order]


async def test_a_worker_that_ends_says_that_it_will_not_be_back(fake: FakeServer, worker: Worker) -> None:
    worker.connection.outbox.put(event(1))
    await fake.await_sequences(1)
    await worker.connection.leave()
    async with asyncio.timeout(5):
        while not fake.codes:
            await asyncio.sleep(0.005)
    assert fake.codes == [WSCloseCode.GOING_AWAY]
