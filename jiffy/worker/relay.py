"""Carries the connections of a worker's containers to the gate of a server elsewhere.

The gate learns from a line before the first byte which container speaks: the worker knows that by the address on its bridge.
While no server answers, containers wait, as they would for one on the same host.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial

from jiffy.addresses import Address
from jiffy.errors import JiffyError
from jiffy.tunnels import Preface, Service, Stream, StreamServer, carry, close, dial, persist

logger = logging.getLogger(__name__)


class Relay:
    """`gate` and `token` are asked for anew for each connection."""

    def __init__(self, worker_id: str, http_port: int, gate: Callable[[], Address], token: Callable[[], str]) -> None:
        self._worker_id = worker_id
        self._http_port = http_port
        self._gate = gate
        self._token = token
        self._server = StreamServer()

    async def open(self, listeners: Mapping[Service, socket.socket]) -> None:
        """Accept on listeners."""
        for service, listener in listeners.items():
            await self._server.listen(listener, partial(self._carry, service))

    async def close(self) -> None:
        await self._server.close()

    async def dial(self, service: Service, address: str) -> Stream:
        """To the server, for the container with an address."""
        gate = await persist(lambda: dial(self._gate()))
        gate[1].write(Preface(self._token(), self._worker_id, address, service, self._http_port).encode())
        return gate

    async def _carry(self, service: Service, container: Stream) -> None:
        try:
            server = await self.dial(service, container[1].get_extra_info("peername")[0])
        except (JiffyError, OSError) as error:
            logger.error("a container does not reach the server: %s", error)
            await close(container[1])
            return
        await carry(container, server)
