"""Connections that are carried between workers elsewhere and their server: how they are opened, what is told of them, and
the bytes that go both ways until either end closes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from jiffy.addresses import Address
from jiffy.errors import InvalidError, UnauthenticatedError
from jiffy.jobs import Jobs

BUFFER_BYTES: Final = 256 * 1024

MARK: Final = b"JIFFY-RELAY/1 "
"""The first bytes of a carried connection: as many as the shortest request of HTTP has."""

CHANNEL_ID_BYTES: Final = 16
"""Of an id of a channel, before it is written as hexadecimal digits."""

CHANNEL_HEADER_BYTES: Final = 2 * CHANNEL_ID_BYTES + 1

_CONNECT_SECONDS: Final = 5.0
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.1

Service = Literal["grpc", "http", "channel"]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Preface:
    """What a worker says of a connection before its first byte: a token of its own, and who speaks. `address` is the
    container's on its bridge, `service` is `grpc`, `http` or, from a port of the container, `channel`; `http_port` is where
    it reaches the server by HTTP."""

    token: str
    worker_id: str
    address: str
    service: Service
    http_port: int

    def encode(self) -> bytes:
        return MARK + json.dumps(dataclasses.asdict(self)).encode() + b"\n"


def read_preface(line: bytes) -> Preface:
    """What follows the mark, to the end of the line; InvalidError when it is none."""
    try:
        return TypeAdapter(Preface).validate_json(line)
    except ValidationError as error:
        raise InvalidError("a carried connection does not say who speaks", why=str(error)[:200]) from error


def channel_header(channel_id: str, *, is_open: bool) -> bytes:
    """The first bytes of a channel, from the worker's end: which one it is, and whether the container took it."""
    return channel_id.encode() + (b"+" if is_open else b"-")


def read_channel_header(header: bytes) -> tuple[str, bool]:
    return header[:-1].decode(errors="replace"), header.endswith(b"+")


class StreamServer:
    """Has each connection to some listeners handled in a task of its own, until it is closed."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._jobs = Jobs()

    async def listen(
        self,
        listener: socket.socket,
        handle: Callable[[Stream], Coroutine[None, None, None]],
        context: ssl.SSLContext | None = None,
    ) -> None:
        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._jobs.begin(handle((reader, writer)))

        self._servers.append(await asyncio.start_server(begin, sock=listener, ssl=context, limit=BUFFER_BYTES))

    async def close(self) -> None:
        """What is under way is broken off."""
        for server in self._servers:
            server.close()
        await self._jobs.cancel()


async def dial(address: Address) -> Stream:
    """A connection to the server that is expected at an address."""
    context = address.context()
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection(address.host, address.port, ssl=context, limit=BUFFER_BYTES), _CONNECT_SECONDS
    )
    if context is not None:
        try:
            address.check(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        except UnauthenticatedError:
            await close(writer)
            raise
    return reader, writer


async def persist(connect: Callable[[], Awaitable[Stream]]) -> Stream:
    """A connection to somebody who may be on the way up: whoever asked waits, as in the backlog of a listener."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return await connect()
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_PAUSE)


async def carry(one: Stream, other: Stream) -> None:
    """Until one of them ends; then both are closed."""
    ways = [asyncio.ensure_future(_pour(one[0], other[1])), asyncio.ensure_future(_pour(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (one, other):
            await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """What was written is still sent, unless nobody takes it."""
    writer.close()
    with contextlib.suppress(OSError):
        await asyncio.wait_for(writer.wait_closed(), 1)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(BUFFER_BYTES):
            writer.write(data)
            await writer.drain()
