"""Very many inputs that wait: they are in the store, not in the server's memory."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from grpclib.client import Channel
from modal_proto import api_grpc, api_pb2

from tests.servers import ServerUnderTest

_INPUTS = 100_000
_AT_ONCE = 500


def resident(pid: int) -> int:
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


async def fill(server: ServerUnderTest, inputs: int) -> Any:
    """A function's inputs, as a client puts them, and the function's figures afterwards."""
    token = json.loads(server.data.token.read_text())
    metadata = {"x-modal-token-id": token["token_id"], "x-modal-token-secret": token["token_secret"]}
    channel = Channel(server.host, server.port)
    stub = api_grpc.ModalClientStub(channel)
    try:
        app = await stub.AppCreate(
            api_pb2.AppCreateRequest(description="many", app_state=api_pb2.APP_STATE_DETACHED), metadata=metadata
        )
        function = api_pb2.Function(function_name="f", module_name="m", image_id="im-none")
        created = await stub.FunctionCreate(
            api_pb2.FunctionCreateRequest(app_id=app.app_id, function=function), metadata=metadata
        )
        call = await stub.FunctionMap(
            api_pb2.FunctionMapRequest(
                function_id=created.function_id, function_call_type=api_pb2.FUNCTION_CALL_TYPE_MAP
            ),
            metadata=metadata,
        )
        for begin in range(0, inputs, _AT_ONCE):
            items = [
                api_pb2.FunctionPutInputsItem(idx=begin + number, input=api_pb2.FunctionInput(args=b"x" * 1000))
                for number in range(_AT_ONCE)
            ]
            put = api_pb2.FunctionPutInputsRequest(
                function_id=created.function_id, function_call_id=call.function_call_id, inputs=items
            )
            await stub.FunctionPutInputs(put, metadata=metadata)
        asked = api_pb2.FunctionGetCurrentStatsRequest(function_id=created.function_id)
        return await stub.FunctionGetCurrentStats(asked, metadata=metadata)
    finally:
        channel.close()


def test_a_hundred_thousand_inputs_wait_while_the_servers_memory_stays_flat(unstarted_server: ServerUnderTest) -> None:
    """A hundred megabytes of them."""
    server = unstarted_server
    server.start("--no-worker")
    asyncio.run(fill(server, 5_000))
    before = resident(server.serving_pid)
    assert asyncio.run(fill(server, _INPUTS)).backlog == _INPUTS
    grown = resident(server.serving_pid) - before
    assert grown < 30, f"{grown} MB more"
    process = server.serving_pid
    server.kill()
    server.await_workers(0, other_than=process)
    assert resident(server.serving_pid) - before < 30, "nor does the next server read them all"
