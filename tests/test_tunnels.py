"""Carried connections: all bytes arrive, both ways, and an end is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jiffy.errors import InvalidError
from jiffy.tunnels import MARK, Preface, Stream, carry, read_preface

OTHER_SERVICE = b'{"token": "a", "worker_id": "b", "address": "c", "service": "../x", "http_port": 1}'
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(serve: Serve) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def through(serve: Serve) -> tuple[Stream, list[asyncio.Server]]:
    """A connection to what serves, carried."""
    end, end_port = await listen(serve)

    async def middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await carry((reader, writer), await asyncio.open_connection("127.0.0.1", end_port))

    between, port = await listen(middle)
    return await asyncio.open_connection("127.0.0.1", port), [between, end]


async def test_much_is_carried_both_ways_at_once() -> None:
    data = bytes(range(256)) * 40_000

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()

    (reader, writer), servers = await through(echo)
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(len(data)), 10) == data
    writer.close()
    for server in servers:
        server.close()


async def test_what_was_said_before_the_end_arrives_and_then_the_end() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 3_000_000)
        writer.close()

    (reader, writer), servers = await through(speak)
    assert len(await asyncio.wait_for(reader.read(), 10)) == 3_000_000
    writer.close()
    for server in servers:
        server.close()


def test_a_preface_is_read_as_it_was_written() -> None:
    preface = Preface("wk-1:secret", "wo-1", "172.21.0.2", "grpc", 9901)
    line = preface.encode()
    assert line.startswith(MARK) and line.endswith(b"\n")
    assert read_preface(line.removeprefix(MARK)) == preface


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"token": 1}', b"\xff\n", OTHER_SERVICE])
def test_what_is_no_preface_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidError):
        read_preface(line)
