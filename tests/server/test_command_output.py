"""What a command writes: read once in order, and again after a connection broke; never too much of it in memory."""

from __future__ import annotations

import asyncio

import pytest

from jiffy.errors import InvalidError, NotFoundError
from jiffy.server.command_output import MOST_KEPT, MOST_UNREAD, CommandOutput


async def collect(output: CommandOutput, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in output.read(offset)])


async def test_it_is_read_while_it_is_written_to_its_end() -> None:
    output = CommandOutput()
    reading = asyncio.ensure_future(collect(output))
    for word in (b"one ", b"two ", b"three"):
        await output.write(word)
        await asyncio.sleep(0)
    assert not reading.done()
    output.finish()
    assert await reading == b"one two three"
    assert await collect(output, 4) == b"two three", "again, from a byte on"
    assert await collect(output, 13) == b""


async def test_the_command_waits_for_who_reads() -> None:
    output = CommandOutput()
    writing = asyncio.ensure_future(output.write(bytes(MOST_UNREAD + 1)))
    await asyncio.sleep(0.01)
    assert not writing.done()
    reading = asyncio.ensure_future(collect(output))
    await writing
    output.finish()
    assert len(await reading) == MOST_UNREAD + 1


async def test_of_what_was_read_only_the_last_is_kept() -> None:
    output = CommandOutput()
    reading = asyncio.ensure_future(collect(output))
    for _ in range(40):
        await output.write(bytes(100_000))
        await asyncio.sleep(0)
    output.finish()
    assert len(await reading) == 4_000_000
    assert len(await collect(output, 4_000_000 - MOST_KEPT)) == MOST_KEPT
    with pytest.raises(InvalidError, match="is not there"):
        await collect(output, 0)
    with pytest.raises(InvalidError, match="is not there"):
        await collect(output, 4_000_001)


async def test_of_one_that_nobody_wants_nothing_is_kept() -> None:
    output = CommandOutput(is_kept=False)
    await output.write(bytes(10 * MOST_UNREAD))
    output.finish(is_whole=False)
    assert await collect(output) == b""


async def test_one_that_breaks_off_is_not_taken_for_whole() -> None:
    output = CommandOutput()
    await output.write(b"one two")
    output.finish(is_whole=False)
    output.finish()
    read = output.read(4)
    assert await anext(read) == b"two"
    with pytest.raises(NotFoundError, match="breaks off"):
        await anext(read)
