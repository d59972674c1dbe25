"""Where workers from elsewhere reach a server: one port, TLS, a process of its own, so that the objects which they fetch do
not hold up calls.

What begins as HTTP goes to the server's HTTP side, and gRPC to where it answers that; both ask for a token themselves. What
a worker carries for its containers goes to the server's sockets for them, once its token is known to be good; there the name
that the connecting socket is bound to says who speaks. While another server leads, all of it goes to the gate of that one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
import socket
import ssl
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import click

from jiffy.addresses import pinned, read_address
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError, UnauthenticatedError
from jiffy.server.certificates import ensure_certificate, server_context
from jiffy.server.container_sockets import connect_as
from jiffy.server.listeners import end_with_owner
from jiffy.tunnels import BUFFER_BYTES, MARK, Stream, StreamServer, carry, close, dial, persist, read_preface

logger = logging.getLogger(__name__)

_FIRST_BYTES_SECONDS: Final = 10.0
_TRUST_SECONDS: Final = 30.0
_HTTP2: Final = b"PRI * HTTP/2.0"
_BROKEN_OFF: Final = (asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Gate:
    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        self._pin = ensure_certificate(data.certificate)
        self._serial = itertools.count()
        self._trusted: dict[str, float] = {}

    async def serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Accept until cancelled."""
        server = StreamServer()
        await server.listen(listener, self._accept, context)
        try:
            await asyncio.Event().wait()
        finally:
            await server.close()

    async def _accept(self, stream: Stream) -> None:
        reader, writer = stream
        try:
            first = await asyncio.wait_for(reader.readexactly(len(MARK)), _FIRST_BYTES_SECONDS)
            if first == MARK:
                line = await asyncio.wait_for(reader.readuntil(b"\n"), _FIRST_BYTES_SECONDS)
                server = await persist(partial(self._carry_to_nouns, line))
            else:
                server = await self._reach("url" if first == _HTTP2 else "http_url")
                server[1].write(first)
        except (JiffyError, OSError, aiohttp.ClientError, *_BROKEN_OFF) as error:
            logger.info("%s is sent away: %s", writer.get_extra_info("peername"), error or type(error).__name__)
            await close(writer)
            return
        await carry(stream, server)

    async def _reach(self, service: str) -> Stream:
        """Where the server answers gRPC (`url`) or HTTP, or the gate of the one that leads."""
        server = self._find_server()
        if "leader" in server:
            return await self._dial(server["leader"])
        parts = urlsplit(server[service])
        return await asyncio.open_connection(parts.hostname, parts.port, limit=BUFFER_BYTES)

    async def _carry_to_nouns(self, line: bytes) -> Stream:
        server = self._find_server()
        if "leader" in server:
            stream = await self._dial(server["leader"])
            stream[1].write(MARK + line)
            return stream
        preface = read_preface(line)
        await self._check(server["http_url"], preface.token)
        connection = await connect_as(self._data, preface, next(self._serial))
        return await asyncio.open_unix_connection(sock=connection, limit=BUFFER_BYTES)

    async def _dial(self, leader: str) -> Stream:
        if not leader:
            raise ConnectionRefusedError("no server leads now")
        return await dial(read_address(pinned(leader, self._pin)))

    async def _check(self, http_url: str, token: str) -> None:
        if self._trusted.get(token, 0.0) > time.monotonic():
            return
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{http_url}/relay", headers=headers) as response,
        ):
            if response.status != 200:
                raise UnauthenticatedError((await response.text()).strip())
        self._trusted[token] = time.monotonic() + _TRUST_SECONDS

    def _find_server(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._data.address.read_text()))
        except (OSError, ValueError) as error:
            raise ConnectionRefusedError("the server is on its way up") from error


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--fd", type=int, required=True)
def main(data: Path, fd: int) -> None:
    """`python -m jiffy.server.gate`: on a listener that its parent owns. `jiffy serve` starts it."""
    end_with_owner()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    directory = DataDirectory(data)
    try:
        asyncio.run(_run(directory, socket.socket(fileno=fd)))
    except JiffyError as error:
        click.echo(f"gate: {error}", err=True)
        sys.exit(1)


async def _run(data: DataDirectory, listener: socket.socket) -> None:
    gate = asyncio.ensure_future(Gate(data).serve(listener, server_context(data.certificate)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, gate.cancel)
    await asyncio.wait([gate])


if __name__ == "__main__":
    main()
