"""Web requests as calls: what comes from a browser becomes an input, whose body and response flow while it runs.

The container speaks ASGI: its messages are the chunks of the call, in both directions. A request that is over, because it
was answered or because its client hung up, has no use for its call any more, which is cancelled then.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from modal_proto import api_pb2

from jiffy.identifiers import random_id
from jiffy.server.bells import Bells
from jiffy.server.scheduler import Scheduler
from jiffy.server.streams import Streams, WebCall
from jiffy.store.calls import WEB_CALL, Call
from jiffy.store.endpoints import Endpoint
from jiffy.store.stores import Stores

_POLL_SECONDS: Final = 1.0
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Failure:
    """The call ended without a response, or before its end."""

    status: int
    message: str


class WebExchange:
    """One request that is being answered."""

    def __init__(self, call_id: str, web: WebCall, stores: Stores, bells: Bells, streams: Streams) -> None:
        self.call_id = call_id
        self._web = web
        self._stores = stores
        self._bells = bells
        self._streams = streams

    async def send(self, message: api_pb2.Asgi) -> None:
        """To the container; waits while it has not taken what came before."""
        self._web.requests.add(api_pb2.DATA_FORMAT_ASGI, message.SerializeToString())
        self._streams.ring_in(self.call_id)
        await self._web.requests.wait_for_room()

    async def receive(self) -> AsyncIterator[api_pb2.Asgi | Failure | None]:
        """What the container says, in order; None each second in which it says nothing. Ends with the call."""
        with self._bells.listen(self.call_id) as bell:
            while True:
                failure, is_done = await self._look_at_output()
                while (chunk := self._web.responses.take_first()) is not None:
                    yield api_pb2.Asgi.FromString(chunk.data)
                if failure is not None:
                    yield failure
                if is_done:
                    return
                if not await bell.wait(_POLL_SECONDS):
                    yield None

    async def _look_at_output(self) -> tuple[Failure | None, bool]:
        outputs = await self._stores.calls.outputs_after(self.call_id, 0, 1)
        if not outputs:
            return None, False
        result = api_pb2.FunctionGetOutputsItem.FromString(outputs[0].body).result
        if result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS:
            return None, True
        is_late = result.status == api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT
        return Failure(504 if is_late else 500, result.exception), True


class WebCalls:
    def __init__(self, stores: Stores, scheduler: Scheduler, streams: Streams, bells: Bells) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._streams = streams
        self._bells = bells

    @asynccontextmanager
    async def open(self, endpoint: Endpoint, scope: dict[str, Any]) -> AsyncIterator[WebExchange]:
        """Have a container answer a request. `scope` is that of ASGI."""
        call_id = random_id("fc")
        web = self._streams.open_web(call_id)
        entry = api_pb2.FunctionInput(
            args=pickle.dumps(((scope,), {}), protocol=4),
            data_format=api_pb2.DATA_FORMAT_PICKLE,
            method_name=endpoint.method,
        )
        is_done = False
        try:
            call = Call(call_id, endpoint.function_id, endpoint.app_id, WEB_CALL, None)
            await self._stores.calls.add(call, [(0, entry.SerializeToString())])
            await self._scheduler.add_demand(endpoint.function_id, 1)
            yield WebExchange(call_id, web, self._stores, self._bells, self._streams)
            is_done = not await self._stores.calls.count_unfinished(call_id)
        finally:
            if not is_done:
                await self._scheduler.cancel_call(call_id, terminate_containers=False)
            self._streams.close_web(call_id)
