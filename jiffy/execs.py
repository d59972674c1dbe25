"""What is said on the channel of a command that runs in a container (an exec), both ways: frames of a kind, a length and
data."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Final

from jiffy.errors import InvalidError

PIECE_BYTES: Final = 64 * 1024
"""What one frame has at most. So much input is on its way at once: the next is sent when it was TAKEN."""

_HEAD: Final = struct.Struct("!BL")


class Kind(IntEnum):
    """The worker says first STARTED, or FAILED and why, and last EXIT with the exit code in decimal digits."""

    STARTED = 1
    FAILED = 2
    STDOUT = 3
    STDERR = 4
    TAKEN = 5
    EXIT = 6
    STDIN = 7
    STDIN_END = 8


_KINDS: Final = frozenset(Kind)


def encode(kind: Kind, data: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(data)) + data


async def read_frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[Kind, bytes]]:
    """Until the connection ends, however that is. InvalidError for what is no frame."""
    while True:
        try:
            number, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            if number not in _KINDS or length > PIECE_BYTES:
                raise InvalidError(f"a frame of kind {number} with {length} bytes on the channel of a command")
            data = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return
        yield Kind(number), data
