"""Calls of the API: the client's side of an input's life."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy import failpoints
from jiffy.server.bells import Bell, Bells
from jiffy.server.caller import Caller
from jiffy.server.entries import entry_id, read_entry_id
from jiffy.server.input_tokens import make_input_token, read_input_token
from jiffy.server.known_functions import know_function
from jiffy.server.results import read_output
from jiffy.store.calls import Call, Output
from jiffy.store.stores import Stores

LONGEST_POLL: Final = 55.0
OUTPUTS_AT_ONCE: Final = 1000
MAX_INPUTS_OUTSTANDING: Final = 1000
_GATHER_SECONDS: Final = 0.02
"""Within which outputs of a map are given together: each answer costs the server and its client as much as an input."""

_REMEMBERED: Final = 1000


class Demand(Protocol):
    """Who is told of inputs that are in the store: the scheduler, here or on the server that leads. Containers that wait are
    called as soon as there is something to claim, before it is durable: what they run of it is lost with it, if it is."""

    async def add_demand(self, function_id: str, inputs: int, *, called: bool = False) -> None: ...
    def call_containers(self, function_id: str, inputs: int) -> None: ...


class Calls:
    def __init__(self, stores: Stores, demand: Demand, bells: Bells) -> None:
        self._stores = stores
        self._demand = demand
        self._bells = bells
        self._gathered: dict[str, float] = {}

    async def function_map(self, request: api_pb2.FunctionMapRequest, caller: Caller) -> api_pb2.FunctionMapResponse:
        function = await self._stores.functions.get(request.function_id)
        definition = (await know_function(self._stores.functions, function)).definition
        call_id = caller.new_id("fc")
        call = Call(
            call_id,
            function.function_id,
            function.app_id,
            request.function_call_invocation_type,
            None,
            parent_input_id=request.parent_input_id,
        )
        bodies = _bodies(request.pipelined_inputs)
        identifiers = await self._stores.calls.add(call, bodies, self._caller(function.function_id, len(bodies)))
        failpoints.reach("input-accepted")
        if identifiers:
            await self._demand.add_demand(function.function_id, len(identifiers), called=True)
        return api_pb2.FunctionMapResponse(
            function_call_id=call_id,
            pipelined_inputs=_accepted(request.pipelined_inputs, identifiers),
            function_call_jwt=call_id,
            retry_policy=definition.retry_policy,
            sync_client_retries_enabled=True,
            max_inputs_outstanding=MAX_INPUTS_OUTSTANDING,
        )

    async def function_put_inputs(
        self, request: api_pb2.FunctionPutInputsRequest, caller: Caller
    ) -> api_pb2.FunctionPutInputsResponse:
        call = await self._stores.calls.recall(request.function_call_id)
        bodies = _bodies(request.inputs)
        calling = self._caller(call.function_id, len(bodies))
        identifiers = await self._stores.calls.add_inputs(call.call_id, bodies, calling)
        await self._demand.add_demand(call.function_id, len(identifiers), called=True)
        return api_pb2.FunctionPutInputsResponse(inputs=_accepted(request.inputs, identifiers))

    async def function_finish_inputs(self, request: api_pb2.FunctionFinishInputsRequest, caller: Caller) -> Empty:
        """The client has sent its last input; each was accepted one by one, so there is nothing to close."""
        await self._stores.calls.get(request.function_call_id)
        return Empty()

    async def function_retry_inputs(
        self, request: api_pb2.FunctionRetryInputsRequest, caller: Caller
    ) -> api_pb2.FunctionRetryInputsResponse:
        for item in request.inputs:
            function_id = await self._stores.calls.retry(
                read_input_token(item.input_jwt), item.input.SerializeToString(), item.retry_count or None
            )
            if function_id is not None:
                await self._demand.add_demand(function_id, 1)
        return api_pb2.FunctionRetryInputsResponse(input_jwts=[item.input_jwt for item in request.inputs])

    async def function_get_outputs(
        self, request: api_pb2.FunctionGetOutputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        """Outputs after the cursor, or of a range of inputs; waits for the first one until the timeout. Those that come fast
        are given together."""
        deadline = time.monotonic() + min(request.timeout, LONGEST_POLL)
        with self._bells.listen(request.function_call_id) as bell:
            while not (outputs := await self._outputs(request)):
                await self._stores.calls.recall(request.function_call_id)
                if not await bell.wait(deadline - time.monotonic()):
                    break
            unfinished = await self._stores.calls.count_unfinished(request.function_call_id)
            may_gather = outputs and unfinished and not request.HasField("start_idx")
            if may_gather and await self._gather(request.function_call_id, unfinished, bell):
                outputs = await self._outputs(request)
                unfinished = await self._stores.calls.count_unfinished(request.function_call_id)
        return api_pb2.FunctionGetOutputsResponse(
            outputs=[read_output(output) for output in outputs],
            idxs=[output.number for output in outputs],
            last_entry_id=entry_id(outputs[-1].position) if outputs else request.last_entry_id,
            num_unfinished_inputs=unfinished,
        )

    async def _gather(self, call_id: str, unfinished: int, bell: Bell) -> bool:
        """Wait for more outputs of a call: until it is long enough since the last ones were given, or all have come. False
        when it is long enough already."""
        until = self._gathered.get(call_id, 0.0) + _GATHER_SECONDS
        has_waited = time.monotonic() < until
        while unfinished > 0 and (rest := until - time.monotonic()) > 0 and await bell.wait(rest):
            unfinished -= 1
        self._gathered.pop(call_id, None)
        self._gathered[call_id] = time.monotonic()
        if len(self._gathered) > _REMEMBERED:
            del self._gathered[next(iter(self._gathered))]
        return has_waited

    def _caller(self, function_id: str, inputs: int) -> Callable[[], None]:
        return lambda: self._demand.call_containers(function_id, inputs)

    async def _outputs(self, request: api_pb2.FunctionGetOutputsRequest) -> list[Output]:
        if request.HasField("start_idx"):
            return await self._stores.calls.outputs_numbered(
                request.function_call_id, request.start_idx, request.end_idx
            )
        position = read_entry_id(request.last_entry_id)
        limit = request.max_values or OUTPUTS_AT_ONCE
        return await self._stores.calls.outputs_after(request.function_call_id, position, limit)


def _bodies(items: Iterable[Any]) -> list[tuple[int, bytes]]:
    return [(item.idx, item.input.SerializeToString()) for item in items]


def _accepted(items: Iterable[Any], identifiers: Iterable[str]) -> list[api_pb2.FunctionPutInputsResponseItem]:
    return [
        api_pb2.FunctionPutInputsResponseItem(
            idx=item.idx, input_id=identifier, input_jwt=make_input_token(identifier, item.idx)
        )
        for item, identifier in zip(items, identifiers, strict=True)
    ]
