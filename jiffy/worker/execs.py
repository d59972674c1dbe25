"""Commands that people run in containers beside what these run.

The worker connects to the server, as for a channel, and starts the command. What it prints is read only as fast as the
server takes it; when the server hangs up, the command is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import struct
import tempfile
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jiffy.core.actions import ExecInContainer
from jiffy.errors import JiffyError
from jiffy.execs import PIECE_BYTES, Kind, encode, read_frames
from jiffy.jobs import Jobs
from jiffy.runtime.bundle import describe_exec
from jiffy.runtime.oci import Runtime
from jiffy.runtime.process import Process
from jiffy.runtime.sessions import kill_session
from jiffy.tunnels import Stream, channel_header, close
from jiffy.worker.channels import Dial
from jiffy.worker.container import Container

logger = logging.getLogger(__name__)

_LINGER_SECONDS: Final = 0.1
"""How long output of processes that outlive the command is waited for."""

_END_OF_TERMINAL: Final = b"\x04"


class Execs:
    def __init__(self, runtime: Runtime, dial: Dial) -> None:
        self._runtime = runtime
        self._dial = dial
        self._jobs = Jobs()

    def begin(self, order: ExecInContainer, container: Container) -> None:
        self._jobs.begin(self._run(order, container))

    async def close(self) -> None:
        """What is under way is broken off."""
        await self._jobs.cancel()

    async def _run(self, order: ExecInContainer, container: Container) -> None:
        try:
            reader, writer = await self._dial(container.address)
        except (JiffyError, OSError) as error:
            logger.warning("a command in %s is not started: %s", order.task_id, error)
            return
        try:
            writer.write(channel_header(order.channel_id, is_open=container.runs))
            if container.runs:
                await self._carry(order, container, (reader, writer))
        finally:
            await close(writer)

    async def _carry(self, order: ExecInContainer, container: Container, server: Stream) -> None:
        try:
            started = self._start(order, container.bundle)
            async with started as ends:
                await _Command(ends, container.cgroup, order.timeout_seconds, server).run()
        except (JiffyError, OSError) as error:
            server[1].write(encode(Kind.FAILED, str(error).encode()[:PIECE_BYTES]))

    @asynccontextmanager
    async def _start(self, order: ExecInContainer, bundle: Path) -> AsyncIterator[_Ends]:
        """Have it run; our ends of its streams are closed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="exec-", dir=bundle))
        size = None if order.terminal is None else (order.terminal.rows, order.terminal.columns)
        process = describe_exec(bundle, order.argv, order.environment, order.working_directory, size)
        ends: _Ends | None = None
        try:
            if size is None:
                ends = await self._start_with_pipes(order, process, folder)
            else:
                command, terminal = await self._runtime.join_at_terminal(order.task_id, process, folder)
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
                ends = _Ends(command, terminal, {Kind.STDOUT: os.dup(terminal)}, is_terminal=True)
            yield ends
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if ends is not None:
                ends.close()

    async def _start_with_pipes(self, order: ExecInContainer, process: dict[str, object], folder: Path) -> _Ends:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:

            def pipe() -> tuple[int, int]:
                return os.pipe2(os.O_CLOEXEC)

            stdin, feed = pipe()
            theirs.callback(os.close, stdin)
            ours.callback(os.close, feed)
            outputs: dict[Kind, int] = {}
            writers: list[int] = []
            for kind in (Kind.STDOUT,) if order.joined else (Kind.STDOUT, Kind.STDERR):
                outputs[kind], writer = pipe()
                ours.callback(os.close, outputs[kind])
                theirs.callback(os.close, writer)
                writers.append(writer)
            command = await self._runtime.join(order.task_id, process, folder, (stdin, writers[0], writers[-1]))
            ours.pop_all()
            return _Ends(command, feed, outputs, is_terminal=False)


@dataclass(slots=True)
class _Ends:
    """Our ends of a command's streams. `stdin` is -1 once it was closed."""

    process: Process
    stdin: int
    outputs: dict[Kind, int]
    is_terminal: bool

    def __post_init__(self) -> None:
        for descriptor in (self.stdin, *self.outputs.values()):
            os.set_blocking(descriptor, False)

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        self.close_stdin()
        for descriptor in self.outputs.values():
            os.close(descriptor)


class _Command:
    """One that runs, until it has ended and the server knows, or the server hangs up."""

    def __init__(self, ends: _Ends, cgroup: str, timeout_seconds: int, server: Stream) -> None:
        self._ends = ends
        self._cgroup = cgroup
        self._timeout = timeout_seconds
        self._has_expired = False
        self._reader, self._writer = server
        self._saying = asyncio.Lock()
        self._input: asyncio.Queue[bytes] = asyncio.Queue()
        self._exit = asyncio.ensure_future(ends.process.wait())
        self._session = os.getsid(ends.process.pid)

    async def run(self) -> None:
        listening = asyncio.ensure_future(self._listen())
        others = [asyncio.ensure_future(work) for work in (self._tell(), self._feed(), self._expire())]
        try:
            await listening
        finally:
            for task in (listening, *others):
                task.cancel()
            await asyncio.gather(listening, *others, return_exceptions=True)
            if self._has_expired or not self._exit.done():
                await self._kill()
                self._exit.cancel()

    async def _expire(self) -> None:
        if self._timeout:
            await asyncio.sleep(self._timeout)
            self._has_expired = True
            await self._kill()

    async def _kill(self) -> None:
        """The whole session: a shell's jobs have groups of their own. A runtime may have begun the session itself."""
        self._ends.process.signal(signal.SIGKILL)
        if self._session != os.getsid(0):
            try:
                await kill_session(self._session, self._cgroup)
            except TimeoutError:
                logger.warning("processes of a command in %s do not die", self._cgroup)

    async def _listen(self) -> None:
        """To the server, until it hangs up: then nobody wants to know any more."""
        async for kind, data in read_frames(self._reader):
            if kind is Kind.STDIN and data:
                self._input.put_nowait(data)
            elif kind is Kind.STDIN_END:
                self._input.put_nowait(b"")

    async def _tell(self) -> None:
        await self._say(Kind.STARTED)
        async with asyncio.TaskGroup() as pumps:  # it waits for each of them also when it is broken off
            for kind, descriptor in self._ends.outputs.items():
                pumps.create_task(self._pump(kind, descriptor))
        code = await asyncio.shield(self._exit)
        await self._say(Kind.EXIT, str(code).encode())

    async def _say(self, kind: Kind, data: bytes = b"") -> None:
        async with self._saying:
            self._writer.write(encode(kind, data))
            await self._writer.drain()

    async def _pump(self, kind: Kind, descriptor: int) -> None:
        while (data := await self._read(descriptor)) != b"":
            await self._say(kind, data)

    async def _read(self, descriptor: int) -> bytes:
        """b"" at the end, which is when nobody has the other end, or the command has ended and left nothing."""
        loop = asyncio.get_running_loop()
        while True:
            had_ended = self._exit.done()
            try:
                return os.read(descriptor, PIECE_BYTES)
            except BlockingIOError:
                pass
            except OSError:  # EIO: of a terminal that nobody has open any more
                return b""
            readable = _when(loop.add_reader, loop.remove_reader, descriptor)
            if not had_ended:
                await _first(readable, self._exit)
            elif not await _first(readable, timeout=_LINGER_SECONDS):
                return b""

    async def _feed(self) -> None:
        while data := await self._input.get():
            await self._write(data)
            await self._say(Kind.TAKEN)
        if self._ends.is_terminal:
            await self._write(_END_OF_TERMINAL)
        else:
            self._ends.close_stdin()

    async def _write(self, data: bytes) -> None:
        """What a command does not read any more is dropped."""
        loop = asyncio.get_running_loop()
        while data:
            try:
                data = data[os.write(self._ends.stdin, data) :]
            except BlockingIOError:
                await _first(_when(loop.add_writer, loop.remove_writer, self._ends.stdin))
            except OSError:
                return


async def _when(add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool], descriptor: int) -> None:
    """Until a descriptor is ready."""
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def _first(
    waited: Awaitable[None], other: asyncio.Future[int] | None = None, *, timeout: float | None = None
) -> bool:
    """Wait for one of two; False when neither came in time."""
    task: asyncio.Future[None] = asyncio.ensure_future(waited)
    both: list[asyncio.Future[Any]] = [task] if other is None else [task, other]
    try:
        done, _ = await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
