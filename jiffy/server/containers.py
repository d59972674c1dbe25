"""The container's side of the API: what the client's entrypoint asks for from inside."""

from __future__ import annotations

from typing import Final, cast

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.core.attempts import Backoff
from jiffy.core.facts import ContainerBeat
from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.server.scheduler import Scheduler
from jiffy.store.calls import Input, Result
from jiffy.store.stores import Stores

HEARTBEAT_HOLD: Final = 14.0
"""Seconds to hold a heartbeat open, so that a cancellation is heard at once; the client allows 15."""

_FAILURES: Final = (
    api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
    api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE,
    api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT,
)


class Containers:
    def __init__(self, stores: Stores, scheduler: Scheduler, bells: Bells) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._bells = bells

    async def container_hello(self, request: Empty, caller: Caller) -> Empty:
        await self._stores.tasks.mark(caller.require_task(), "hello_at")
        return Empty()

    async def container_heartbeat(
        self, request: api_pb2.ContainerHeartbeatRequest, caller: Caller
    ) -> api_pb2.ContainerHeartbeatResponse:
        task_id = self._scheduler.find_container(caller.require_task()).task_id
        self._scheduler.tell(ContainerBeat(task_id))
        with self._bells.listen(task_id) as bell:
            cancelled = self._scheduler.take_cancelled(task_id)
            if not cancelled:
                await bell.wait(HEARTBEAT_HOLD)
                cancelled = self._scheduler.take_cancelled(task_id)
        self._scheduler.tell(ContainerBeat(task_id))
        if not cancelled:
            return api_pb2.ContainerHeartbeatResponse()
        return api_pb2.ContainerHeartbeatResponse(cancel_input_event=api_pb2.CancelInputEvent(input_ids=cancelled))

    async def function_get_inputs(
        self, request: api_pb2.FunctionGetInputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetInputsResponse:
        limit = max(1, request.batch_max_size)
        linger = request.batch_linger_ms / 1000 if limit > 1 else 0.0
        key = caller.new_id("ck")
        inputs = await self._scheduler.take_inputs(caller.require_task(), limit, key, linger)
        if inputs is None:
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        return api_pb2.FunctionGetInputsResponse(inputs=[await self._offer(entry) for entry in inputs])

    async def function_put_outputs(self, request: api_pb2.FunctionPutOutputsRequest, caller: Caller) -> Empty:
        task_id = caller.require_task()
        function = self._scheduler.peek_function(task_id)
        backoff = None if function is None else function.backoff
        results = [_result(item, task_id, backoff) for item in request.outputs]
        seconds = [item.output_created_at - item.input_started_at for item in request.outputs]
        await self._scheduler.record_outputs(task_id, results, max(0.0, sum(seconds) / (len(seconds) or 1)))
        return Empty()

    async def task_result(self, request: api_pb2.TaskResultRequest, caller: Caller) -> Empty:
        """Sent when the program cannot be imported or set up; a success says nothing that is not known."""
        if request.result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS:
            await self._scheduler.fail_start(caller.require_task(), request.result)
        return Empty()

    async def _offer(self, entry: Input) -> api_pb2.FunctionGetInputsItem:
        call = await self._stores.calls.recall(entry.call_id)
        return api_pb2.FunctionGetInputsItem(
            input_id=entry.input_id,
            input=api_pb2.FunctionInput.FromString(entry.body),
            function_call_id=entry.call_id,
            function_call_invocation_type=cast("api_pb2.FunctionCallInvocationType.ValueType", call.invocation_type),
            retry_count=entry.retry_count,
            function_map_idx=entry.number,
        )


def _result(item: api_pb2.FunctionPutOutputsItem, task_id: str, backoff: Backoff | None) -> Result:
    output = api_pb2.FunctionGetOutputsItem(
        result=item.result,
        input_id=item.input_id,
        data_format=item.data_format,
        task_id=task_id,
        input_started_at=item.input_started_at,
        output_created_at=item.output_created_at,
        retry_count=item.retry_count,
    )
    has_failed = item.result.status in _FAILURES
    return Result(item.input_id, item.retry_count, output.SerializeToString(), backoff if has_failed else None)
