"""Frames on the channel of a command."""

from __future__ import annotations

import asyncio

import pytest

from jiffy.errors import InvalidError
from jiffy.execs import PIECE_BYTES, Kind, encode, read_frames


async def read(data: bytes) -> list[tuple[Kind, bytes]]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return [frame async for frame in read_frames(reader)]


async def test_frames_are_read_as_they_were_written() -> None:
    written = [(Kind.STARTED, b""), (Kind.STDOUT, b"text"), (Kind.STDIN, bytes(PIECE_BYTES)), (Kind.EXIT, b"7")]
    assert await read(b"".join(encode(kind, data) for kind, data in written)) == written


@pytest.mark.parametrize("cut", [1, 4, 5, 8])
async def test_one_that_breaks_off_is_the_end(cut: int) -> None:
    whole = encode(Kind.STDERR, b"one")
    assert await read(whole + encode(Kind.STDOUT, b"another")[:cut]) == [(Kind.STDERR, b"one")]


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x00\x00", b"\xff\x00\x00\x00\x01x", b"\x03\x00\x01\x00\x01"])
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError, match="a frame of kind"):
        await read(data + bytes(70_000))
