"""The way from a browser to an endpoint: by the name of the host, or by a path below /web/.

Requests and responses are passed on as they come, whatever their size.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import WSMsgType, web
from modal_proto import api_pb2

from jiffy.errors import NotFoundError, UnauthenticatedError
from jiffy.server.app_servers import AppServers
from jiffy.server.proxying import HOP_BY_HOP, is_gone, is_socket
from jiffy.server.web_calls import Failure, WebCalls, WebExchange
from jiffy.store.endpoints import Endpoint
from jiffy.store.stores import Stores
from jiffy.store.tokens import TokenKind

_CHUNK: Final = 2**20
_OWN_NAME: Final = ".localhost"
_PATH: Final = "/web/"
_UNKNOWN_SECONDS: Final = 5.0
_MOST_UNKNOWN: Final = 1000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The host's name that a request is for, or the name in its path, which `root` is the part of. `is_ours`: it can be for
    nothing but an endpoint."""

    name: str
    root: str
    path: str
    is_ours: bool


class Web:
    def __init__(self, stores: Stores, calls: WebCalls, servers: AppServers) -> None:
        self._stores = stores
        self._calls = calls
        self._servers = servers
        self._unknown: dict[str, float] = {}

    @web.middleware
    async def route(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What is for an endpoint goes there; the rest is this server's own."""
        asked = _read(request)
        endpoint = None if asked is None else await self._find(asked)
        if asked is None or (endpoint is None and not asked.is_ours):
            return await handler(request)
        if endpoint is None:
            raise NotFoundError(f"no web endpoint is named {asked.name}", hint="is its app deployed, or being served?")
        if endpoint.is_guarded:
            await self._check_token(request)
        return await self._answer(request, endpoint, asked)

    async def _find(self, asked: _Asked) -> Endpoint | None:
        """Names that nobody has are remembered for a moment: the server's own may be among them."""
        now = time.monotonic()
        if not asked.is_ours and now < self._unknown.get(asked.name, 0.0):
            return None
        endpoint = await self._stores.endpoints.find(asked.name)
        if endpoint is None and not asked.is_ours:
            if len(self._unknown) > _MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[asked.name] = now + _UNKNOWN_SECONDS
        return endpoint

    async def _check_token(self, request: web.Request) -> None:
        key, secret = request.headers.get("Modal-Key", ""), request.headers.get("Modal-Secret", "")
        if await self._stores.tokens.kind_of(key, secret) not in (TokenKind.CLIENT, TokenKind.PROXY):
            raise UnauthenticatedError(
                "this endpoint needs a token", hint="send its id and secret as Modal-Key and Modal-Secret"
            )

    async def _answer(self, request: web.Request, endpoint: Endpoint, asked: _Asked) -> web.StreamResponse:
        if (server := await self._servers.find(endpoint.function_id)) is not None:
            return await self._servers.answer(request, server, asked.root, asked.path)
        by_socket = is_socket(request)
        scope = _scope(request, asked.root, asked.path, is_socket=by_socket)
        async with self._calls.open(endpoint, scope) as exchange:
            return await (_serve_socket if by_socket else _serve_request)(request, exchange)


def _read(request: web.Request) -> _Asked | None:
    """None for a request to an address, which names no endpoint."""
    name = request.host.partition(":")[0].lower()
    raw = request.rel_url.raw_path
    if name.endswith(_OWN_NAME):
        return _Asked(name.removesuffix(_OWN_NAME), "", raw, is_ours=True)
    if raw.startswith(_PATH):
        label, slash, rest = raw.removeprefix(_PATH).partition("/")
        return _Asked(label, f"{_PATH}{label}", slash + rest or "/", is_ours=True)
    if name == "localhost" or not any(letter.isalpha() for letter in name):
        return None
    return _Asked(name, "", raw, is_ours=False)


def _scope(request: web.Request, root: str, path: str, *, is_socket: bool) -> dict[str, Any]:
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    scope: dict[str, Any] = {
        "type": "websocket" if is_socket else "http",
        "http_version": f"{request.version.major}.{request.version.minor}",
        "scheme": {"http": "ws", "https": "wss"}[scheme] if is_socket else scheme,
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": request.rel_url.raw_query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": (request.remote or "127.0.0.1", 0),
    }
    if is_socket:
        asked = request.headers.get("Sec-WebSocket-Protocol", "")
        scope["subprotocols"] = [each.strip() for each in asked.split(",") if each.strip()]
    else:
        scope["method"] = request.method
    return scope


async def _serve_request(request: web.Request, exchange: WebExchange) -> web.StreamResponse:
    upload = asyncio.ensure_future(_upload(request, exchange))
    response: web.StreamResponse | None = None
    try:
        async for message in exchange.receive():
            if is_gone(request):
                await exchange.send(api_pb2.Asgi(http_disconnect=api_pb2.Asgi.HttpDisconnect()))
                break
            if message is None:
                continue
            if isinstance(message, Failure):
                return _fail(response, message)
            if message.HasField("http_response_start"):
                response = _begin(message.http_response_start)
                await response.prepare(request)
            elif message.HasField("http_response_body") and response is not None:
                await response.write(message.http_response_body.body)
                if not message.http_response_body.more_body:
                    await response.write_eof()
    except ConnectionError:
        await exchange.send(api_pb2.Asgi(http_disconnect=api_pb2.Asgi.HttpDisconnect()))
    finally:
        upload.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await upload
    return response or web.Response(status=500, text="the endpoint gave no response\n")


async def _upload(request: web.Request, exchange: WebExchange) -> None:
    """The body, one chunk behind: the last one is marked."""
    held = b""
    if request.can_read_body:
        async for chunk in request.content.iter_chunked(_CHUNK):
            if held:
                await exchange.send(_body(held, more=True))
            held = chunk
    await exchange.send(_body(held, more=False))


def _body(data: bytes, *, more: bool) -> api_pb2.Asgi:
    return api_pb2.Asgi(http_request=api_pb2.Asgi.HttpRequest(body=data, more_body=more))


def _begin(start: api_pb2.Asgi.HttpResponseStart) -> web.StreamResponse:
    response = web.StreamResponse(status=start.status)
    response.headers.clear()
    for name, value in _pairs(start.headers):
        if name.lower() not in HOP_BY_HOP:
            response.headers.add(name, value)
    return response


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    """Headers: a name, its value, the next name ..."""
    words = [word.decode("latin-1") for word in flat]
    return list(zip(words[::2], words[1::2], strict=True))


def _fail(response: web.StreamResponse | None, failure: Failure) -> web.StreamResponse:
    """A response that has begun is cut off: its client must not take it for whole."""
    if response is None:
        return web.Response(status=failure.status, text=f"{failure.message}\n")
    raise ConnectionResetError(failure.message)


async def _serve_socket(request: web.Request, exchange: WebExchange) -> web.StreamResponse:
    await exchange.send(api_pb2.Asgi(websocket_connect=api_pb2.Asgi.WebsocketConnect()))
    socket: web.WebSocketResponse | None = None
    listening: asyncio.Future[None] | None = None
    try:
        async for message in exchange.receive():
            if is_gone(request):
                break
            if message is None:
                continue
            if isinstance(message, Failure):
                return _fail(socket, message)
            if message.HasField("websocket_accept"):
                socket = await _accept(request, message.websocket_accept)
                listening = asyncio.ensure_future(_listen(socket, exchange))
            elif message.HasField("websocket_close") and socket is None:
                return web.Response(status=403, text="the endpoint refused the connection\n")
            elif socket is not None and not await _pass_on(socket, message):
                break
    finally:
        if listening is not None:
            listening.cancel()
        if socket is not None and not socket.closed:
            await socket.close()
    return socket or web.Response(status=500, text="the endpoint accepted no connection\n")


async def _accept(request: web.Request, accept: api_pb2.Asgi.WebsocketAccept) -> web.WebSocketResponse:
    protocols = (accept.subprotocol,) if accept.subprotocol else ()
    socket = web.WebSocketResponse(protocols=protocols, max_msg_size=0, autoclose=True)
    for name, value in _pairs(accept.headers):
        socket.headers.add(name, value)
    await socket.prepare(request)
    return socket


async def _pass_on(socket: web.WebSocketResponse, message: api_pb2.Asgi) -> bool:
    """To the client; False when that was the end."""
    if message.HasField("websocket_send"):
        if message.websocket_send.HasField("text"):
            await socket.send_str(message.websocket_send.text)
        else:
            await socket.send_bytes(message.websocket_send.bytes)
    elif message.HasField("websocket_close"):
        close = message.websocket_close
        await socket.close(code=close.code or 1000, message=close.reason.encode())
        return False
    return True


async def _listen(socket: web.WebSocketResponse, exchange: WebExchange) -> None:
    async for received in _messages(socket):
        await exchange.send(api_pb2.Asgi(websocket_receive=received))
    code = socket.close_code or 1006
    await exchange.send(api_pb2.Asgi(websocket_disconnect=api_pb2.Asgi.WebsocketDisconnect(code=code)))


async def _messages(socket: web.WebSocketResponse) -> AsyncIterator[api_pb2.Asgi.WebsocketReceive]:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            yield api_pb2.Asgi.WebsocketReceive(text=message.data)
        elif message.type is WSMsgType.BINARY:
            yield api_pb2.Asgi.WebsocketReceive(bytes=message.data)
