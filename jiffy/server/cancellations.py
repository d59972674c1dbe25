"""Calls that are cancelled: what is unfinished is given up, also where it runs."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.server.scheduler import Scheduler
from jiffy.store.stores import Stores


class Cancellations:
    def __init__(self, stores: Stores, scheduler: Scheduler, bells: Bells) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._bells = bells

    async def function_call_cancel(self, request: api_pb2.FunctionCallCancelRequest, caller: Caller) -> Empty:
        await self._stores.calls.get(request.function_call_id)
        await self._scheduler.cancel_call(request.function_call_id, terminate_containers=request.terminate_containers)
        self._bells.ring(request.function_call_id)
        return Empty()
