"""Commands that people run in containers: what the server knows of each, and its channel to the worker that runs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from jiffy.core.actions import ExecInContainer
from jiffy.errors import InvalidError, NotFoundError, UnavailableError
from jiffy.execs import PIECE_BYTES, Kind, encode, read_frames
from jiffy.jobs import Jobs
from jiffy.server.channels import Channels
from jiffy.server.command_output import CommandOutput
from jiffy.tunnels import Stream, close

logger = logging.getLogger(__name__)

ABANDONED_SECONDS: Final = 5.0
"""A command that nobody reads or waits for is ended, and forgotten: whoever ran it is gone."""

_START_SECONDS: Final = 40.0
_BUFFER_BYTES: Final = 2 * PIECE_BYTES


class Execs:
    """Each has an id that its client chose: one that is started again is the same."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._begun: dict[tuple[str, str], asyncio.Task[Exec]] = {}
        self._jobs = Jobs()

    async def start(
        self, worker_id: str, exec_id: str, order: ExecInContainer, unwanted: Collection[Kind] = ()
    ) -> None:
        """Returns when it runs. InvalidError when it cannot be run. `unwanted` are outputs that nobody will read."""
        key = (order.task_id, exec_id)
        if key not in self._begun:
            self._begun[key] = asyncio.ensure_future(self._start(key, worker_id, order, unwanted))
            self._begun[key].add_done_callback(partial(self._note_start, key))
        await asyncio.shield(self._begun[key])

    async def find(self, task_id: str, exec_id: str) -> Exec:
        if (begun := self._begun.get((task_id, exec_id))) is None:
            raise NotFoundError(
                f"no command {exec_id} runs in container {task_id}",
                why="it was ended when nobody waited for it, or when the server was started again",
            )
        return await asyncio.shield(begun)

    def worker_lost(self, worker_id: str) -> None:
        """Nothing is heard of its commands any more. Their channels do not break by themselves when its host was cut off."""
        for found in self._found():
            if found.worker_id == worker_id:
                found.break_off()

    async def close(self) -> None:
        """Commands end with the server."""
        for begun in list(self._begun.values()):
            begun.cancel()
        await self._jobs.cancel()

    async def _start(
        self, key: tuple[str, str], worker_id: str, order: ExecInContainer, unwanted: Collection[Kind]
    ) -> Exec:
        connection = await self._channels.exec(worker_id, order)
        stream = await asyncio.open_connection(sock=connection, limit=_BUFFER_BYTES)
        found = Exec(worker_id, stream, lambda: self._forget(key), unwanted)
        self._jobs.begin(found.run())
        try:
            with found.attended():
                await asyncio.wait_for(found.begun, _START_SECONDS)
        except BaseException as error:
            found.hang_up()
            if isinstance(error, TimeoutError):
                raise UnavailableError("the command is not started: its worker does not answer") from None
            raise
        return found

    def _found(self) -> list[Exec]:
        """Those that were started."""
        begun = [task for task in self._begun.values() if task.done() and not task.cancelled()]
        return [task.result() for task in begun if task.exception() is None]

    def _note_start(self, key: tuple[str, str], begun: asyncio.Task[Exec]) -> None:
        """One that did not start may be tried again."""
        if begun.cancelled() or begun.exception() is not None:
            self._begun.pop(key, None)

    def _forget(self, key: tuple[str, str]) -> None:
        if (begun := self._begun.pop(key, None)) is not None:
            self._jobs.begin(self._end(begun))

    async def _end(self, begun: asyncio.Task[Exec]) -> None:
        (await begun).hang_up()


class Exec:
    """One command. `abandoned` is called when nobody has attended to it for a while."""

    def __init__(
        self, worker_id: str, stream: Stream, abandoned: Callable[[], None], unwanted: Collection[Kind] = ()
    ) -> None:
        loop = asyncio.get_running_loop()
        self.worker_id = worker_id
        self._reader, self._writer = stream
        self._abandoned = abandoned
        self._attending = 0
        self._alarm = loop.call_later(ABANDONED_SECONDS, abandoned)
        self._taken = asyncio.Event()
        self._taken.set()
        self._writing = asyncio.Lock()
        self._written = 0
        self._is_closed = False
        self._ended = asyncio.Event()
        self._code: int | None = None
        self.begun: asyncio.Future[None] = loop.create_future()
        self.stdout = CommandOutput(is_kept=Kind.STDOUT not in unwanted)
        self.stderr = CommandOutput(is_kept=Kind.STDERR not in unwanted)

    async def run(self) -> None:
        """Hear what the worker tells, until the command has ended."""
        try:
            async for kind, data in read_frames(self._reader):
                await self._hear(kind, data)
                if self._code is not None:
                    break
        finally:
            self._end()
            await close(self._writer)

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Somebody cares what becomes of it."""
        self._alarm.cancel()
        self._attending += 1
        try:
            yield
        finally:
            self._attending -= 1
            if self._attending == 0:
                self._alarm = asyncio.get_running_loop().call_later(ABANDONED_SECONDS, self._abandoned)

    async def write(self, offset: int, data: bytes, *, is_end: bool) -> None:
        """Give it input from a byte on: what was given before is not given again, what it has no use for is dropped."""
        async with self._writing:
            if offset > self._written:
                raise InvalidError(f"input from byte {offset} on leaves a gap", why=f"{self._written} bytes were given")
            rest = data[self._written - offset :]
            for start in range(0, len(rest), PIECE_BYTES):
                await self._taken.wait()
                if self._ended.is_set() or self._is_closed:
                    return
                self._taken.clear()
                piece = rest[start : start + PIECE_BYTES]
                self._writer.write(encode(Kind.STDIN, piece))
                self._written += len(piece)
            if is_end and not self._is_closed:
                self._is_closed = True
                self._writer.write(encode(Kind.STDIN_END))

    async def wait(self) -> int:
        """How it ended, when those that read its output have all of it. NotFoundError when that will not be known."""
        await self._ended.wait()
        await self.stdout.settle()
        await self.stderr.settle()
        code = self.peek()
        assert code is not None
        return code

    def peek(self) -> int | None:
        """How it ended; None while it runs."""
        if self._ended.is_set() and self._code is None:
            raise NotFoundError("how the command ended is not known", why="the connection to its worker broke")
        return self._code

    def hang_up(self) -> None:
        """Have it killed, if it runs."""
        self._alarm.cancel()
        self.break_off()

    def break_off(self) -> None:
        """No more is heard of it, and input that is still on its way is of no use."""
        self._writer.transport.abort()
        self._finish()

    async def _hear(self, kind: Kind, data: bytes) -> None:
        match kind:
            case Kind.STARTED:
                self.begun.set_result(None)
            case Kind.FAILED if not self.begun.done():
                self.begun.set_exception(InvalidError("the command does not start", why=data.decode(errors="replace")))
            case Kind.STDOUT:
                await self.stdout.write(data)
            case Kind.STDERR:
                await self.stderr.write(data)
            case Kind.TAKEN:
                self._taken.set()
            case Kind.EXIT:
                self._code = int(data)

    def _end(self) -> None:
        self._ended.set()
        self._taken.set()
        self._finish()
        if not self.begun.done():
            self.begun.set_exception(UnavailableError("the command is not started: its worker hung up"))

    def _finish(self) -> None:
        for output in (self.stdout, self.stderr):
            output.finish(is_whole=self._code is not None)
