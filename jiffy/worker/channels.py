"""Channels: connections of a server to ports of this worker's containers.

The server asks for one by an order; the worker connects to the container and to the server, and carries the bytes. So a
server reaches containers of workers that it cannot connect to itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jiffy.core.actions import OpenChannel
from jiffy.errors import JiffyError
from jiffy.jobs import Jobs
from jiffy.runtime.network import ContainerNetwork
from jiffy.tunnels import BUFFER_BYTES, Stream, carry, channel_header, close

logger = logging.getLogger(__name__)

Dial = Callable[[str], Awaitable[Stream]]
"""Gives a connection to where the server takes channels, for a container with an address."""


class Channels:
    def __init__(self, network: ContainerNetwork, dial: Dial) -> None:
        self._network = network
        self._dial = dial
        self._jobs = Jobs()

    def open(self, order: OpenChannel, address: str) -> None:
        """To a container with an address on the bridge."""
        self._jobs.begin(self._carry(order, address))

    async def close(self) -> None:
        """What is under way is broken off."""
        await self._jobs.cancel()

    async def _carry(self, order: OpenChannel, address: str) -> None:
        try:
            server = await self._dial(address)
        except (JiffyError, OSError) as error:
            logger.warning("a channel to %s is not opened: %s", order.task_id, error)
            return
        try:
            connection = await self._network.connect(address, order.port)
        except OSError:
            server[1].write(channel_header(order.channel_id, is_open=False))
            await close(server[1])
            return
        container = await asyncio.open_connection(sock=connection, limit=BUFFER_BYTES)
        server[1].write(channel_header(order.channel_id, is_open=True))
        await carry(container, server)
