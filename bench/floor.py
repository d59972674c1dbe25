"""The floor of a call: what the client and the entrypoint in the container take by themselves. Both are as in a container
that has started, but their server answers from memory and records nothing; or it records each step in a store, and does
nothing else.

    python -m bench.floor CALLS [FOLDER]    prints milliseconds of each call, and of processor that the server took for one,
                                            as JSON; the store is in the folder
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from jiffy.grpc.connection import Stream
from jiffy.grpc.server import GrpcServer
from jiffy.server.service import METHODS
from jiffy.store.calls import Call, Result
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores, open_stores

_PROGRAM: Final = """
import json, sys, time
import modal

app = modal.App("floor")

@app.function()
def one(number: int = 0) -> int:
    return number

if __name__ == "__main__":
    function = modal.Function.from_id("fu-1")
    for _ in range(WARM):
        function.remote()
    times = []
    for _ in range(int(sys.argv[1])):
        started = time.perf_counter()
        function.remote()
        times.append((time.perf_counter() - started) * 1000)
    print(json.dumps(times))
"""
_WARM: Final = 20
_FORMATS: Final = (api_pb2.DATA_FORMAT_PICKLE, api_pb2.DATA_FORMAT_CBOR)
_PATHS: Final = {method.path: method for method in METHODS}


class MemoryServer:
    """Knows one function and one container."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[str, api_pb2.FunctionInput]] = asyncio.Queue()
        self._outputs: dict[str, asyncio.Future[api_pb2.FunctionPutOutputsItem]] = {}
        self._answers: dict[str, Callable[[Any], Awaitable[Message]]] = {
            "ClientHello": self._hello,
            "ContainerHello": self._nothing,
            "ContainerHeartbeat": self._hold,
            "FunctionGetById": self._describe,
            "FunctionMap": self._call,
            "FunctionGetInputs": self._give_input,
            "FunctionPutOutputs": self._take_output,
            "FunctionGetOutputs": self._give_output,
            "TaskResult": self._nothing,
        }

    async def __call__(self, stream: Stream) -> None:
        method = _PATHS[stream.path]
        if (answer := self._answers.get(method.name)) is None:
            raise GRPCError(Status.UNIMPLEMENTED, method.name)
        await stream.answer((await answer(method.request.FromString(stream.request))).SerializeToString())

    async def _nothing(self, request: Message) -> Empty:
        return Empty()

    async def _hello(self, request: Message) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse()

    async def _hold(self, request: Message) -> api_pb2.ContainerHeartbeatResponse:
        await asyncio.sleep(10)
        return api_pb2.ContainerHeartbeatResponse()

    async def _describe(self, request: Message) -> api_pb2.FunctionGetByIdResponse:
        data = api_pb2.FunctionData(ranked_functions=[api_pb2.FunctionData.RankedFunction(function=_definition())])
        return api_pb2.FunctionGetByIdResponse(handle_metadata=_handle(), function=data)

    async def _call(self, request: api_pb2.FunctionMapRequest) -> api_pb2.FunctionMapResponse:
        call_id = f"fc-{len(self._outputs)}"
        (item,) = request.pipelined_inputs
        await self._accept(call_id, item.input)
        accepted = api_pb2.FunctionPutInputsResponseItem(idx=0, input_id=f"in-{call_id}", input_jwt=call_id)
        return api_pb2.FunctionMapResponse(
            function_call_id=call_id,
            function_call_jwt=call_id,
            pipelined_inputs=[accepted],
            sync_client_retries_enabled=True,
            max_inputs_outstanding=1000,
        )

    async def _accept(self, call_id: str, entry: api_pb2.FunctionInput) -> None:
        self._offer(call_id, entry)

    def _offer(self, call_id: str, entry: api_pb2.FunctionInput) -> None:
        self._outputs[call_id] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((call_id, entry))

    async def _give_input(self, request: api_pb2.FunctionGetInputsRequest) -> api_pb2.FunctionGetInputsResponse:
        call_id, entry = await self._waiting.get()
        item = api_pb2.FunctionGetInputsItem(input_id=f"in-{call_id}", input=entry, function_call_id=call_id)
        return api_pb2.FunctionGetInputsResponse(inputs=[item])

    async def _take_output(self, request: api_pb2.FunctionPutOutputsRequest) -> Empty:
        for item in request.outputs:
            self._outputs[item.input_id.removeprefix("in-")].set_result(item)
        return Empty()

    async def _give_output(self, request: api_pb2.FunctionGetOutputsRequest) -> api_pb2.FunctionGetOutputsResponse:
        item = await self._outputs[request.function_call_id]
        output = api_pb2.FunctionGetOutputsItem(
            result=item.result, idx=0, input_id=item.input_id, data_format=item.data_format
        )
        return api_pb2.FunctionGetOutputsResponse(outputs=[output], idxs=[0], last_entry_id="1")


class RecordingServer(MemoryServer):
    """The same; what must outlive it is in a store before it counts."""

    def __init__(self, stores: Stores) -> None:
        super().__init__()
        self._stores = stores
        self._inputs: dict[str, str] = {}

    async def prepare(self) -> None:
        await self._stores.apps.add("ap-1", "floor", api_pb2.APP_STATE_EPHEMERAL)
        await self._stores.functions.add(StoredFunction("fu-1", "ap-1", "one", b"", _definition().SerializeToString()))

    async def _accept(self, call_id: str, entry: api_pb2.FunctionInput) -> None:
        call = Call(call_id, "fu-1", "ap-1", api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC, None)
        await self._stores.calls.add(call, [(0, entry.SerializeToString())], lambda: self._offer(call_id, entry))

    async def _give_input(self, request: api_pb2.FunctionGetInputsRequest) -> api_pb2.FunctionGetInputsResponse:
        response = await super()._give_input(request)
        call_id = response.inputs[0].function_call_id
        (entry,) = await self._stores.calls.claim("fu-1", "ta-0", 1, f"key of {call_id}")
        self._inputs[response.inputs[0].input_id] = entry.input_id
        return response

    async def _take_output(self, request: api_pb2.FunctionPutOutputsRequest) -> Empty:
        results = [Result(self._inputs.pop(item.input_id), 0, item.SerializeToString()) for item in request.outputs]
        await self._stores.calls.finish("ta-0", results)
        return await super()._take_output(request)


def _handle() -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name="one",
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        supported_input_formats=_FORMATS,
        supported_output_formats=_FORMATS,
    )


def _definition() -> api_pb2.Function:
    return api_pb2.Function(
        module_name="floor_program",
        function_name="one",
        definition_type=api_pb2.Function.DEFINITION_TYPE_FILE,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        supported_input_formats=_FORMATS,
        supported_output_formats=_FORMATS,
        object_dependencies=[api_pb2.ObjectDependency(object_id="im-1")],
    )


def _arguments() -> api_pb2.ContainerArguments:
    function = api_pb2.Object(object_id="fu-1", function_handle_metadata=_handle())
    image = api_pb2.Object(object_id="im-1")
    layout = api_pb2.AppLayout(function_ids={"one": "fu-1"}, objects=[function, image])
    return api_pb2.ContainerArguments(
        task_id="ta-0", function_id="fu-1", app_id="ap-1", function_def=_definition(), app_layout=layout
    )


async def measure(calls: int, folder: Path, answer: MemoryServer) -> dict[str, Any]:
    """Milliseconds of warm calls, one after the other, and of processor that this process takes for one."""
    program = folder / "floor_program.py"
    program.write_text(_PROGRAM.replace("WARM", str(_WARM)))
    arguments = folder / "arguments"
    arguments.write_bytes(_arguments().SerializeToString())
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = GrpcServer(answer)
    await server.start(listener)
    shared = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(folder), "MODAL_SERVER_URL": url}
    inside = {"MODAL_TASK_ID": "ta-0", "MODAL_IS_REMOTE": "1", "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments)}
    entrypoint = (sys.executable, "-m", "modal._container_entrypoint")
    container = await asyncio.create_subprocess_exec(*entrypoint, env={**shared, **inside})
    token = {"MODAL_TOKEN_ID": "ak-floor", "MODAL_TOKEN_SECRET": "as-floor"}
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), str(calls)), env={**shared, **token}, stdout=subprocess.PIPE
    )
    used = time.process_time()
    try:
        output, _ = await client.communicate()
    finally:
        container.kill()
        await container.wait()
        await server.close()
    return {"calls": json.loads(output), "server": (time.process_time() - used) * 1000 / (calls + _WARM)}


async def _measure(calls: int, folder: Path, *, records: bool) -> dict[str, Any]:
    if not records:
        return await measure(calls, folder, MemoryServer())
    with closing(open_stores(folder / "floor.db")) as stores:
        server = RecordingServer(stores)
        await server.prepare()
        return await measure(calls, folder, server)


def main() -> None:
    at = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(dir=at) as folder:
        print(json.dumps(asyncio.run(_measure(int(sys.argv[1]), Path(folder), records=at is not None))))


if __name__ == "__main__":
    main()
