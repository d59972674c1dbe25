"""Outputs of inputs, and results that the server records itself: for inputs that no container will answer."""

from __future__ import annotations

import time

from modal_proto import api_pb2

from jiffy.core.aftermath import Fail
from jiffy.core.attempts import Backoff
from jiffy.store.calls import Input, Output, Result


def read_output(output: Output) -> api_pb2.FunctionGetOutputsItem:
    """As clients are given it: the store knows its number."""
    item = api_pb2.FunctionGetOutputsItem.FromString(output.body)
    item.idx = output.number
    return item


def make_result(entry: Input, result: api_pb2.GenericResult, backoff: Backoff | None = None) -> Result:
    """Wrap a GenericResult as the output of an input's current attempt. A `backoff` is for one that failed."""
    item = api_pb2.FunctionGetOutputsItem(
        result=result,
        input_id=entry.input_id,
        task_id=entry.task_id or "",
        input_started_at=entry.claimed_at or 0.0,
        output_created_at=time.time(),
        retry_count=entry.retry_count,
    )
    return Result(entry.input_id, entry.retry_count, item.SerializeToString(), backoff)


def make_failure(entry: Input, failure: Fail, backoff: Backoff | None) -> Result:
    status = api_pb2.GenericResult.GENERIC_STATUS_FAILURE
    if failure.internal:
        status = api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE
    elif failure.timed_out:
        status = api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT
    return make_result(entry, api_pb2.GenericResult(status=status, exception=failure.message), backoff)


def make_timeout(entry: Input, seconds: float, backoff: Backoff | None) -> Result:
    result = api_pb2.GenericResult(
        status=api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT,
        exception=f"The input did not finish within its timeout of {seconds:g} s. Raise it with timeout=seconds.",
    )
    return make_result(entry, result, backoff)


def make_terminated(entry: Input, reason: str) -> Result:
    result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, exception=reason)
    return make_result(entry, result)
