"""Web endpoints: reached by their name or by a path, streaming in both directions."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest, write_program

PROGRAM = """
    import modal

    image = modal.Image.debian_slim().pip_install("fastapi", "uvicorn")
    app = modal.App("site", image=image)
    @app.function()
    @modal.fastapi_endpoint()
    def hello(name: str = "you"):
        return {"hello": name}

    @app.function()
    @modal.fastapi_endpoint(method="POST", label="named-by-hand")
    def add(item: dict):
        return {"sum": item["a"] + item["b"]}

    @app.function()
    @modal.concurrent(max_inputs=50)
    @modal.asgi_app(custom_domains=["shop.example.com"])
    def api():
        import asyncio
        from fastapi import FastAPI, Request, WebSocket
        from fastapi.responses import RedirectResponse, StreamingResponse

        web = FastAPI()
        ended = []

        @web.get("/")
        def root(request: Request):
            return {"host": request.headers["host"], "query": str(request.query_params)}

        @web.post("/size")
        async def size(request: Request):
            total = 0
            async for chunk in request.stream():
                total += len(chunk)
            return {"size": total}

        @web.get("/large")
        def large():
            return StreamingResponse((b"x" * 1_000_000 for _ in range(100)), media_type="text/plain")

        @web.get("/events")
        async def events():
            async def lines():
                for number in range(4):
                    yield f"data: {number}\\n\\n"
                    await asyncio.sleep(0.5)
            return StreamingResponse(lines(), media_type="text/event-stream")

        @web.get("/forever")
        async def forever():
            async def lines():
                try:
                    while True:
                        yield b"again "
                        await asyncio.sleep(0.2)
                finally:
                    ended.append("hung up")
            return StreamingResponse(lines())

        @web.get("/ended")
        def told():
            return ended

        @web.websocket("/upper")
        async def upper(socket: WebSocket):
            await socket.accept(subprotocol="shout")
            while (text := await socket.receive_text()) != "bye":
                await socket.send_text(text.upper())
            await socket.close(4000)

        return web

    @app.function()
    @modal.wsgi_app()
    def plain():
        def answer(environ, start):
            start("200 OK", [("content-type", "text/plain"), ("x-one", "1"), ("x-one", "2")])
            return [environ["PATH_INFO"].encode(), b" by ", environ["REQUEST_METHOD"].encode()]
        return answer

    @app.function()
    @modal.web_server(8000)
    def files():
        import subprocess
        subprocess.Popen(["python", "-m", "http.server", "8000", "--directory", "/etc"])

    @app.function()
    @modal.fastapi_endpoint(requires_proxy_auth=True)
    def secret():
        return "let in"

    @app.function(timeout=2)
    @modal.fastapi_endpoint()
    def slow():
        import time
        time.sleep(60)

    @app.cls()
    class Shop:
        @modal.enter()
        def open(self):
            self.stock = 3

        @modal.fastapi_endpoint()
        def stock(self):
            return {"stock": self.stock}
"""


@pytest.fixture(scope="module")
def site(server: ServerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    server.modal("deploy", str(write_program(tmp_path_factory.mktemp("site"), PROGRAM, "shop.py")))
    yield server
    server.modal("app", "stop", "site", "--yes")


def ask(
    site: ServerUnderTest, host: str, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(site.host, site.port + 1, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": host, **named})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def local(name: str) -> str:
    return f"{name}.localhost:1"


def test_a_function_answers_at_its_name_and_by_a_path(site: ServerUnderTest) -> None:
    assert ask(site, local("site-hello"), "/?name=ada") == (200, '{"hello":"ada"}')
    assert ask(site, "127.0.0.1", "/web/site-hello/?name=grace") == (200, '{"hello":"grace"}')
    body = b'{"a": 2, "b": 3}'
    answer = ask(site, local("named-by-hand"), method="POST", body=body, Content_Type="application/json")
    assert answer == (200, '{"sum":5}')
    assert ask(site, local("named-by-hand"))[0] == 405
    assert ask(site, local("site-shop-stock")) == (200, '{"stock":3}')


def test_an_app_answers_at_its_own_domain(site: ServerUnderTest) -> None:
    assert ask(site, "shop.example.com", "/?a=1&b=%20") == (200, '{"host":"shop.example.com","query":"a=1&b=+"}')


def test_other_kinds_of_servers_answer_too(site: ServerUnderTest) -> None:
    assert ask(site, local("site-plain"), "/a%20b", "PUT", b"") == (200, "/a b by PUT")
    status, text = ask(site, local("site-files"), "/hostname")
    assert status == 200 and text.strip()


def test_an_endpoint_that_nobody_has_is_told_so(site: ServerUnderTest) -> None:
    status, text = ask(site, local("nobody"))
    assert (status, text.split("(")[0].strip()) == (404, "no web endpoint is named nobody")


def test_only_who_shows_a_token_gets_in(site: ServerUnderTest) -> None:
    assert ask(site, local("site-secret"))[0] == 401
    assert ask(site, local("site-secret"), Modal_Key="wk-no", Modal_Secret="ws-no")[0] == 401
    token = site.environment()
    key, secret = token["MODAL_TOKEN_ID"], token["MODAL_TOKEN_SECRET"]
    assert ask(site, local("site-secret"), Modal_Key=key, Modal_Secret=secret) == (200, '"let in"')


def test_a_token_may_be_for_endpoints_only(site: ServerUnderTest) -> None:
    data = ("--data", str(site.data.root))
    issued = json.loads(jiffy("token", "create", "--proxy", "--json", *data).output)
    key, secret = issued["token_id"], issued["token_secret"]
    assert ask(site, local("site-secret"), Modal_Key=key, Modal_Secret=secret) == (200, '"let in"')
    site.modal("app", "list", code=1, MODAL_TOKEN_ID=key, MODAL_TOKEN_SECRET=secret)
    assert jiffy("token", "revoke", key, *data).code == 0
    deadline = time.monotonic() + 30
    while ask(site, local("site-secret"), Modal_Key=key, Modal_Secret=secret)[0] != 401:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_request_that_takes_too_long_is_told_so(site: ServerUnderTest) -> None:
    status, text = ask(site, local("site-slow"))
    assert status == 504 and "timeout of 2 s" in text


def test_a_large_body_flows_in_and_a_large_response_out(site: ServerUnderTest) -> None:
    """A gigabyte, while the server's memory stays as it was."""
    ask(site, local("site-api"))
    status = Path(f"/proc/{site.serving_pid}/status")

    def resident() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))

    before = resident()

    async def upload() -> int:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(1024):
                yield b"y" * 2**20

        async with aiohttp.ClientSession() as session:
            address = f"http://{site.host}:{site.port + 1}/web/site-api/size"
            async with session.post(address, data=body()) as response:
                return int((await response.json())["size"])

    assert asyncio.run(upload()) == 2**30
    assert ask(site, local("site-api"), "/large") == (200, "x" * 100_000_000)
    assert resident() - before < 300_000, "kilobytes"


def test_events_arrive_as_they_are_sent(site: ServerUnderTest) -> None:
    async def read() -> list[float]:
        async with aiohttp.ClientSession() as session:
            address = f"http://{site.host}:{site.port + 1}/web/site-api/events"
            async with session.get(address) as response:
                return [time.monotonic() async for line in response.content if line.strip()]

    moments = asyncio.run(read())
    assert len(moments) == 4
    assert moments[-1] - moments[0] > 1.0


def test_messages_of_a_web_socket_flow_both_ways(site: ServerUnderTest) -> None:
    async def talk() -> tuple[list[str], str | None, int | None]:
        async with aiohttp.ClientSession() as session:
            address = f"http://{site.host}:{site.port + 1}/web/site-api/upper"
            async with session.ws_connect(address, protocols=["shout"]) as socket:
                answers = []
                for word in ("tea", "cake" * 1000):
                    await socket.send_str(word)
                    answers.append(await socket.receive_str())
                await socket.send_str("bye")
                await socket.receive()
                return answers, socket.protocol, socket.close_code

    assert asyncio.run(talk()) == (["TEA", "CAKE" * 1000], "shout", 4000)


def test_a_client_that_hangs_up_ends_its_request(site: ServerUnderTest) -> None:
    async def hang_up() -> None:
        async with aiohttp.ClientSession() as session:
            address = f"http://{site.host}:{site.port + 1}/web/site-api/forever"
            async with session.get(address) as response:
                await response.content.readany()

    asyncio.run(hang_up())
    deadline = time.monotonic() + 20
    while ask(site, local("site-api"), "/ended") != (200, '["hung up"]'):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    unfinished = """SELECT count(*) FROM inputs WHERE finished_at IS NULL AND function_id IN
    (SELECT function_id FROM endpoints)"""
    while site.rows(unfinished) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
