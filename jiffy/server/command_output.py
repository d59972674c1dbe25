"""One stream that a command in a container writes: what was not read yet, and the last of what was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from jiffy.errors import InvalidError, NotFoundError

MOST_UNREAD: Final = 2**20
MOST_KEPT: Final = 2**20
"""Of what was read: a reader whose connection broke asks for some of it again."""

PIECE_BYTES: Final = 256 * 1024
_READER_SECONDS: Final = 0.25


class CommandOutput:
    """Of one that is not kept nothing is read."""

    def __init__(self, *, is_kept: bool = True) -> None:
        self._is_kept = is_kept
        self._data = bytearray()
        self._start = 0
        self._read_until = 0
        self._readers = 0
        self._is_over = False
        self._is_whole = True
        self._changed = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Add what the command wrote, and wait while too much is unread."""
        if not self._is_kept:
            return
        self._data += data
        self._note_change()
        while self._end - self._read_until >= MOST_UNREAD and not self._is_over:
            await self._change()

    def finish(self, *, is_whole: bool = True) -> None:
        """No more will be written; of one that is not whole, more might have been."""
        if not self._is_over:
            self._is_over, self._is_whole = True, is_whole or not self._is_kept
        self._note_change()

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        """From a byte on to the end; InvalidError when it is not there any more, or was never. NotFoundError after the last
        byte of one that is not whole: else what is missing would not be missed."""
        self._readers += 1
        try:
            while True:
                if not self._start <= offset <= self._end:
                    raise InvalidError(
                        f"byte {offset} of the command's output is not there",
                        why=f"the bytes from {self._start} to {self._end} are",
                    )
                if piece := bytes(self._data[offset - self._start :][:PIECE_BYTES]):
                    yield piece
                    offset += len(piece)
                    self._note_read(offset)
                elif self._is_over and not self._is_whole:
                    raise NotFoundError("the command's output breaks off", why="the connection to its worker broke")
                elif self._is_over:
                    return
                else:
                    await self._change()
        finally:
            self._readers -= 1
            self._note_change()

    async def settle(self) -> None:
        """Until those that read have all, once no more is written. Who is about to read is given a moment: a client that is
        told of the command's end may end with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_READER_SECONDS):
                while self._readers == 0 and self._read_until < self._end:
                    await self._change()
        while self._readers > 0:
            await self._change()

    @property
    def _end(self) -> int:
        return self._start + len(self._data)

    def _note_read(self, offset: int) -> None:
        self._read_until = max(self._read_until, offset)
        if (excess := self._read_until - MOST_KEPT - self._start) > 0:
            del self._data[:excess]
            self._start += excess
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()
