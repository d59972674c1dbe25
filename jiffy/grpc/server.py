"""The listening side: connections come and go, until the server is closed."""

from __future__ import annotations

import asyncio
import socket

from jiffy.grpc.connection import Connection, Serve


class GrpcServer:
    """Serves on listeners that others have made."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    async def start(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=listener)

    async def close(self) -> None:
        """What is under way is broken off; callers ask again, elsewhere or later."""
        if self._server is not None:
            self._server.close()
        running = [task for connection in list(self._connections) for task in connection.close()]
        if running:
            await asyncio.wait(running)

    def _connect(self) -> Connection:
        return Connection(self._serve, self._connections.add, self._connections.discard)
