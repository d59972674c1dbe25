"""The HTTP side of the server: blobs, objects for other hosts, the workers' WebSocket, a health check."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiohttp import web

from jiffy.errors import (
    ConflictError,
    CorruptError,
    ExhaustedError,
    InvalidError,
    JiffyError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from jiffy.objects.base import check_digest
from jiffy.objects.local import LocalObjects
from jiffy.server.batches import read_digests, serve_batch
from jiffy.server.blobs import Blobs
from jiffy.server.collection import Collection, serve_collection
from jiffy.server.exports import Exports
from jiffy.server.imports import Imports
from jiffy.server.issued_tokens import IssuedTokens
from jiffy.server.remote_objects import RemoteObjects
from jiffy.server.spans import send_span
from jiffy.server.token_page import TokenPage
from jiffy.server.volume_files import VolumeFiles
from jiffy.server.web import Web
from jiffy.server.workers import Workers
from jiffy.store.tokens import TokenKind

_STATUS: Final = {
    NotFoundError: 404,
    ConflictError: 409,
    InvalidError: 400,
    UnauthenticatedError: 401,
    ExhaustedError: 507,
    UnavailableError: 503,
    CorruptError: 422,
}
_CHUNK: Final = 2**20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CheckToken = Callable[[str], Awaitable[TokenKind | None]]
"""What `id:secret` is a token for; None when this server did not issue it."""


def public_application(blobs: Blobs, files: VolumeFiles, endpoints: Web) -> web.Application:
    """What containers reach: their blobs, whose ids are the keys, files of volumes by signed addresses, web endpoints."""
    application = web.Application(middlewares=[explain_errors, endpoints.route], client_max_size=0)
    application.router.add_put("/blobs/{blob_id}", blobs.upload)
    application.router.add_get("/blobs/{blob_id}", blobs.download)
    files.add_routes(application)
    return application


def full_application(
    blobs: Blobs,
    files: VolumeFiles,
    endpoints: Web,
    objects: LocalObjects,
    workers: Workers,
    collection: Collection,
    exports: Exports,
    imports: Imports,
    remote: RemoteObjects,
    tokens: IssuedTokens,
    token_page: TokenPage,
    check_token: CheckToken,
    describe: Callable[[], object],
    describe_fleet: Callable[[], Awaitable[object]],
) -> web.Application:
    """The same, and what hosts and operators reach; `describe` gives the state for /health, `describe_fleet` that of
    its machines."""
    application = public_application(blobs, files, endpoints)

    def for_token(handler: Handler, *kinds: TokenKind) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if await check_token(bearer_token(request)) not in (TokenKind.CLIENT, *kinds):
                raise UnauthenticatedError("this request needs the server's token")
            return await handler(request)

        return handle

    def for_worker(handler: Handler) -> Handler:
        return for_token(handler, TokenKind.WORKER)

    async def get_object(request: web.Request) -> web.StreamResponse:
        path = objects.path(digest := check_digest(request.match_info["digest"]))
        if "Range" in request.headers and not objects.has(digest) and (size := remote.size(digest)) is not None:
            return await send_span(request, size, partial(remote.read, digest))
        await remote.ensure([digest])
        if not await asyncio.to_thread(path.exists):
            raise NotFoundError(f"no object {request.match_info['digest']}")
        return web.FileResponse(path)

    async def put_object(request: web.Request) -> web.StreamResponse:
        digest = check_digest(request.match_info["digest"])
        with objects.writer(digest) as writer:
            async for chunk in request.content.iter_chunked(_CHUNK):
                await asyncio.to_thread(writer.write, chunk)
            await asyncio.to_thread(writer.publish)
        return web.Response()

    async def get_missing(request: web.Request) -> web.StreamResponse:
        digests = await read_digests(request)
        missing = await asyncio.to_thread(objects.missing, digests)
        return web.Response(body=b"".join(map(bytes.fromhex, missing)))

    async def get_batch(request: web.Request) -> web.StreamResponse:
        return await serve_batch(request, objects, remote.ensure)

    async def collect(request: web.Request) -> web.StreamResponse:
        return await serve_collection(request, collection)

    async def allow(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def fleet(request: web.Request) -> web.StreamResponse:
        return web.json_response(await describe_fleet())

    async def health(request: web.Request) -> web.StreamResponse:
        return web.json_response(describe())

    application.router.add_get("/objects/{digest}", for_worker(get_object))
    application.router.add_put("/objects/{digest}", for_worker(put_object))
    application.router.add_post("/objects", for_worker(get_batch))
    application.router.add_post("/objects/missing", for_worker(get_missing))
    application.router.add_get("/images", for_token(exports.answer_list))
    application.router.add_post("/images", for_token(imports.answer))
    application.router.add_get("/images/{image_id:.+}/content", for_token(exports.answer_content))
    application.router.add_get("/images/{image_id:.+}/profile", for_token(exports.answer_profile))
    application.router.add_get("/images/{image_id:.+}", for_token(exports.answer_one))
    application.router.add_post("/collect", for_token(collect))
    application.router.add_get("/worker", for_worker(workers.serve))
    application.router.add_get("/relay", for_worker(allow))
    token_page.add_routes(application)
    application.router.add_get("/tokens", for_token(tokens.answer_list))
    application.router.add_post("/tokens", for_token(tokens.answer_new))
    application.router.add_post("/tokens/revoke", for_token(tokens.answer_revoke))
    application.router.add_get("/fleet", for_token(fleet))
    application.router.add_get("/health", health)
    return application


def bearer_token(request: web.Request) -> str:
    """The token of a request; empty when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


@web.middleware
async def explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A JiffyError becomes a status and one line."""
    try:
        return await handler(request)
    except JiffyError as error:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        return web.Response(status=status, text=f"{error}\n")
