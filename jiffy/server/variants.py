"""Variants of functions as people look at them: those with options, and those with parameters of a class."""

from __future__ import annotations

from typing import Final

from modal_proto import api_pb2

from jiffy.server.caller import Caller
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores

MOST_RANKED: Final = 1000
_AT_ONCE: Final = 500
_LATER_THAN_ALL: Final = (1e12, "")


class Variants:
    def __init__(self, stores: Stores) -> None:
        self._functions = stores.functions

    async def function_list_variants(
        self, request: api_pb2.FunctionListVariantsRequest, caller: Caller
    ) -> api_pb2.FunctionListVariantsResponse:
        """A few at once, those with the most containers first; many, or all, in pages, the newest first."""
        base = await self._functions.get(request.function_id)
        if 0 < request.limit <= MOST_RANKED and not request.HasField("cursor"):
            ranked = await self._functions.busiest_variants(base.function_id, request.limit)
            return api_pb2.FunctionListVariantsResponse(
                infos=[_describe(each) for each in ranked], ordered_by_task_count=True
            )
        before = _LATER_THAN_ALL
        if request.HasField("cursor"):
            before = (request.cursor.created_before, request.cursor.function_id)
        found = await self._functions.variants(base.function_id, before, _AT_ONCE)
        answer = api_pb2.FunctionListVariantsResponse(infos=[_describe(each) for each in found])
        if len(found) == _AT_ONCE:
            answer.next_cursor.created_before = found[-1].created_at
            answer.next_cursor.function_id = found[-1].function_id
        return answer


def _describe(variant: StoredFunction) -> api_pb2.FunctionVariantInfo:
    info = api_pb2.FunctionVariantInfo(function_id=variant.function_id, serialized_params=variant.parameters or b"")
    if variant.options:
        info.function_options.ParseFromString(variant.options)
    return info
