"""A server beside the one that leads: callers notice no difference."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.client import Channel
from modal_proto import api_grpc, api_pb2

from jiffy.grpc.connection import Stream
from jiffy.server.caller import Caller
from jiffy.server.certificates import ensure_certificate, server_context
from jiffy.server.following import serve_beside
from jiffy.server.forwarding import Forwarding
from jiffy.server.gate import Gate
from jiffy.server.listeners import Listeners, open_listener
from tests.server.conftest import Api


class Greeting:
    """A noun of the server beside."""

    async def client_hello(self, request: Empty, caller: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(warning="from beside")


async def anybody(stream: Stream) -> Caller:
    return Caller("", "", "", "", 0, "")


async def anything(request: Message) -> None:
    """Every request means something."""


@dataclass
class Beside:
    forwarding: Forwarding
    listeners: Listeners
    leader: str
    stub: Any
    metadata: dict[str, str]


@asynccontextmanager
async def open_beside(api: Api) -> AsyncIterator[Beside]:
    """The leader is the server of `api`, behind a gate."""
    ensure_certificate(api.data.certificate)
    async with AsyncExitStack() as stack:
        gate = stack.enter_context(open_listener("127.0.0.1", 0))
        serving = asyncio.ensure_future(Gate(api.data).serve(gate, server_context(api.data.certificate)))
        grpc, http = (stack.enter_context(open_listener("127.0.0.1", 0)) for _ in range(2))
        listeners = Listeners(grpc, http)
        forwarding = Forwarding(api.data.certificate, listeners.http_port)
        await stack.enter_async_context(serve_beside(forwarding, [Greeting()], anybody, anything, grpc, http))
        channel = Channel("127.0.0.1", grpc.getsockname()[1])
        leader = f"https://127.0.0.1:{gate.getsockname()[1]}"
        yield Beside(forwarding, listeners, leader, api_grpc.ModalClientStub(channel), api.metadata)
        channel.close()
        serving.cancel()
        await asyncio.wait([serving])


@pytest.fixture
async def beside(api: Api) -> AsyncIterator[Beside]:
    async with open_beside(api) as opened:
        opened.forwarding.follow(opened.leader)
        yield opened


async def create_app(beside: Beside, key: str = "") -> str:
    metadata = {**beside.metadata, **({"x-idempotency-key": key} if key else {})}
    answer = await beside.stub.AppCreate(api_pb2.AppCreateRequest(description="an app"), metadata=metadata, timeout=10)
    return str(answer.app_id)


async def test_what_it_can_answer_it_answers_itself(beside: Beside) -> None:
    answer = await beside.stub.ClientHello(Empty(), metadata=beside.metadata)
    assert answer.warning == "from beside"


async def test_the_rest_is_answered_by_the_one_that_leads(beside: Beside, api: Api) -> None:
    app_id = await create_app(beside)
    beat = api_pb2.AppHeartbeatRequest(app_id=app_id)
    assert await api.stub.AppHeartbeat(beat, metadata=api.metadata) == Empty()


async def test_a_request_that_is_repeated_is_the_same_wherever_it_is_made(beside: Beside, api: Api) -> None:
    here = await create_app(beside, key="once")
    request = api_pb2.AppCreateRequest(description="an app")
    there = await api.stub.AppCreate(request, metadata=api.keyed("once"))
    assert here == there.app_id


async def test_errors_are_passed_on(beside: Beside) -> None:
    with pytest.raises(GRPCError) as refused:
        await beside.stub.AppHeartbeat(api_pb2.AppHeartbeatRequest(app_id="ap-none"), metadata=beside.metadata)
    assert refused.value.status is Status.NOT_FOUND
    assert "ap-none" in str(refused.value.message)


async def test_who_has_no_token_is_refused_by_the_one_that_leads(beside: Beside) -> None:
    beside.metadata = {}
    with pytest.raises(GRPCError) as refused:
        await create_app(beside)
    assert refused.value.status is Status.UNAUTHENTICATED


async def test_streams_are_passed_on_as_they_come(beside: Beside) -> None:
    app_id = await create_app(beside)
    stop = api_pb2.AppStopRequest(app_id=app_id)
    asyncio.get_running_loop().call_later(
        0.2, lambda: asyncio.ensure_future(beside.stub.AppStop(stop, metadata=beside.metadata))
    )
    request = api_pb2.AppGetLogsRequest(app_id=app_id, timeout=5)
    async with beside.stub.AppGetLogs.open(metadata=beside.metadata) as stream:
        await stream.send_message(request, end=True)
        batches = [batch async for batch in stream]
    assert batches[-1].app_done


async def test_while_nobody_leads_requests_wait(api: Api) -> None:
    async with open_beside(api) as beside:
        waiting = asyncio.ensure_future(create_app(beside))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        beside.forwarding.follow(beside.leader)
        assert (await waiting).startswith("ap-")


async def test_what_a_leader_that_is_gone_did_not_answer_is_asked_of_the_next(api: Api) -> None:
    async with open_beside(api) as beside:
        with socket.create_server(("127.0.0.1", 0)) as dead:
            beside.forwarding.follow(f"https://127.0.0.1:{dead.getsockname()[1]}")
        waiting = asyncio.ensure_future(create_app(beside))
        await asyncio.sleep(0.3)
        beside.forwarding.follow(beside.leader)
        assert (await waiting).startswith("ap-")


async def test_blobs_are_put_and_got_where_the_caller_is(beside: Beside) -> None:
    data = bytes(range(256)) * 10_000
    request = api_pb2.BlobCreateRequest(content_length=len(data))
    created = await beside.stub.BlobCreate(request, metadata=beside.metadata)
    (upload_url,) = created.upload_urls.items
    assert f":{beside.listeners.http_port}/" in upload_url
    async with aiohttp.ClientSession() as session:
        async with session.put(upload_url, data=data) as put:
            assert put.status == 200
        asked = api_pb2.BlobGetRequest(blob_id=created.blob_id)
        given = await beside.stub.BlobGet(asked, metadata=beside.metadata)
        assert f":{beside.listeners.http_port}/" in given.download_url
        async with session.get(given.download_url) as got:
            assert await got.read() == data


async def test_it_says_itself_that_it_is_well(beside: Beside) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{beside.listeners.http_url}/health") as answer:
        assert (await answer.json())["leads"] is False


async def test_http_that_the_leader_refuses_is_refused(beside: Beside) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{beside.listeners.http_url}/images") as answer:
        assert answer.status == 401
