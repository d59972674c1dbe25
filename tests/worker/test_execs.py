"""The worker's end of commands in containers, with a runtime that starts them on this host."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from jiffy.core.actions import ExecInContainer, Terminal
from jiffy.errors import JiffyError
from jiffy.execs import PIECE_BYTES, Kind, encode, read_frames
from jiffy.runtime.bundle import write_bundle
from jiffy.runtime.oci import Runtime
from jiffy.runtime.process import Process
from jiffy.tunnels import CHANNEL_HEADER_BYTES, Stream, read_channel_header
from jiffy.worker.container import Container
from jiffy.worker.execs import Execs
from tests.runtime.test_bundle import SPEC

CHANNEL = "0123456789abcdef" * 2
Frames = list[tuple[Kind, bytes]]


@dataclass
class HostRuntime:
    """Commands get the words and the environment that are described."""

    pids: list[int] = field(default_factory=list)

    async def join(
        self, identifier: str, process: Mapping[str, Any], folder: Path, stdio: tuple[int, int, int]
    ) -> Process:
        return self._note(spawn(process, stdio))

    async def join_at_terminal(self, identifier: str, process: Mapping[str, Any], folder: Path) -> tuple[Process, int]:
        pid, terminal = pty.fork()
        if pid == 0:
            size = process["consoleSize"]
            termios.tcsetwinsize(0, (size["height"], size["width"]))
            os.execvp(process["args"][0], process["args"])
        return self._note(pid), terminal

    def _note(self, pid: int) -> Process:
        self.pids.append(pid)
        return Process(pid)


def spawn(process: Mapping[str, Any], stdio: tuple[int, int, int]) -> int:
    """In a session of its own."""
    argv = process["args"]
    environment = dict(entry.split("=", 1) for entry in process["env"])
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in enumerate(stdio)]
    try:
        return os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True)
    except FileNotFoundError as error:
        raise JiffyError("it is not there", why=str(error)) from error


@dataclass
class FakeContainer:
    bundle: Path
    runs: bool = True
    address: str = "10.0.0.2"
    cgroup: str = "jiffy-absent/ta-1"


class Server:
    """What the server hears and says on the channel of one command."""

    def __init__(self, stream: Stream) -> None:
        self.reader, self._writer = stream

    async def read_header(self) -> tuple[str, bool]:
        return read_channel_header(await self.reader.readexactly(CHANNEL_HEADER_BYTES))

    async def hear(self, until: Kind) -> Frames:
        """All that is said up to the first of a kind."""
        heard: Frames = []
        async for frame in read_frames(self.reader):
            heard.append(frame)
            if frame[0] is until:
                break
        return heard

    async def hear_text(self, text: bytes) -> None:
        """Which is all that is printed for now."""
        heard = b""
        while heard != text:
            heard += of(Kind.STDOUT, await self.hear(Kind.STDOUT))
            assert text.startswith(heard)

    async def hear_all(self) -> Frames:
        """Up to the end, and hang up."""
        heard = await self.hear(Kind.EXIT)
        self.hang_up()
        return heard

    def say(self, kind: Kind, data: bytes = b"") -> None:
        self._writer.write(encode(kind, data))

    def hang_up(self) -> None:
        self._writer.close()


class Worker:
    def __init__(self, bundle: Path) -> None:
        self.runtime = HostRuntime()
        self.container = FakeContainer(bundle)
        self.execs = Execs(cast(Runtime, self.runtime), self._dial)
        self._servers: asyncio.Queue[Server] = asyncio.Queue()

    async def begin(self, *argv: str, **more: Any) -> Server:
        order = replace(ExecInContainer("ta-1", CHANNEL, argv), **more)
        self.execs.begin(order, cast(Container, self.container))
        return await self._servers.get()

    async def begun(self, *argv: str, **more: Any) -> Server:
        """One that was said to have started."""
        server = await self.begin(*argv, **more)
        assert await server.read_header() == (CHANNEL, True)
        assert await server.hear(Kind.STARTED) == [(Kind.STARTED, b"")]
        return server

    async def _dial(self, address: str) -> Stream:
        assert address == self.container.address
        ours, theirs = socket.socketpair()
        self._servers.put_nowait(Server(await asyncio.open_connection(sock=theirs)))
        return await asyncio.open_connection(sock=ours)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """Afterwards nothing of its commands is left in the bundle, and none of them runs."""
    environment = {"PATH": os.environ["PATH"], "OF_THE_IMAGE": "yes"}
    write_bundle(replace(SPEC, environment=environment), tmp_path)
    opened = Worker(tmp_path)
    yield opened
    await opened.execs.close()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    for pid in opened.runtime.pids:
        await until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def of(kind: Kind, frames: Frames) -> bytes:
    return b"".join(data for each, data in frames if each is kind)


async def test_both_outputs_and_the_exit_code_are_told(worker: Worker) -> None:
    server = await worker.begun(
        "sh", "-c", "echo $OF_THE_IMAGE $MINE; echo error >&2; exit 3", environment={"MINE": "1"}
    )
    heard = await server.hear_all()
    assert of(Kind.STDOUT, heard) == b"yes 1\n"
    assert of(Kind.STDERR, heard) == b"error\n"
    assert heard[-1] == (Kind.EXIT, b"3")


async def test_joined_outputs_are_one_in_order(worker: Worker) -> None:
    server = await worker.begun("sh", "-c", "echo one; echo two >&2; echo three", joined=True)
    heard = await server.hear_all()
    assert of(Kind.STDOUT, heard) == b"one\ntwo\nthree\n"
    assert of(Kind.STDERR, heard) == b""


async def test_much_output_comes_in_pieces_and_whole(worker: Worker) -> None:
    server = await worker.begun("sh", "-c", "yes | head -c 5000000")
    heard = await server.hear_all()
    assert of(Kind.STDOUT, heard) == b"y\n" * 2_500_000
    assert max(len(data) for _, data in heard) <= PIECE_BYTES


async def test_input_is_told_to_be_taken_and_ends(worker: Worker) -> None:
    server = await worker.begun("tr", "a-z", "A-Z")
    heard: Frames = []
    for piece in (b"one ", b"two " * 10_000):
        server.say(Kind.STDIN, piece)
        heard += await server.hear(Kind.TAKEN)
    server.say(Kind.STDIN_END)
    heard += await server.hear_all()
    assert of(Kind.STDOUT, heard) == b"ONE " + b"TWO " * 10_000
    assert heard[-1] == (Kind.EXIT, b"0")


async def test_input_that_is_not_read_is_dropped(worker: Worker) -> None:
    server = await worker.begun("sh", "-c", "exec <&-; echo closed; exec sleep 1000")
    await server.hear_text(b"closed\n")
    for _ in range(5):
        server.say(Kind.STDIN, bytes(PIECE_BYTES))
        assert await server.hear(Kind.TAKEN) == [(Kind.TAKEN, b"")]
    server.hang_up()


async def test_one_that_does_not_start_says_why(worker: Worker) -> None:
    server = await worker.begin("no-such-program")
    assert await server.read_header() == (CHANNEL, True)
    ((kind, why),) = await server.hear_all()
    assert kind is Kind.FAILED and b"it is not there" in why and b"no-such-program" in why


async def test_before_a_container_runs_its_channel_is_shut(worker: Worker) -> None:
    worker.container.runs = False
    server = await worker.begin("true")
    assert await server.read_header() == (CHANNEL, False)
    assert await server.reader.read() == b""
    assert worker.runtime.pids == []
    server.hang_up()


async def test_one_that_nobody_wants_to_know_of_any_more_is_killed(worker: Worker) -> None:
    server = await worker.begun("sh", "-c", "trap '' HUP TERM; exec sleep 1000")
    server.hang_up()
    (pid,) = worker.runtime.pids
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def test_one_that_takes_too_long_is_killed(worker: Worker) -> None:
    server = await worker.begun("sleep", "1000", timeout_seconds=1)
    assert await server.hear_all() == [(Kind.EXIT, b"137")]


async def test_what_it_leaves_behind_does_not_hold_up_its_end(worker: Worker) -> None:
    server = await worker.begun("sh", "-c", "sleep 1000 & echo $!")
    heard = await server.hear_all()
    assert heard[-1] == (Kind.EXIT, b"0")
    os.kill(int(of(Kind.STDOUT, heard)), 9)


async def test_a_terminal_has_its_size_and_an_end(worker: Worker) -> None:
    server = await worker.begun("sh", "-c", "stty size; cat; tty", terminal=Terminal(24, 80))
    await server.hear_text(b"24 80\r\n")
    server.say(Kind.STDIN, b"typed\n")
    server.say(Kind.STDIN_END)
    heard = await server.hear_all()
    *typed, name, _ = of(Kind.STDOUT, heard).split(b"\r\n")
    assert typed == [b"typed", b"typed"], "it is shown, and then printed"
    assert name.startswith(b"/dev/pts/")
    assert heard[-1] == (Kind.EXIT, b"0")


async def test_all_end_with_the_worker(worker: Worker) -> None:
    servers = [await worker.begun("sleep", "1000") for _ in range(3)]
    await worker.execs.close()
    for server in servers:
        assert await server.hear(Kind.EXIT) == []
        server.hang_up()


@asynccontextmanager
async def without_a_server(worker: Worker) -> AsyncIterator[Execs]:
    async def refuse(address: str) -> Stream:
        raise ConnectionRefusedError("nobody there")

    execs = Execs(cast(Runtime, worker.runtime), refuse)
    yield execs
    await execs.close()


async def test_where_no_server_is_reached_nothing_is_started(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    async with without_a_server(worker) as execs:
        execs.begin(ExecInContainer("ta-1", CHANNEL, ("true",)), cast(Container, worker.container))
        await until(lambda: "is not started: nobody there" in caplog.text)
    assert worker.runtime.pids == []
