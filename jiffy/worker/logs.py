"""A container's output: read from a pipe, decoded, reported in pieces."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

from jiffy.core.events import LogWritten

LARGEST_PIECE: Final = 64 * 1024
_FLUSH_SECONDS: Final = 0.02
_PAUSE_SECONDS: Final = 0.05
_PIPE_BYTES: Final = 1 << 20


class LogPipe:
    """One stream of a container. `writer` is the end for the container's process; close it once that has it.

    While `is_full()` says that reports pile up, the pipe is not read: the container waits, nothing is lost.
    """

    def __init__(
        self, task_id: str, stream: int, report: Callable[[LogWritten], None], is_full: Callable[[], bool]
    ) -> None:
        self._task_id = task_id
        self._stream = stream
        self._report = report
        self._is_full = is_full
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushed_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._loop.add_reader(self._reader, self._read)

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    async def drain(self, timeout: float) -> None:
        """Report the rest: until every holder of the pipe has closed it, or the timeout."""
        self.close_writer()
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), timeout)
        except TimeoutError:
            self._finish()

    def _read(self) -> None:
        if self._is_full():
            self._loop.remove_reader(self._reader)
            self._loop.call_later(_PAUSE_SECONDS, self._resume)
            return
        try:
            data = os.read(self._reader, LARGEST_PIECE)
        except BlockingIOError:
            return
        if not data:
            self._finish()
            return
        self._text += self._decoder.decode(data)
        since_last = self._loop.time() - self._flushed_at
        if len(self._text) >= LARGEST_PIECE // 4 or since_last > _FLUSH_SECONDS:
            self._flush()
        elif self._flush_timer is None:
            self._flush_timer = self._loop.call_later(_FLUSH_SECONDS - since_last, self._flush)

    def _resume(self) -> None:
        if not self._ended.done():
            self._loop.add_reader(self._reader, self._read)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self._flushed_at = self._loop.time()
        text, self._text = self._text, ""
        step = LARGEST_PIECE // 4
        for start in range(0, len(text), step):
            self._report(LogWritten(self._task_id, self._stream, text[start : start + step], time.time()))

    def _finish(self) -> None:
        if self._ended.done():
            return
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._text += self._decoder.decode(b"", final=True)
        self._flush()
        self._ended.set_result(None)
