"""HTTP servers that programs run in containers (`@app.server`): requests are passed on to them as they come."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest

from tests.conftest import ProgramFolder
from tests.hosts import Hosts
from tests.programs.test_join import join
from tests.programs.test_web import ask, local
from tests.servers import ServerUnderTest, write_program

pytestmark = pytest.mark.since("1.6")

SOURCE = """
import asyncio, os, time
from aiohttp import web

async def tell(request):
    told = {"path": request.raw_path, "host": request.host, "headers": dict(request.headers)}
    size = len(await request.read())
    return web.json_response({**told, "method": request.method, "size": size, "at": os.environ["MODAL_TASK_ID"]})

async def slow(request):
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text=os.environ["MODAL_TASK_ID"])

async def cookies(request):
    response = web.Response(status=201, text="set")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response

async def lines(request):
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for number in range(1000):
            await response.write(b"line %d\\n" % number)
            await asyncio.sleep(0.2)
    finally:
        request.app["ended"].append("hung up")

async def upper(request):
    socket = web.WebSocketResponse(protocols=["shout"])
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4000)
        else:
            await socket.send_str(message.data.upper())
    return socket

async def ended(request):
    return web.json_response(request.app["ended"])

app = web.Application(client_max_size=2**30)
app["ended"] = []
for path, handler in (("/slow", slow), ("/cookies", cookies), ("/lines", lines), ("/upper", upper), ("/ended", ended)):
    app.router.add_get(path, handler)
app.router.add_route("*", "/{rest:.*}", tell)
time.sleep(0.3)
web.run_app(app, port=8000, print=None)
"""
PROGRAM = """
    import subprocess, sys
    import modal

    SERVER = SOURCE

    app = modal.App("NAME", image=modal.Image.debian_slim())

    class Server:
        @modal.enter()
        def start(self):
            self.process = subprocess.Popen([sys.executable, "-c", SERVER])

        @modal.exit()
        def stop(self):
            print("the program ends its server", flush=True)
            self.process.terminate()

    @app.server(port=8000, unauthenticated=True, routing_region="here", exit_grace_period=60)
    class Open(Server):
        pass

    @app.server(port=8000, routing_region="here", min_containers=1)
    class Guarded(Server):
        pass

    @app.server(port=8000, unauthenticated=True, routing_region="here",
                target_concurrency=2, max_concurrency=3, max_containers=2, scaledown_window=2)
    class Scaled(Server):
        pass

    @app.server(port=8000, unauthenticated=True, routing_region="here", startup_timeout=3)
    class Silent:
        @modal.enter()
        def start(self):
            pass

    @app.server(port=8000, unauthenticated=True, routing_region="here")
    class Broken:
        @modal.enter()
        def start(self):
            raise ValueError("a mistake of the program")
"""


def written(name: str) -> str:
    """The program of an app with a name."""
    return PROGRAM.replace("SOURCE", repr(SOURCE)).replace("NAME", name)


@pytest.fixture(scope="module")
def served(server: ServerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    program = write_program(tmp_path_factory.mktemp("served"), written("served"), "served.py")
    told = server.modal("deploy", str(program))
    assert "http://served-open.localhost" in told
    yield server
    server.modal("app", "stop", "served", "--yes")


def containers(server: ServerUnderTest, function: str) -> int:
    query = (
        f"SELECT count(*) FROM tasks JOIN functions USING (function_id) WHERE name='{function}' AND ended_at IS NULL"
    )
    return int(server.rows(query)[0][0])


def test_a_server_answers_every_path_and_method(served: ServerUnderTest) -> None:
    status, text = ask(served, local("served-open"), "/a%20b/c?x=1&y=%2F", "PUT", b"z" * 100_000, X_Mine="yes")
    told = json.loads(text)
    assert status == 200
    assert told["path"] == "/a%20b/c?x=1&y=%2F"
    assert told["method"] == "PUT" and told["size"] == 100_000
    assert told["host"] == local("served-open")
    assert told["headers"]["X-Mine"] == "yes"
    assert told["headers"]["X-Forwarded-For"] == "127.0.0.1"
    status, text = ask(served, "127.0.0.1", "/web/served-open/below?q")
    assert json.loads(text)["path"] == "/below?q"
    assert json.loads(text)["headers"]["X-Forwarded-Prefix"] == "/web/served-open"


def test_only_who_shows_a_token_gets_in_unless_the_program_says_otherwise(served: ServerUnderTest) -> None:
    assert ask(served, local("served-guarded"))[0] == 401
    token = served.environment()
    key, secret = token["MODAL_TOKEN_ID"], token["MODAL_TOKEN_SECRET"]
    status, text = ask(served, local("served-guarded"), Modal_Key=key, Modal_Secret=secret)
    assert status == 200
    assert secret not in text, "the container has no use for it"


def test_all_headers_and_streams_come_through(served: ServerUnderTest) -> None:
    async def talk() -> None:
        base = f"http://{served.host}:{served.port + 1}/web/served-open"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}/cookies") as response:
                assert response.status == 201
                assert [each.split(";")[0] for each in response.headers.getall("Set-Cookie")] == ["one=1", "two=2"]
            async with session.get(f"{base}/lines") as response:
                started = time.monotonic()
                assert [await response.content.readline() for _ in range(3)] == [b"line 0\n", b"line 1\n", b"line 2\n"]
                assert time.monotonic() - started > 0.2
            async with session.ws_connect(f"{base}/upper", protocols=["shout"]) as socket:
                assert socket.protocol == "shout"
                await socket.send_str("tea" * 1000)
                assert await socket.receive_str() == "TEA" * 1000
                await socket.send_str("bye")
                await socket.receive()
                assert socket.close_code == 4000

    asyncio.run(talk())
    deadline = time.monotonic() + 20
    while ask(served, local("served-open"), "/ended") != (200, '["hung up"]'):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_containers_come_by_the_target_and_refuse_what_is_more_than_they_may_have(served: ServerUnderTest) -> None:
    def slow() -> tuple[int, str]:
        return ask(served, local("served-scaled"), "/slow?seconds=5")

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(slow) for _ in range(6)]
        deadline = time.monotonic() + 20
        while containers(served, "Scaled") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answers = [each.result() for each in first]
        assert {status for status, _ in answers} == {200}
        assert len({task_id for _, task_id in answers}) == 2
        more = [pool.submit(slow) for _ in range(7)]
        statuses = sorted(each.result()[0] for each in more)
        assert statuses == [200] * 6 + [429]
    deadline = time.monotonic() + 30
    while containers(served, "Scaled"):
        assert time.monotonic() < deadline, "idle containers end"
        time.sleep(0.1)


def test_one_that_does_not_start_says_why(served: ServerUnderTest) -> None:
    status, text = ask(served, local("served-silent"))
    assert status == 503 and "startup timeout of 3 s" in text
    status, text = ask(served, local("served-broken"))
    assert status == 503 and "a mistake of the program" in text


def test_a_server_is_looked_up_and_scaled_by_others(served: ServerUnderTest, program: ProgramFolder) -> None:
    text = """
        import urllib.request
        import modal

        server = modal.Server.from_name("served", "Guarded")
        print("at", server.get_url())
        print("kept", server.autoscaler.update(min_containers=2).min_containers)
    """
    outcome = served.script(program(text))
    assert outcome.code == 0, outcome.output
    assert f"at http://served-guarded.localhost:{served.port + 1}" in outcome.output
    assert "kept 2" in outcome.output
    deadline = time.monotonic() + 20
    while containers(served, "Guarded") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_requests_that_run_when_a_container_is_stopped_are_answered(served: ServerUnderTest) -> None:
    """And its program ends in good order."""
    _, text = ask(served, local("served-open"))
    task_id = json.loads(text)["at"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, served, local("served-open"), "/slow?seconds=2")
        time.sleep(0.5)
        served.modal("container", "stop", task_id, "--yes")
        assert running.result() == (200, task_id)
    deadline = time.monotonic() + 20
    while "the program ends its server" not in served.modal("container", "logs", task_id):
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_a_new_version_answers_while_an_earlier_one_finishes(served: ServerUnderTest, program: ProgramFolder) -> None:
    _, text = ask(served, local("served-open"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, served, local("served-open"), "/slow?seconds=12")
        time.sleep(0.5)
        served.modal("deploy", str(program(written("served").replace("ends its", "ends the"), "served.py")))
        _, other = ask(served, local("served-open"))
        assert not running.done()
        assert json.loads(other)["at"] != json.loads(text)["at"]
        assert running.result() == (200, json.loads(text)["at"])


def test_a_server_goes_on_after_a_restart_of_jiffys(served: ServerUnderTest) -> None:
    _, before = ask(served, local("served-open"))
    process = served.serving_pid
    served.kill()
    served.await_workers(other_than=process)
    _, after = ask(served, local("served-open"))
    assert json.loads(after)["at"] == json.loads(before)["at"], "in the same container"


def test_a_server_on_a_worker_elsewhere_answers_too(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    join(gated, hosts.add())
    gated.modal("deploy", str(program(written("far"))))
    status, text = ask(gated, local("far-open"), "/there", "POST", b"y" * 3_000_000)
    assert status == 200
    assert json.loads(text)["size"] == 3_000_000
