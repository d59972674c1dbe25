"""Channels: the worker is ordered to connect, and what comes is told apart by a secret."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from jiffy.core.actions import ExecInContainer, OpenChannel
from jiffy.errors import UnavailableError
from jiffy.server.channels import Channels, Order
from jiffy.tunnels import channel_header
from jiffy.unix_sockets import connect_to


class FakeWorker:
    """Obeys, as `obey` says: with True as soon as the order comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: bool | None = True
        self.ordered: list[Order] = []
        self.jobs: list[asyncio.Task[None]] = []

    def send(self, worker_id: str, order: Order) -> None:
        self.ordered.append(order)
        if self.answers is not None:
            header = channel_header(order.channel_id, is_open=self.answers)
            self.jobs.append(asyncio.get_running_loop().create_task(self.connect(header + b"first bytes")))

    async def connect(self, said: bytes) -> None:
        connection = await connect_to(self.path)
        await asyncio.get_running_loop().sock_sendall(connection, said)
        connection.close()


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[FakeWorker]:
    yield FakeWorker(tmp_path / "socket")


@pytest.fixture
async def channels(worker: FakeWorker) -> AsyncIterator[Channels]:
    channels = Channels(worker.path, worker.send)
    accepting = asyncio.ensure_future(channels.accept_forever())
    await asyncio.sleep(0)
    yield channels
    accepting.cancel()
    with suppress(asyncio.CancelledError):
        await accepting


async def read(connection: socket.socket) -> bytes:
    with connection:
        return await asyncio.get_running_loop().sock_recv(connection, 100)


async def test_a_channel_is_a_connection_to_the_container(channels: Channels, worker: FakeWorker) -> None:
    connection = await channels.open("wo-1", "ta-1", 8000)
    assert await read(connection) == b"first bytes", "the header is taken off, and nothing else"
    (order,) = worker.ordered
    assert isinstance(order, OpenChannel)
    assert (order.task_id, order.port) == ("ta-1", 8000)


async def test_a_channel_may_be_to_a_command(channels: Channels, worker: FakeWorker) -> None:
    order = ExecInContainer("ta-1", "", ("ls", "-l"))
    assert await read(await channels.exec("wo-1", order)) == b"first bytes"
    (sent,) = worker.ordered
    assert isinstance(sent, ExecInContainer)
    assert sent.argv == ("ls", "-l") and len(sent.channel_id) == 32
    worker.answers = False
    with pytest.raises(UnavailableError, match="container ta-1 is not started yet"):
        await channels.exec("wo-1", order)


async def test_a_port_where_nobody_listens_is_told(channels: Channels, worker: FakeWorker) -> None:
    worker.answers = False
    with pytest.raises(UnavailableError, match="nobody answers on port 8000"):
        await channels.open("wo-1", "ta-1", 8000)


async def test_who_does_not_know_the_secret_gets_nothing(channels: Channels, worker: FakeWorker) -> None:
    worker.answers = None
    opening = asyncio.ensure_future(channels.open("wo-1", "ta-1", 8000))
    await asyncio.sleep(0)
    for said in (channel_header("0" * 32, is_open=True), b"short", b"\xff" * 33):
        stranger = await connect_to(worker.path)
        await asyncio.get_running_loop().sock_sendall(stranger, said)
        if len(said) == 33:
            assert await read(stranger) == b"", "it is hung up"
        stranger.close()
    assert not opening.done()
    await worker.connect(channel_header(worker.ordered[0].channel_id, is_open=True) + b"it is me")
    assert await read(await opening) == b"it is me"


async def test_a_worker_that_does_not_answer_is_given_up(
    channels: Channels, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jiffy.server.channels._OPEN_SECONDS", 0.05)
    worker.answers = None
    with pytest.raises(UnavailableError, match="its worker does not answer"):
        await channels.open("wo-1", "ta-1", 8000)
    await worker.connect(channel_header(worker.ordered[0].channel_id, is_open=True))
