"""Calls as they are looked up afterwards: by id, by function, and as a graph of which call made which."""

from __future__ import annotations

from collections import Counter
from typing import Final

from modal_proto import api_pb2

from jiffy.server.caller import Caller
from jiffy.store.calls import Call, Input
from jiffy.store.stores import Stores

_MOST_CALLS: Final = 1000
_MOST_NODES: Final = 2000
_Status = api_pb2.GenericResult.GenericStatus
_CATEGORIES: Final = {
    api_pb2.GenericResult.GENERIC_STATUS_SUCCESS: "succeeded_inputs",
    api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT: "timeout_inputs",
    api_pb2.GenericResult.GENERIC_STATUS_TERMINATED: "cancelled_inputs",
    api_pb2.GenericResult.GENERIC_STATUS_UNSPECIFIED: "pending_inputs",
}


class CallRecords:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def function_call_from_id(
        self, request: api_pb2.FunctionCallFromIdRequest, caller: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = await self._stores.calls.get(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.call_id,
            num_inputs=await self._stores.call_history.count_inputs(call.call_id),
            metadata=api_pb2.FunctionCallHandleMetadata(app_id=call.app_id, function_id=call.function_id),
        )

    async def function_call_get_info(
        self, request: api_pb2.FunctionCallGetInfoRequest, caller: Caller
    ) -> api_pb2.FunctionCallGetInfoResponse:
        call = await self._stores.calls.get(request.function_call_id)
        return api_pb2.FunctionCallGetInfoResponse(info=await self._info(call))

    async def function_call_list(
        self, request: api_pb2.FunctionCallListRequest, caller: Caller
    ) -> api_pb2.FunctionCallListResponse:
        """The newest first."""
        calls = await self._stores.call_history.of_function(request.function_id, 0, float("inf"), _MOST_CALLS)
        return api_pb2.FunctionCallListResponse(function_calls=[await self._info(call) for call in calls])

    async def function_get_call_graph(
        self, request: api_pb2.FunctionGetCallGraphRequest, caller: Caller
    ) -> api_pb2.FunctionGetCallGraphResponse:
        """The whole graph that a call is part of, from its first call down."""
        root = await self._stores.calls.get(request.function_call_id)
        while root.parent_input_id:
            parent = await self._stores.calls.get_input(root.parent_input_id)
            root = await self._stores.calls.get(parent.call_id)
        graph = api_pb2.FunctionGetCallGraphResponse()
        waiting = [root]
        while waiting and len(graph.inputs) < _MOST_NODES:
            waiting += await self._draw(waiting.pop(0), graph)
        graph.truncated = bool(waiting)
        return graph

    async def _draw(self, call: Call, graph: api_pb2.FunctionGetCallGraphResponse) -> list[Call]:
        """Add a call with its inputs; gives the calls that these made."""
        function = await self._stores.functions.get(call.function_id)
        definition = api_pb2.Function.FromString(function.definition or b"")
        graph.function_calls.add(
            function_call_id=call.call_id,
            parent_input_id=call.parent_input_id,
            function_name=function.name,
            module_name=definition.module_name,
        )
        statuses = await self._statuses(call.call_id)
        children = []
        for entry in await self._stores.call_history.inputs(call.call_id, 0, _MOST_NODES):
            graph.inputs.add(
                input_id=entry.input_id,
                function_call_id=call.call_id,
                task_id=entry.task_id or "",
                status=statuses.get(entry.input_id, api_pb2.GenericResult.GENERIC_STATUS_UNSPECIFIED),
            )
            children += await self._stores.call_history.children(entry.input_id)
        return children

    async def _info(self, call: Call) -> api_pb2.FunctionCallInfo:
        entries = await self._stores.call_history.inputs(call.call_id, 0, 2**31)
        statuses = await self._statuses(call.call_id)
        info = api_pb2.FunctionCallInfo(
            function_call_id=call.call_id,
            created_at=call.created_at,
            scheduled_at=_first_claim(entries),
            total_inputs=len(entries),
        )
        totals = Counter(
            _CATEGORIES.get(statuses.get(entry.input_id, _Status.GENERIC_STATUS_UNSPECIFIED), "failed_inputs")
            for entry in entries
        )
        for name, total in totals.items():
            getattr(info, name).total = total
        return info

    async def _statuses(self, call_id: str) -> dict[str, api_pb2.GenericResult.GenericStatus.ValueType]:
        outputs = await self._stores.calls.outputs_after(call_id, 0, 2**31)
        items = [api_pb2.FunctionGetOutputsItem.FromString(output.body) for output in outputs]
        return {item.input_id: item.result.status for item in items}


def _first_claim(entries: list[Input]) -> float:
    return min((entry.claimed_at for entry in entries if entry.claimed_at), default=0.0)
