"""The server's presence on the workers' bridges, where a container is known by the address that it calls from."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from aiohttp import web

from jiffy.core.events import WorkerConnected
from jiffy.datadir import DataDirectory
from jiffy.errors import UnauthenticatedError
from jiffy.grpc.connection import Connection, Stream
from jiffy.grpc.server import GrpcServer
from jiffy.server.caller import Caller, read_caller
from jiffy.server.container_sockets import SERVICES, read_name
from jiffy.server.listeners import borrow_listener
from jiffy.server.router_identity import RouterIdentity
from jiffy.server.service import Check, Identify, Service
from jiffy.server.tokens import Tokens
from jiffy.store.stores import Stores
from jiffy.unix_sockets import listen_at

logger = logging.getLogger(__name__)

_GATE: Final = "gate"
_ANNOUNCEMENT_GRACE: Final = 5.0
"""Seconds that a container may be ahead of its worker's announcement that it was started."""


@dataclass(slots=True)
class _Bridge:
    grpc: GrpcServer
    http: web.AppRunner

    async def close(self) -> None:
        await self.grpc.close()
        await self.http.cleanup()


class Bridges:
    """Serves `nouns` to containers on every local worker's bridge, and to those whose connections come by the gate."""

    def __init__(
        self,
        stores: Stores,
        nouns: Sequence[object],
        make_application: Callable[[], web.Application],
        tokens: Tokens,
        check: Check,
    ) -> None:
        self._stores = stores
        self._nouns = nouns
        self._make_application = make_application
        self._tokens = tokens
        self._check = check
        self._bridges: dict[str, _Bridge] = {}

    async def open(self, event: WorkerConnected) -> None:
        """Accept on the worker's listeners, if it has any: others carry their containers' connections to the gate."""
        if event.worker_id in self._bridges or event.listeners is None:
            return
        grpc_socket = borrow_listener(event.listeners.process, event.listeners.grpc)
        http_socket = borrow_listener(event.listeners.process, event.listeners.http)
        self._bridges[event.worker_id] = await self._serve(
            _ByAddress(self, event.worker_id, event.http_port), grpc_socket, http_socket
        )

    async def open_for_gate(self, data: DataDirectory) -> None:
        """Accept what the gate passes on."""
        sockets = [listen_at(data.container_socket(service)) for service in SERVICES]
        self._bridges[_GATE] = await self._serve(_ByName(self), *sockets)

    async def _serve(self, identify: Identify, grpc_socket: socket.socket, http_socket: socket.socket) -> _Bridge:
        grpc = GrpcServer(Service(self._nouns, RouterIdentity(self._tokens, identify), self._check))
        await grpc.start(grpc_socket)
        http = web.AppRunner(self._make_application(), access_log=None)
        await http.setup()
        await web.SockSite(http, http_socket).start()
        return _Bridge(grpc, http)

    async def close(self, worker_id: str) -> None:
        if (bridge := self._bridges.pop(worker_id, None)) is not None:
            await bridge.close()

    async def close_all(self) -> None:
        for worker_id in list(self._bridges):
            await self.close(worker_id)

    async def find_task(self, worker_id: str, address: str) -> str:
        """The container that has an address on a worker's bridge."""
        deadline = asyncio.get_running_loop().time() + _ANNOUNCEMENT_GRACE
        while True:
            live = await self._stores.tasks.live()
            for task in live:
                if task.worker_id == worker_id and task.address == address:
                    return task.task_id
            if asyncio.get_running_loop().time() > deadline:
                raise UnauthenticatedError(f"no container has the address {address}")
            await asyncio.sleep(0.02)


class _Identified:
    """Callers, known by their connections; an answer holds as long as the connection does."""

    def __init__(self, bridges: Bridges) -> None:
        self._bridges = bridges
        self._known: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()

    async def _caller(self, stream: Stream, worker_id: str, address: str, http_port: int) -> Caller:
        task_id = self._known.get(stream.connection)
        if task_id is None:
            task_id = self._known[stream.connection] = await self._bridges.find_task(worker_id, address)
        return read_caller(stream, token_id="", task_id=task_id, http_port=http_port)


class _ByAddress(_Identified):
    """Of a container on the bridge of a worker on this host."""

    def __init__(self, bridges: Bridges, worker_id: str, http_port: int) -> None:
        super().__init__(bridges)
        self._worker_id = worker_id
        self._http_port = http_port

    async def __call__(self, stream: Stream) -> Caller:
        if not (peer := stream.connection.peer):
            raise UnauthenticatedError("the caller's address is not known")
        return await self._caller(stream, self._worker_id, str(peer[0]), self._http_port)


class _ByName(_Identified):
    """Of a container elsewhere: the gate gives its sockets a name that says who speaks."""

    async def __call__(self, stream: Stream) -> Caller:
        peer = stream.connection.peer
        return await self._caller(stream, *read_name(peer if isinstance(peer, bytes) else b""))
