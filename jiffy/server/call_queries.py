"""Inputs of the API as people look them up: the last ones of a function, or those of a time: counted first, then fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

from jiffy.errors import InvalidError
from jiffy.server.caller import Caller
from jiffy.store.input_history import PastInput, Scope
from jiffy.store.stores import Stores

MOST_LAST: Final = 1000
MOST_OF_A_TIME: Final = 20_000
_MOST_STRETCHES: Final = 10_000
_AT_ONCE: Final = 256
"""Inputs that are in memory together with their arguments and results, which may be large."""
_Status = api_pb2.FunctionCallInputStatus


class CallQueries:
    def __init__(self, stores: Stores) -> None:
        self._functions = stores.functions
        self._history = stores.input_history

    async def function_call_fetch(
        self, request: api_pb2.FunctionCallFetchRequest, caller: Caller
    ) -> api_pb2.FunctionCallFetchResponse:
        """The last inputs, the newest first, or those of a time, the oldest first."""
        scope = await self._scope(request.function_id, request.all_variants)
        if request.HasField("tail"):
            positions = await self._history.last(scope, min(request.tail.count, MOST_LAST))
        elif request.HasField("range"):
            since, until = _seconds(request.range.since), _seconds(request.range.until)
            limit = min(request.range.limit or MOST_OF_A_TIME, MOST_OF_A_TIME)
            positions = await self._history.between(scope, since, until, limit)
        else:
            raise InvalidError("which inputs are wanted?", hint="send `tail` or `range`")
        return api_pb2.FunctionCallFetchResponse(function_call_inputs=await self._describe(positions))

    async def function_call_count(
        self, request: api_pb2.FunctionCallCountRequest, caller: Caller
    ) -> api_pb2.FunctionCallCountResponse:
        """Inputs in each stretch of `bucket_secs` seconds that has any; they begin at multiples of it."""
        scope = await self._scope(request.function_id, request.all_variants)
        since, until, seconds = _seconds(request.since), _seconds(request.until), request.bucket_secs
        if not seconds or (until - since) / seconds > _MOST_STRETCHES:
            raise InvalidError(f"stretches of {seconds} s", why=f"there may be {_MOST_STRETCHES} at most")
        counts = await self._history.count(scope, since, until, seconds)
        buckets = [
            api_pb2.FunctionCallCountResponse.InputBucket(bucket_start_at=Timestamp(seconds=start), count=count)
            for start, count in counts.items()
        ]
        return api_pb2.FunctionCallCountResponse(buckets=buckets)

    async def _scope(self, function_id: str, with_variants: bool) -> Scope:
        """Of a variant, all variants are those of the function that it is one of."""
        function = await self._functions.get(function_id)
        base_id = function.base_id or function.function_id
        return Scope(base_id if with_variants else function.function_id, with_variants)

    async def _describe(self, positions: Sequence[int]) -> list[api_pb2.FunctionCallInputInfo]:
        found: dict[int, api_pb2.FunctionCallInputInfo] = {}
        for start in range(0, len(positions), _AT_ONCE):
            some = await self._history.get(positions[start : start + _AT_ONCE])
            found.update((each.position, _describe(each)) for each in some)
        return [found[position] for position in positions if position in found]


def _describe(past: PastInput) -> api_pb2.FunctionCallInputInfo:
    return api_pb2.FunctionCallInputInfo(
        function_call_id=past.call_id,
        service_method_name=api_pb2.FunctionInput.FromString(past.body).method_name or None,
        enqueued_at=_timestamp(past.created_at),
        started_at=None if past.claimed_at is None else _timestamp(past.claimed_at),
        container_id=past.task_id,
        startup_time_seconds=_startup_seconds(past),
        execution_time_seconds=_execution_seconds(past),
        status=_status(past),
    )


def _status(past: PastInput) -> api_pb2.FunctionCallInputStatus.ValueType:
    if past.output is None:
        return (
            _Status.FUNCTION_CALL_INPUT_STATUS_RUNNING if past.task_id else _Status.FUNCTION_CALL_INPUT_STATUS_PENDING
        )
    status = api_pb2.FunctionGetOutputsItem.FromString(past.output).result.status
    name = api_pb2.GenericResult.GenericStatus.Name(status)
    return _Status.Value(name.replace("GENERIC_STATUS", "FUNCTION_CALL_INPUT_STATUS"))


def _startup_seconds(past: PastInput) -> float | None:
    """Of an input for which its container was not ready when it came."""
    if past.asked_at is None or past.ready_at is None or past.ready_at < past.created_at:
        return None
    return past.ready_at - past.asked_at


def _execution_seconds(past: PastInput) -> float | None:
    return None if past.claimed_at is None or past.finished_at is None else past.finished_at - past.claimed_at


def _seconds(time: Timestamp) -> float:
    return time.ToMicroseconds() / 1e6


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp
