"""Channels: connections to ports of containers and to commands in them, wherever they run.

The container's worker is asked for one by an order, and connects to a socket in the data directory, itself or by the gate.
What it says first is which channel that is. From then on the connection is one to the container.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from jiffy.core.actions import ExecInContainer, OpenChannel
from jiffy.errors import UnavailableError
from jiffy.jobs import Jobs
from jiffy.tunnels import CHANNEL_HEADER_BYTES, CHANNEL_ID_BYTES, read_channel_header
from jiffy.unix_sockets import listen_at

logger = logging.getLogger(__name__)

_HEADER_SECONDS: Final = 10.0
_OPEN_SECONDS: Final = 10.0

Order = OpenChannel | ExecInContainer
Send = Callable[[str, Order], None]
"""Tells a worker, if it is connected."""


class Channels:
    """`path` is where workers connect."""

    def __init__(self, path: Path, send: Send) -> None:
        self._path = path
        self._send = send
        self._expected: dict[str, asyncio.Future[socket.socket]] = {}
        self._jobs = Jobs()

    async def open(self, worker_id: str, task_id: str, port: int) -> socket.socket:
        """A connection to a container's port; UnavailableError when nobody listens there, or the worker is away."""
        try:
            return await self._ask(worker_id, OpenChannel(task_id, port, secrets.token_hex(CHANNEL_ID_BYTES)))
        except ConnectionRefusedError:
            raise UnavailableError(
                f"nobody answers on port {port} of container {task_id}", hint="does its server listen on 0.0.0.0?"
            ) from None

    async def exec(self, worker_id: str, order: ExecInContainer) -> socket.socket:
        """A connection to a command that is started by this; the order is given an id here. UnavailableError when the
        container is not there yet, or the worker is away."""
        try:
            return await self._ask(worker_id, replace(order, channel_id=secrets.token_hex(CHANNEL_ID_BYTES)))
        except ConnectionRefusedError:
            raise UnavailableError(f"container {order.task_id} is not started yet") from None

    async def _ask(self, worker_id: str, order: Order) -> socket.socket:
        expected = self._expected[order.channel_id] = asyncio.get_running_loop().create_future()
        try:
            self._send(worker_id, order)
            async with asyncio.timeout(_OPEN_SECONDS):
                connection: socket.socket = await expected
                return connection
        except TimeoutError:
            raise UnavailableError(
                f"container {order.task_id} is not reached", why="its worker does not answer"
            ) from None
        finally:
            del self._expected[order.channel_id]

    async def accept_forever(self) -> None:
        with listen_at(self._path) as listener:
            try:
                while True:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                    self._jobs.begin(self._take(connection))
            finally:
                await self._jobs.cancel()

    async def _take(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(_HEADER_SECONDS):
                channel_id, is_open = read_channel_header(await _read_exactly(connection, CHANNEL_HEADER_BYTES))
        except (OSError, TimeoutError) as error:
            logger.info("a channel breaks off: %s", error)
            connection.close()
            return
        expected = self._expected.get(channel_id)
        if expected is not None and not expected.done() and is_open:
            expected.set_result(connection)
            return
        connection.close()
        if expected is not None and not expected.done():
            expected.set_exception(ConnectionRefusedError())


async def _read_exactly(connection: socket.socket, size: int) -> bytes:
    """Not a byte more: those are for whoever has the channel."""
    read = b""
    while len(read) < size:
        if not (more := await asyncio.get_running_loop().sock_recv(connection, size - len(read))):
            raise ConnectionResetError("it ended before it said what it is")
        read += more
    return read
