"""Requests that somebody else answers: all of both sides comes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from yarl import URL

from jiffy.server.proxying import headers_of, is_socket, pass_request, pass_socket


@pytest.fixture
def hung_up() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def behind(hung_up: asyncio.Event) -> AsyncIterator[BaseTestServer]:
    """Who answers."""
    application = web.Application(client_max_size=0)

    async def tell(request: web.Request) -> web.Response:
        response = web.json_response({"path": request.raw_path, "body": len(await request.read())})
        response.headers.add("Set-Cookie", "one=1")
        response.headers.add("Set-Cookie", "two=2")
        response.headers["X-Header-Seen"] = request.headers.get("Proxy-Connection", "none")
        return response

    async def wait(request: web.Request) -> web.Response:
        try:
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.02)
        finally:
            hung_up.set()
        return web.Response()

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["one"])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data[::-1])
        return socket

    application.router.add_get("/wait", wait)
    application.router.add_get("/echo", echo)
    application.router.add_route("*", "/{rest:.*}", tell)
    async with TestServer(application) as server:
        yield server


@pytest.fixture
async def before(behind: BaseTestServer) -> AsyncIterator[BaseTestServer]:
    """Who is asked."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            url = URL(f"http://{behind.host}:{behind.port}{request.raw_path}", encoded=True)
            passed = pass_socket if is_socket(request) else pass_request
            return await passed(request, session, url, headers_of(request))

        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{rest:.*}", pass_on)
        async with TestServer(application) as server:
            yield server


def address(server: BaseTestServer, path: str) -> URL:
    return URL(f"http://{server.host}:{server.port}{path}", encoded=True)


async def test_paths_bodies_and_repeated_headers_come_through(before: BaseTestServer) -> None:
    async with aiohttp.ClientSession() as session:
        asked = session.put(
            address(before, "/a%2Fb?x=%2F"), data=b"x" * 3_000_000, headers={"Proxy-Connection": "keep-alive"}
        )
        async with asked as response:
            assert await response.json() == {"path": "/a%2Fb?x=%2F", "body": 3_000_000}
            assert response.headers.getall("Set-Cookie") == ["one=1", "two=2"]
            assert response.headers["X-Header-Seen"] == "none", "it was for the first connection only"


async def test_what_is_asked_ends_with_the_client(before: BaseTestServer, hung_up: asyncio.Event) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            await session.get(address(before, "/wait"), timeout=aiohttp.ClientTimeout(total=0.1))
    await asyncio.wait_for(hung_up.wait(), 10)


async def test_messages_of_a_web_socket_go_both_ways_until_one_end_closes(before: BaseTestServer) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address(before, "/echo"), protocols=["one"]) as it,
    ):
        assert it.protocol == "one"
        await it.send_str("tea")
        assert await it.receive_str() == "aet"
        assert await it.close()
