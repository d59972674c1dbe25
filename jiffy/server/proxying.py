"""Requests of HTTP that somebody else answers: passed on as they come, in both directions, WebSockets too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"}
)
"""Headers that are about one connection."""

_CHUNK: Final = 256 * 1024
_OF_A_SOCKET: Final = "sec-websocket-"
_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_GONE_SECONDS: Final = 1.0


def is_socket(request: web.Request) -> bool:
    """Whether it asks for a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def headers_of(request: web.Request, *left_out: str) -> CIMultiDict[str]:
    """Those of a request that are for whoever answers it."""
    dropped = {*HOP_BY_HOP, "expect", *left_out}
    return CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in dropped)


async def pass_request(
    request: web.Request, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Have it answered; both bodies are streamed. What is asked ends when the client hangs up."""
    body = request.content if request.can_read_body else None
    asked = asyncio.ensure_future(_answer(request, session, url, headers, body))
    try:
        while not asked.done() and not is_gone(request):
            await asyncio.wait([asked], timeout=_GONE_SECONDS)
        if not asked.done():
            raise ConnectionResetError("the client is gone")
        return await asked
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def _answer(
    request: web.Request, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], body: Any
) -> web.StreamResponse:
    async with session.request(
        request.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=_ADDED
    ) as answer:
        return await _repeat(answer, request)


async def _repeat(answer: aiohttp.ClientResponse, request: web.Request) -> web.StreamResponse:
    headers = CIMultiDict(pair for pair in answer.headers.items() if pair[0].lower() not in HOP_BY_HOP)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    if answer.headers.get("Connection", "").lower() == "close":
        response.force_close()
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


async def pass_socket(
    request: web.Request, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Have a WebSocket answered: messages go both ways until either end closes."""
    names = request.headers.get("Sec-WebSocket-Protocol", "")
    protocols = tuple(filter(None, (name.strip() for name in names.split(","))))
    kept = {name: value for name, value in headers.items() if not name.lower().startswith(_OF_A_SOCKET)}
    async with session.ws_connect(url, headers=kept, protocols=protocols, max_msg_size=0, autoping=False) as theirs:
        ours = web.WebSocketResponse(
            protocols=(theirs.protocol,) if theirs.protocol else (), max_msg_size=0, autoping=False
        )
        await ours.prepare(request)
        ways = [asyncio.ensure_future(_pour(ours, theirs)), asyncio.ensure_future(_pour(theirs, ours))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    return ours


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pour(one: _Socket, other: _Socket) -> None:
    """Messages, and how it ended."""
    async for message in one:
        match message.type:
            case WSMsgType.TEXT:
                await other.send_str(message.data)
            case WSMsgType.BINARY:
                await other.send_bytes(message.data)
            case WSMsgType.PING:
                await other.ping(message.data)
            case WSMsgType.PONG:
                await other.pong(message.data)
    await other.close(code=one.close_code or aiohttp.WSCloseCode.GOING_AWAY)


def is_gone(request: web.Request) -> bool:
    """Whether the client has hung up."""
    return request.transport is None or request.transport.is_closing()
