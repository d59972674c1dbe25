from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from grpclib import GRPCError, Status

from jiffy.grpc.connection import Stream
from jiffy.grpc.server import GrpcServer


@dataclass
class Serving:
    """A server whose methods are what tests need. `cancelled`: how many requests to `/wait` were broken off."""

    port: int = 0
    cancelled: int = 0
    waiting: int = 0
    seen: list[Stream] = field(default_factory=list)

    async def __call__(self, stream: Stream) -> None:
        self.seen.append(stream)
        match stream.path:
            case "/echo":
                await stream.answer(stream.request)
            case "/many":
                for number in range(int(stream.request)):
                    await stream.send(b"%d" % number)
            case "/wait":
                await self._wait()
            case "/no":
                raise GRPCError(Status.NOT_FOUND, "100 % not here: ü")
            case "/broken":
                raise ValueError("a mistake")
            case _:
                raise GRPCError(Status.UNIMPLEMENTED, "no such method")

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    made = Serving()
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    server = GrpcServer(made)
    await server.start(listener)
    yield made
    await server.close()
