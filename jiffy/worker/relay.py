"""Carries the connections of a worker's containers to the gate of a server elsewhere.

The gate learns from a line before the first byte which container speaks: the worker knows that by the address on its bridge.
While no server answers, containers wait, as they would for one on the same host.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping

from jiffy.addresses import Address
from jiffy.errors import JiffyError
from jiffy.tunnels import BUFFER_BYTES, Preface, Service, Stream, carry, close, dial, persist

logger = logging.getLogger(__name__)


class Relay:
    """`gate` and `token` are asked for anew for each connection."""

    def __init__(self, worker_id: str, http_port: int, gate: Callable[[], Address], token: Callable[[], str]) -> None:
        self._worker_id = worker_id
        self._http_port = http_port
        self._gate = gate
        self._token = token
        self._servers: list[asyncio.Server] = []
        self._carried: set[asyncio.Task[None]] = set()

    async def open(self, listeners: Mapping[Service, socket.socket]) -> None:
        """Accept on listeners."""
        for service, listener in listeners.items():
            self._servers.append(await self._accept(service, listener))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for job in list(self._carried):
            job.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)

    async def _accept(self, service: Service, listener: socket.socket) -> asyncio.Server:
        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            job = asyncio.get_running_loop().create_task(self._carry(service, (reader, writer)))
            self._carried.add(job)
            job.add_done_callback(self._carried.discard)

        return await asyncio.start_server(begin, sock=listener, limit=BUFFER_BYTES)

    async def _carry(self, service: Service, container: Stream) -> None:
        try:
            gate = await persist(lambda: dial(self._gate()))
        except (JiffyError, OSError) as error:
            logger.error("a container does not reach the server: %s", error)
            await close(container[1])
            return
        address = container[1].get_extra_info("peername")[0]
        preface = Preface(self._token(), self._worker_id, address, service, self._http_port)
        gate[1].write(preface.encode())
        await carry(container, gate)
