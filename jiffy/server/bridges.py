"""The server's presence on the workers' bridges, where a container is known by the address that it calls from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web
from grpclib.server import Server

from jiffy.core.events import WorkerConnected
from jiffy.errors import UnauthenticatedError
from jiffy.server.caller import Caller, read_caller
from jiffy.server.listeners import borrow_listener
from jiffy.server.service import AnyStream, Service
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_ANNOUNCEMENT_GRACE = 5.0
"""Seconds that a container may be ahead of its worker's announcement that it was started."""


@dataclass(slots=True)
class _Bridge:
    grpc: Server
    http: web.AppRunner

    async def close(self) -> None:
        self.grpc.close()
        await self.grpc.wait_closed()
        await self.http.cleanup()


class Bridges:
    """Serves `nouns` to containers on every local worker's bridge."""

    def __init__(
        self,
        stores: Stores,
        nouns: Sequence[object],
        make_application: Callable[[], web.Application],
    ) -> None:
        self._stores = stores
        self._nouns = nouns
        self._make_application = make_application
        self._bridges: dict[str, _Bridge] = {}

    async def open(self, event: WorkerConnected) -> None:
        if event.worker_id in self._bridges:
            return
        grpc_socket = borrow_listener(event.process, event.grpc_listener)
        http_socket = borrow_listener(event.process, event.http_listener)
        grpc = Server([Service(self._nouns, _ByAddress(self, event.worker_id, event.http_port))])
        await grpc.start(sock=grpc_socket)
        http = web.AppRunner(self._make_application(), access_log=None)
        await http.setup()
        await web.SockSite(http, http_socket).start()
        self._bridges[event.worker_id] = _Bridge(grpc, http)

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


class _ByAddress:
    """Identifies a caller by its connection; the answer holds as long as the connection does."""

    def __init__(self, bridges: Bridges, worker_id: str, http_port: int) -> None:
        self._bridges = bridges
        self._http_port = http_port
        self._worker_id = worker_id
        self._known: dict[str, str] = {}

    async def __call__(self, stream: AnyStream) -> Caller:
        peer = stream.peer.addr() if stream.peer is not None else None
        if not peer:
            raise UnauthenticatedError("the caller's address is not known")
        address, port = str(peer[0]), int(peer[1])
        connection = f"{address}:{port}"
        if connection not in self._known:
            self._known[connection] = await self._bridges.find_task(self._worker_id, address)
        task_id = self._known[connection]
        return read_caller(dict(stream.metadata or {}), token_id="", task_id=task_id, http_port=self._http_port)
