"""Requests that one server takes and another answers: those for which one has to lead.

They go to the gate of the server that leads. While nobody does they wait, and what was not answered when a connection broke
is asked again: requests are safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from yarl import URL

from jiffy.addresses import read_address
from jiffy.errors import UnavailableError
from jiffy.grpc.connection import Stream
from jiffy.server.caller import AUTHORITY_HEADER, HOST_HEADER, HTTP_PORT_HEADER
from jiffy.server.proxying import headers_of, is_socket, pass_request, pass_socket
from jiffy.server.service import Method

logger = logging.getLogger(__name__)

_PATIENCE: Final = 30.0
_PAUSE: Final = 0.1
_BROKEN: Final = (OSError, StreamTerminatedError, ProtocolError)


class Forwarding:
    """`certificate` is the one that all servers of the store have; `http_port` is where callers reach this one by HTTP."""

    def __init__(self, certificate: Path, http_port: int) -> None:
        self._certificate = certificate
        self._http_port = http_port
        self._leader = ""
        self._channel: Channel | None = None
        self._session: aiohttp.ClientSession | None = None
        self._found = asyncio.Event()

    def follow(self, leader: str) -> None:
        """Ask this server from now on; empty while none leads."""
        if leader == self._leader:
            return
        logger.info("following %s", leader or "nobody: no server leads")
        self._leader = leader
        self._hang_up()
        (self._found.set if leader else self._found.clear)()

    async def close(self) -> None:
        self._hang_up()
        if self._session is not None:
            await self._session.close()

    async def forward(self, method: Method, request: Message, stream: Stream) -> None:
        """Have a request of the wire API answered."""
        metadata = {
            HOST_HEADER: stream.authority,
            **stream.metadata,
            HTTP_PORT_HEADER: str(self._http_port),
            AUTHORITY_HEADER: stream.authority,
        }
        deadline = time.monotonic() + _PATIENCE
        sent = False
        while True:
            try:
                async for answer in self._ask(method, request, metadata, stream):
                    await stream.send(answer.SerializeToString())
                    sent = True
                return
            except _BROKEN as error:
                if sent or time.monotonic() > deadline:
                    raise GRPCError(Status.UNAVAILABLE, "the server that leads does not answer") from error
            await asyncio.sleep(_PAUSE)

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """Have a request of HTTP answered."""
        await self._await_leader()
        url = URL(f"{self._leader}{request.rel_url}", encoded=True)
        pass_it = pass_socket if is_socket(request) else pass_request
        try:
            return await pass_it(request, self._http(), url, headers_of(request))
        except aiohttp.ClientConnectionError as error:
            raise UnavailableError("the server that leads does not answer", why=str(error)) from error

    async def _ask(
        self, method: Method, request: Message, metadata: dict[str, Any], stream: Stream
    ) -> AsyncIterator[Message]:
        async with self._open(method, metadata, stream) as asked:
            await asked.send_message(request, end=True)
            while (answer := await asked.recv_message()) is not None:
                yield answer

    @asynccontextmanager
    async def _open(self, method: Method, metadata: dict[str, Any], stream: Stream) -> AsyncIterator[Any]:
        await self._await_leader()
        if self._channel is None:
            address = read_address(self._leader)
            self._channel = Channel(address.host, address.port, ssl=self._context())
        async with self._channel.request(
            method.path,
            Cardinality.UNARY_STREAM if method.streams else Cardinality.UNARY_UNARY,
            method.request,
            method.answer,
            timeout=stream.remaining,
            metadata=metadata,
        ) as asked:
            yield asked

    async def _await_leader(self) -> None:
        try:
            await asyncio.wait_for(self._found.wait(), _PATIENCE)
        except TimeoutError as error:
            raise UnavailableError("no server leads now", hint="does the store answer?") from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._context(), force_close=True)  # a body cannot be sent again
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self._session

    def _context(self) -> ssl.SSLContext:
        """Nobody else has the certificate: whose name it bears does not matter."""
        context = ssl.create_default_context(cafile=str(self._certificate))
        context.check_hostname = False
        return context

    def _hang_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
