"""A zone's cache: an object server that keeps what it was asked for, and fetches what it lacks from its own sources."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from jiffy.errors import UnauthenticatedError
from jiffy.objects.base import CHUNKS_HEADER, Digest, check_digest
from jiffy.objects.partial import PartialObject, Partials
from jiffy.objects.tiers import Tiers
from jiffy.server.batches import serve_batch
from jiffy.server.http import bearer_token, explain_errors
from jiffy.server.spans import send_span

_PIECE: Final = 2**20


class Zone:
    """What hosts ask a server for, for those who have its `token` (id:secret)."""

    def __init__(self, tiers: Tiers, partials: Partials, token: str) -> None:
        self._tiers = tiers
        self._partials = partials
        self._token = token

    def application(self) -> web.Application:
        application = web.Application(middlewares=[explain_errors], client_max_size=0)
        application.router.add_get("/objects/{digest}", self._get_object)
        application.router.add_post("/objects", self._get_batch)
        application.router.add_get("/health", self._health)
        return application

    async def _get_object(self, request: web.Request) -> web.StreamResponse:
        """A span of a large object is had by itself when the request names the object's chunks."""
        self._check_token(request)
        digest = check_digest(request.match_info["digest"])
        partial = await asyncio.to_thread(self._open_partial, request, digest)
        if partial is None:
            return web.FileResponse(await asyncio.to_thread(self._tiers.ensure, digest))

        async def read(start: int, size: int) -> bytes:
            return await asyncio.to_thread(partial.read, start, size)

        try:
            return await send_span(request, partial.size, read, _PIECE)
        finally:
            self._partials.release(partial)

    def _open_partial(self, request: web.Request, digest: Digest) -> PartialObject | None:
        chunks = request.headers.get(CHUNKS_HEADER)
        if chunks is None or "Range" not in request.headers:
            return None
        self._partials.learn({digest: check_digest(chunks)})
        return self._partials.open(digest)

    async def _get_batch(self, request: web.Request) -> web.StreamResponse:
        self._check_token(request)
        return await serve_batch(request, self._tiers.local, self._fetch)

    async def _fetch(self, digests: Sequence[Digest]) -> None:
        await asyncio.to_thread(self._tiers.prefetch, digests, threading.Event())

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    def _check_token(self, request: web.Request) -> None:
        if not hmac.compare_digest(bearer_token(request), self._token):
            raise UnauthenticatedError("this request needs the server's token")
