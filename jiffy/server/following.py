"""A server beside one that leads: it answers what needs nothing but the store, has the rest answered, and takes over when
nobody leads."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NoReturn

from aiohttp import web

from jiffy.errors import JiffyError
from jiffy.grpc.server import GrpcServer
from jiffy.server.forwarding import Forwarding
from jiffy.server.http import explain_errors
from jiffy.server.service import Check, Identify, Service
from jiffy.store.leadership import Leader, Leadership

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 3.0
_RENEW_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.25


async def await_lead(leadership: Leadership, address: str, heard: Callable[[str], None]) -> None:
    """Until this server leads, because nobody else does. `heard` is told whenever another leads meanwhile: its address,
    empty for nobody."""
    known: Leader | str | None = ""
    while True:
        try:
            if await leadership.take(address, LEASE_SECONDS) is not None:
                return
            leader = await leadership.current()
            if leader != known:
                known = leader
                heard("" if leader is None else leader.address)
        except JiffyError as error:
            logger.error("who leads is not known: %s", error)
        await asyncio.sleep(_LOOK_SECONDS)


def begin_anew() -> NoReturn:
    """This process, as if it had just been started: nothing of what it did beside the other is left, no connection either.
    Its listeners stay, and clients wait there. It finds that it leads, as it did at this address."""
    logger.info("no other server leads: this one does from now on")
    os.execv(sys.executable, sys.orig_argv)


async def keep_leading(leadership: Leadership, term: int) -> None:
    """Until another server leads: then this process ends as if it were killed, for what it knows is not true any more."""
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            leads = await leadership.renew(term, LEASE_SECONDS)
        except JiffyError as error:
            logger.error("this server cannot say that it leads: %s", error)
            continue
        if not leads:
            logger.error("another server leads: this one begins anew")
            os._exit(1)


@asynccontextmanager
async def serve_beside(
    forwarding: Forwarding,
    nouns: Sequence[object],
    identify: Identify,
    check: Check,
    grpc: socket.socket,
    http: socket.socket,
) -> AsyncIterator[None]:
    """Answer with `nouns`, and have the rest answered, on two listeners that stay open."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(forwarding.close)
        runner = web.AppRunner(_application(forwarding), access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, http.dup()).start()
        server = GrpcServer(Service(nouns, identify, check, forwarding.forward))
        await server.start(grpc.dup())
        stack.push_async_callback(server.close)
        yield


def _application(forwarding: Forwarding) -> web.Application:
    application = web.Application(middlewares=[explain_errors], client_max_size=0)

    async def health(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "leads": False, "workers": 0, "pid": os.getpid()})

    application.router.add_get("/health", health)
    application.router.add_route("*", "/{path:.*}", forwarding.pass_on)
    return application
