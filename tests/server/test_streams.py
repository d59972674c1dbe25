"""Chunks of web requests, on their way."""

from __future__ import annotations

import asyncio

from modal_proto import api_pb2

from jiffy.server.streams import Channel

MEBIBYTE = 2**20
FORMAT = api_pb2.DATA_FORMAT_ASGI


def test_a_reader_that_comes_again_finds_what_it_had_not() -> None:
    channel = Channel()
    for letter in (b"a", b"b", b"c"):
        channel.add(FORMAT, letter)
    for chunk in channel.after(0)[:2]:
        channel.note_sent(chunk)
    assert [chunk.data for chunk in channel.after(1)] == [b"b", b"c"]
    assert [chunk.index for chunk in channel.after(0)] == [1, 2, 3]


def test_a_chunk_that_is_put_again_is_dropped() -> None:
    channel = Channel()
    for index in (1, 2, 2, 1, 3):
        channel.put(api_pb2.DataChunk(index=index, data=b"x"))
    assert [chunk.index for chunk in channel.after(0)] == [1, 2, 3]


async def test_a_writer_waits_for_its_reader_and_what_was_sent_long_ago_is_let_go() -> None:
    channel = Channel()
    for _ in range(12):
        channel.add(FORMAT, bytes(MEBIBYTE))
    waiting = asyncio.ensure_future(channel.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    for chunk in channel.after(0):
        channel.note_sent(chunk)
    await asyncio.wait_for(waiting, 1)
    assert len(channel.after(0)) == 8


async def test_who_reads_once_leaves_nothing() -> None:
    channel = Channel()
    for _ in range(12):
        channel.add(FORMAT, bytes(MEBIBYTE))
    while channel.take_first() is not None:
        pass
    await asyncio.wait_for(channel.wait_for_room(), 1)
    assert channel.after(0) == []


async def test_nobody_waits_for_a_request_that_is_over() -> None:
    channel = Channel()
    channel.add(FORMAT, bytes(9 * MEBIBYTE))
    waiting = asyncio.ensure_future(channel.wait_for_room())
    await asyncio.sleep(0)
    channel.close()
    await asyncio.wait_for(waiting, 1)
