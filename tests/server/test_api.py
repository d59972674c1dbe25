"""The wire API as any client meets it: what is there, what is not, what is repeated, what is nonsense."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest
from google.protobuf import message_factory
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.client import Channel
from modal_proto import api_grpc, api_pb2

from jiffy.objects.base import ABSENT, BATCH_LENGTH
from jiffy.objects.local import LocalObjects
from jiffy.server import bodies
from tests.server.conftest import Api

SERVICE = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
SAID_NO = {
    *(Status.UNIMPLEMENTED, Status.NOT_FOUND, Status.INVALID_ARGUMENT, Status.UNAUTHENTICATED),
    *(Status.FAILED_PRECONDITION, Status.ALREADY_EXISTS),
}


async def create_app(api: Api, **fields: Any) -> str:
    request = api_pb2.AppCreateRequest(description="test", app_state=api_pb2.APP_STATE_EPHEMERAL, **fields)
    return str((await api.stub.AppCreate(request, metadata=api.metadata)).app_id)


async def create_function(api: Api, app_id: str) -> str:
    function = api_pb2.Function(function_name="f", module_name="m", image_id="im-none")
    request = api_pb2.FunctionCreateRequest(app_id=app_id, function=function)
    return str((await api.stub.FunctionCreate(request, metadata=api.metadata)).function_id)


async def begin_call(api: Api, function_id: str, inputs: int, key: str = "") -> api_pb2.FunctionMapResponse:
    items = [
        api_pb2.FunctionPutInputsItem(idx=number, input=api_pb2.FunctionInput(args=b"x")) for number in range(inputs)
    ]
    request = api_pb2.FunctionMapRequest(
        function_id=function_id, function_call_type=api_pb2.FUNCTION_CALL_TYPE_MAP, pipelined_inputs=items
    )
    response: api_pb2.FunctionMapResponse = await api.stub.FunctionMap(
        request, metadata=api.keyed(key) if key else api.metadata
    )
    return response


async def status_of(call: Any) -> tuple[Status | None, str]:
    try:
        await call
    except GRPCError as error:
        return error.status, error.message or ""
    return None, ""


@pytest.mark.parametrize(
    "change",
    [
        {"x-modal-token-id": "ak-wrong"},
        {"x-modal-token-secret": "as-wrong"},
        {"x-modal-token-id": None, "x-modal-token-secret": None},
    ],
)
async def test_only_tokens_of_this_server_are_let_in(api: Api, change: dict[str, str | None]) -> None:
    metadata = {name: value for name, value in {**api.metadata, **change}.items() if value is not None}
    status, message = await status_of(api.stub.ClientHello(Empty(), metadata=metadata))
    assert status is Status.UNAUTHENTICATED
    assert "jiffy env" in message


async def test_a_client_is_greeted(api: Api) -> None:
    assert await status_of(api.stub.ClientHello(Empty(), metadata=api.metadata)) == (None, "")


async def test_a_client_is_given_a_token_that_ends_soon_and_is_signed(api: Api) -> None:
    request = api_pb2.AuthTokenGetRequest()
    token = (await api.stub.AuthTokenGet(request, metadata=api.metadata)).token
    claims = jwt.decode(token, api.data.signing_key.read_text(), ["HS256"])
    assert claims["sub"] == api.metadata["x-modal-token-id"]
    assert 0 < claims["exp"] - time.time() <= 1200
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, "another key of the same length as ours", ["HS256"])
    assert api.data.signing_key.stat().st_mode & 0o077 == 0


async def test_what_is_not_there_yet_says_so_in_a_sentence(api: Api) -> None:
    status, message = await status_of(api.stub.ProxyList(Empty(), metadata=api.metadata))
    assert status is Status.UNIMPLEMENTED
    assert message == "this version of jiffy does not answer ProxyList yet"


async def test_empty_requests_are_answered_or_refused_but_never_break_the_server(api: Api) -> None:
    async def ask(method: Any) -> str:
        request = message_factory.GetMessageClass(method.input_type)()
        try:
            await asyncio.wait_for(getattr(api.stub, method.name)(request, metadata=api.metadata), 20)
        except GRPCError as error:
            return "" if error.status in SAID_NO else f"{method.name}: {error}"
        return ""

    assert [answer for answer in await asyncio.gather(*map(ask, SERVICE.methods)) if answer] == []
    assert (await status_of(api.stub.ClientHello(Empty(), metadata=api.metadata)))[0] is None


async def test_ids_that_nobody_has_are_not_found(api: Api) -> None:
    for call in (
        api.stub.AppHeartbeat(api_pb2.AppHeartbeatRequest(app_id="ap-none"), metadata=api.metadata),
        api.stub.FunctionMap(api_pb2.FunctionMapRequest(function_id="fu-none"), metadata=api.metadata),
        api.stub.FunctionGetOutputs(
            api_pb2.FunctionGetOutputsRequest(function_call_id="fc-none"), metadata=api.metadata
        ),
        api.stub.BlobGet(api_pb2.BlobGetRequest(blob_id="bl-none"), metadata=api.metadata),
    ):
        assert (await status_of(call))[0] is Status.NOT_FOUND


async def test_what_is_for_containers_is_refused_to_clients(api: Api) -> None:
    for call in (
        api.stub.FunctionGetInputs(api_pb2.FunctionGetInputsRequest(), metadata=api.metadata),
        api.stub.FunctionPutOutputs(api_pb2.FunctionPutOutputsRequest(), metadata=api.metadata),
        api.stub.TaskResult(api_pb2.TaskResultRequest(), metadata=api.metadata),
    ):
        assert (await status_of(call))[0] is Status.UNAUTHENTICATED


async def test_a_repeated_request_does_its_work_once(api: Api) -> None:
    create = api_pb2.AppCreateRequest(description="test", app_state=api_pb2.APP_STATE_EPHEMERAL)
    first, second = [await api.stub.AppCreate(create, metadata=api.keyed("k1")) for _ in range(2)]
    assert first.app_id == second.app_id
    other = await api.stub.AppCreate(create, metadata=api.keyed("k2"))
    assert other.app_id != first.app_id


async def test_repeated_inputs_are_accepted_once(api: Api) -> None:
    function_id = await create_function(api, await create_app(api))
    first, second = [await begin_call(api, function_id, 3, key="k") for _ in range(2)]
    assert first == second
    assert len({item.input_id for item in first.pipelined_inputs}) == 3
    request = api_pb2.FunctionGetOutputsRequest(function_call_id=first.function_call_id, timeout=0)
    assert (await api.stub.FunctionGetOutputs(request, metadata=api.metadata)).num_unfinished_inputs == 3


async def test_a_function_is_told_back_with_its_data(api: Api) -> None:
    app_id = await create_app(api)
    request = api_pb2.FunctionCreateRequest(
        app_id=app_id, function=api_pb2.Function(function_name="f", module_name="m")
    )
    response = await api.stub.FunctionCreate(request, metadata=api.metadata)
    assert response.HasField("function_data")
    assert response.handle_metadata.function_name == "f"


async def test_waiting_for_outputs_ends_at_the_timeout(api: Api) -> None:
    call = await begin_call(api, await create_function(api, await create_app(api)), 1)
    started = time.monotonic()
    request = api_pb2.FunctionGetOutputsRequest(function_call_id=call.function_call_id, timeout=0.4)
    response = await api.stub.FunctionGetOutputs(request, metadata=api.metadata)
    assert 0.35 < time.monotonic() - started < 5
    assert list(response.outputs) == []


async def test_a_cancelled_call_wakes_those_who_wait_for_it(api: Api) -> None:
    call = await begin_call(api, await create_function(api, await create_app(api)), 2)
    request = api_pb2.FunctionGetOutputsRequest(function_call_id=call.function_call_id, timeout=30)
    waiting = asyncio.ensure_future(api.stub.FunctionGetOutputs(request, metadata=api.metadata))
    await asyncio.sleep(0.1)
    cancel = api_pb2.FunctionCallCancelRequest(function_call_id=call.function_call_id)
    await api.stub.FunctionCallCancel(cancel, metadata=api.metadata)
    response = await asyncio.wait_for(waiting, 5)
    assert {output.result.status for output in response.outputs} == {api_pb2.GenericResult.GENERIC_STATUS_TERMINATED}


async def test_a_cursor_that_is_nonsense_is_refused(api: Api) -> None:
    app_id = await create_app(api)
    call = await begin_call(api, await create_function(api, app_id), 1)
    outputs = api_pb2.FunctionGetOutputsRequest(function_call_id=call.function_call_id, last_entry_id="x-y")
    assert (await status_of(api.stub.FunctionGetOutputs(outputs, metadata=api.metadata)))[0] is Status.INVALID_ARGUMENT
    logs = api_pb2.AppGetLogsRequest(app_id=app_id, last_entry_id="'; drop table logs")
    assert (await status_of(api.stub.AppGetLogs(logs, metadata=api.metadata)))[0] is Status.INVALID_ARGUMENT


async def test_the_log_of_a_disconnected_app_ends_with_app_done(api: Api) -> None:
    app_id = await create_app(api)
    disconnect = api_pb2.AppClientDisconnectRequest(app_id=app_id)
    await api.stub.AppClientDisconnect(disconnect, metadata=api.metadata)
    batches = await api.stub.AppGetLogs(api_pb2.AppGetLogsRequest(app_id=app_id, timeout=5), metadata=api.metadata)
    assert batches[-1].app_done


@pytest.fixture
def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jiffy.server.apps.HEARTBEAT_GRACE", 0.3)
    monkeypatch.setattr("jiffy.server.apps.WATCH_SECONDS", 0.1)


async def test_an_app_whose_client_is_silent_is_stopped(short_of_patience: None, api: Api) -> None:
    app_id = await create_app(api)
    batches = await api.stub.AppGetLogs(api_pb2.AppGetLogsRequest(app_id=app_id, timeout=20), metadata=api.metadata)
    assert batches[-1].app_done
    heartbeat = api_pb2.AppHeartbeatRequest(app_id=app_id)
    assert (await status_of(api.stub.AppHeartbeat(heartbeat, metadata=api.metadata)))[0] is Status.NOT_FOUND


async def create_blob(api: Api, data: bytes) -> api_pb2.BlobCreateResponse:
    request = api_pb2.BlobCreateRequest(content_length=len(data), content_md5="", content_sha256_base64="")
    response: api_pb2.BlobCreateResponse = await api.stub.BlobCreate(request, metadata=api.metadata)
    return response


async def test_a_blob_is_put_and_got_by_http(api: Api) -> None:
    data = b"large" * 1000
    blob = await create_blob(api, data)
    assert blob.upload_urls.items[0].startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as session:
        put = await session.put(blob.upload_urls.items[0], data=data)
        assert put.headers["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
        found = await api.stub.BlobGet(api_pb2.BlobGetRequest(blob_id=blob.blob_id), metadata=api.metadata)
        assert await (await session.get(found.download_url)).read() == data


async def test_a_blob_that_stops_coming_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_STALL_SECONDS", 0.2)
    created = await api.stub.BlobCreate(api_pb2.BlobCreateRequest(content_length=100), metadata=api.metadata)

    async def body() -> AsyncIterator[bytes]:
        yield b"a part"
        await asyncio.sleep(5)

    async with aiohttp.ClientSession() as session, session.put(created.upload_urls.items[0], data=body()) as answer:
        assert answer.status == 503
        assert "stopped coming" in await answer.text()


async def test_a_blob_of_which_nothing_comes_is_given_up_soon(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the client's HTTP library repeats one when its server was killed: then the client sends it again as a whole."""
    monkeypatch.setattr(bodies, "_FIRST_SECONDS", 0.2)
    created = await api.stub.BlobCreate(api_pb2.BlobCreateRequest(content_length=100), metadata=api.metadata)

    url = urlsplit(created.upload_urls.items[0])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"PUT {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 100\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert b" 503 " in answer
    writer.close()


async def test_bodies_of_blobs_have_connections_of_their_own(api: Api) -> None:
    """The client would send one again without its bytes, on a connection that a killed server has left."""
    created = await api.stub.BlobCreate(api_pb2.BlobCreateRequest(content_length=3), metadata=api.metadata)
    (url,) = created.upload_urls.items
    async with aiohttp.ClientSession() as session:
        async with session.put(url, data=b"abc") as answer:
            assert answer.headers["Connection"] == "close"
        async with session.get(url) as answer:
            assert await answer.read() == b"abc"
            assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("sent", [b"short", b"far too long for what was announced"])
async def test_a_blob_of_another_length_than_announced_is_refused(api: Api, sent: bytes) -> None:
    blob = await create_blob(api, b"announced")
    async with aiohttp.ClientSession() as session:
        assert (await session.put(blob.upload_urls.items[0], data=sent)).status == 400
    assert (await status_of(api.stub.BlobGet(api_pb2.BlobGetRequest(blob_id=blob.blob_id), metadata=api.metadata)))[
        0
    ] is Status.NOT_FOUND
    assert list(api.data.incoming.iterdir()) == []


@pytest.mark.parametrize("filename", ["../outside", "a/../../b", "/x/../../etc/passwd", "a\0b", "x" * 300])
async def test_a_mount_cannot_hold_files_outside_of_its_root(api: Api, filename: str) -> None:
    request = api_pb2.MountGetOrCreateRequest(
        object_creation_type=api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL,
        files=[api_pb2.MountFile(filename=filename, sha256_hex="0" * 64)],
        app_id=await create_app(api),
    )
    assert (await status_of(api.stub.MountGetOrCreate(request, metadata=api.metadata)))[0] in (
        *(Status.INVALID_ARGUMENT, Status.NOT_FOUND),
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [("/objects/" + "0" * 64, 401), ("/objects/..%2f..%2ftoken.json", 401), ("/worker", 401), ("/blobs/bl-none", 404)],
)
async def test_without_the_token_http_gives_nothing(api: Api, path: str, status: int) -> None:
    async with aiohttp.ClientSession() as session:
        assert (await session.get(f"{api.http_url}{path}")).status == status


async def test_objects_are_given_to_who_has_the_token(api: Api) -> None:
    token = f"{api.metadata['x-modal-token-id']}:{api.metadata['x-modal-token-secret']}"
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        assert (await session.get(f"{api.http_url}/objects/{'0' * 64}")).status == 404
        assert (await session.get(f"{api.http_url}/objects/nonsense")).status == 400
        assert (await session.get(f"{api.http_url}/objects/..%2f..%2ftoken.json")).status in (400, 404)


async def test_a_batch_holds_each_object_in_order_and_says_which_are_absent(api: Api) -> None:
    token = f"{api.metadata['x-modal-token-id']}:{api.metadata['x-modal-token-secret']}"
    objects = LocalObjects(api.data.objects, api.data.incoming)
    large = bytes(3 * 2**20)
    digests = [objects.put(b"first"), "0" * 64, objects.put(large), objects.put(b"last")]
    body = b"".join(map(bytes.fromhex, digests))
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        answer = await (await session.post(f"{api.http_url}/objects", data=body)).read()
        expected = [BATCH_LENGTH.pack(5), b"first", BATCH_LENGTH.pack(ABSENT), BATCH_LENGTH.pack(len(large)), large]
        assert answer == b"".join([*expected, BATCH_LENGTH.pack(4), b"last"])
        for nonsense in (b"x" * 31, bytes(32) * 20_001):
            assert (await session.post(f"{api.http_url}/objects", data=nonsense)).status == 400
    async with aiohttp.ClientSession() as session:
        assert (await session.post(f"{api.http_url}/objects", data=body)).status == 401


async def test_addresses_are_by_the_name_by_which_the_caller_asks(api: Api) -> None:
    """Clients before 1.5 tell it only by the request's authority."""
    metadata = {name: value for name, value in api.metadata.items() if name != "x-modal-host"}
    channel = Channel("localhost", urlsplit(api.listeners.url).port)
    request = api_pb2.BlobCreateRequest(content_length=1)
    blob = await api_grpc.ModalClientStub(channel).BlobCreate(request, metadata=metadata)
    channel.close()
    assert blob.upload_urls.items[0].startswith(f"http://localhost:{api.listeners.http_port}/")
