"""Commands in containers, with a stand-in of the worker at the other end of the channel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from jiffy.core.actions import ExecInContainer
from jiffy.errors import InvalidError, NotFoundError
from jiffy.execs import PIECE_BYTES, Kind, encode, read_frames
from jiffy.server import execs as execs_module
from jiffy.server.channels import Channels
from jiffy.server.execs import Execs

ORDER = ExecInContainer("ta-1", "", ("true",))


class FakeWorker:
    """Hands out channels, and keeps what it is told. `begins`: what it says of the command at first."""

    def __init__(self) -> None:
        self.begins = encode(Kind.STARTED)
        self.started = 0
        self.heard: list[tuple[Kind, bytes]] = []
        self.hung_up = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []

    async def exec(self, worker_id: str, order: ExecInContainer) -> socket.socket:
        self.started += 1
        theirs, ours = socket.socketpair()
        reader, self.writer = await asyncio.open_connection(sock=ours)
        self._jobs.append(asyncio.ensure_future(self._listen(reader)))
        self.writer.write(self.begins)
        return theirs

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for kind, data in read_frames(reader):
            self.heard.append((kind, data))
            if kind is Kind.STDIN:
                self.writer.write(encode(Kind.TAKEN))
        self.hung_up.set()

    def say(self, *frames: tuple[Kind, bytes]) -> None:
        for kind, data in frames:
            self.writer.write(encode(kind, data))


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
async def execs(worker: FakeWorker) -> AsyncIterator[Execs]:
    opened = Execs(cast(Channels, worker))
    yield opened
    await opened.close()


async def test_output_and_exit_code_are_told(execs: Execs, worker: FakeWorker) -> None:
    await execs.start("wo-1", "ex-1", ORDER)
    found = await execs.find("ta-1", "ex-1")
    assert found.peek() is None
    worker.say((Kind.STDOUT, b"out"), (Kind.STDERR, b"error"), (Kind.EXIT, b"3"))
    with found.attended():
        assert b"".join([piece async for piece in found.stdout.read(0)]) == b"out"
        assert b"".join([piece async for piece in found.stderr.read(0)]) == b"error"
        assert await found.wait() == 3
    assert found.peek() == 3


async def test_one_that_is_started_again_is_the_same(execs: Execs, worker: FakeWorker) -> None:
    await asyncio.gather(*(execs.start("wo-1", "ex-1", ORDER) for _ in range(3)))
    await execs.start("wo-1", "ex-1", ORDER)
    assert worker.started == 1
    await execs.start("wo-1", "ex-2", ORDER)
    assert worker.started == 2


async def test_one_that_does_not_start_says_why_and_may_be_tried_again(execs: Execs, worker: FakeWorker) -> None:
    worker.begins = encode(Kind.FAILED, b"no such file")
    with pytest.raises(InvalidError, match="no such file"):
        await execs.start("wo-1", "ex-1", ORDER)
    worker.begins = encode(Kind.STARTED)
    await execs.start("wo-1", "ex-1", ORDER)


async def test_input_is_given_once_whatever_is_sent_again(execs: Execs, worker: FakeWorker) -> None:
    await execs.start("wo-1", "ex-1", ORDER)
    found = await execs.find("ta-1", "ex-1")
    data = bytes(range(256)) * 1000
    with found.attended():
        await found.write(0, data, is_end=False)
        await found.write(0, data, is_end=False)
        await found.write(len(data) - 3, data[-3:] + b"more", is_end=True)
        with pytest.raises(InvalidError, match="leaves a gap"):
            await found.write(len(data) + 10, b"x", is_end=False)
    while (Kind.STDIN_END, b"") not in worker.heard:
        await asyncio.sleep(0.01)
    given = [piece for kind, piece in worker.heard if kind is Kind.STDIN]
    assert b"".join(given) == data + b"more"
    assert max(map(len, given)) == PIECE_BYTES


async def test_one_that_nobody_attends_to_is_ended(
    execs: Execs, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execs_module, "ABANDONED_SECONDS", 0.05)
    await execs.start("wo-1", "ex-1", ORDER)
    await asyncio.wait_for(worker.hung_up.wait(), 5)
    with pytest.raises(NotFoundError, match="no command ex-1"):
        await execs.find("ta-1", "ex-1")


async def test_a_connection_that_breaks_leaves_the_end_unknown(execs: Execs, worker: FakeWorker) -> None:
    await execs.start("wo-1", "ex-1", ORDER)
    found = await execs.find("ta-1", "ex-1")
    with found.attended():
        worker.writer.close()
        with pytest.raises(NotFoundError, match="output breaks off"):
            await anext(found.stdout.read(0))
        with pytest.raises(NotFoundError, match="how the command ended is not known"):
            await found.wait()


async def test_of_commands_on_a_lost_worker_nothing_is_waited_for(execs: Execs, worker: FakeWorker) -> None:
    await execs.start("wo-1", "ex-1", ORDER)
    await execs.start("wo-2", "ex-2", ORDER)
    worker.say((Kind.STDOUT, b"out"))
    lost, other = await execs.find("ta-1", "ex-1"), await execs.find("ta-1", "ex-2")
    with lost.attended(), other.attended():
        execs.worker_lost("wo-1")
        with pytest.raises(NotFoundError, match="how the command ended is not known"):
            await lost.wait()
        with pytest.raises(NotFoundError, match="output breaks off"):
            await anext(lost.stderr.read(0))
        assert other.peek() is None
        assert await anext(other.stdout.read(0)) == b"out"
