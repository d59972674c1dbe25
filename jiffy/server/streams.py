"""What flows between a call's two sides while it runs: values of a generator, the body of a web request and its response.

Values of a generator are in the store: they outlive whoever carries them. A web request lives as long as its connection, so
its chunks are in memory only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import NotFoundError
from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.store.stores import Stores

_LONGEST_POLL: Final = 55.0
_CHUNKS_AT_ONCE: Final = 100


class Channel:
    """One direction of a web request. Chunks are numbered from 1, and let go of once they were read: each is read by one."""

    def __init__(self) -> None:
        self.chunks: deque[api_pb2.DataChunk] = deque()
        self.bytes = 0
        self._last = 0

    def put(self, chunk: api_pb2.DataChunk) -> None:
        if chunk.index <= self._last:
            return
        self._last = chunk.index
        self.chunks.append(chunk)
        self.bytes += len(chunk.data)

    def add(self, data_format: api_pb2.DataFormat.ValueType, data: bytes) -> None:
        """The next one."""
        self.put(api_pb2.DataChunk(data_format=data_format, data=data, index=self._last + 1))

    def take(self, after: int) -> list[api_pb2.DataChunk]:
        """All that are there with a higher number; those up to it have arrived."""
        while self.chunks and self.chunks[0].index <= after:
            self.bytes -= len(self.chunks.popleft().data)
        return list(self.chunks)


class WebCall:
    """A web request's call: what comes in and what goes out."""

    def __init__(self) -> None:
        self.requests = Channel()
        self.responses = Channel()


class Streams:
    def __init__(self, stores: Stores, bells: Bells) -> None:
        self._stores = stores
        self._bells = bells
        self._web: dict[str, WebCall] = {}

    def open_web(self, call_id: str) -> WebCall:
        call = self._web[call_id] = WebCall()
        return call

    def close_web(self, call_id: str) -> None:
        self._web.pop(call_id, None)
        self._bells.ring(f"in {call_id}")

    def ring_in(self, call_id: str) -> None:
        self._bells.ring(f"in {call_id}")

    async def function_call_get_data_in(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """The body of a web request, for its container."""
        caller.require_task()
        last = request.last_index
        deadline = time.monotonic() + _LONGEST_POLL
        with self._bells.listen(f"in {request.function_call_id}") as bell:
            while (web := self._web.get(request.function_call_id)) is not None:
                for chunk in web.requests.take(last):
                    yield chunk
                    last = chunk.index
                if not await bell.wait(deadline - time.monotonic()):
                    return

    async def function_call_put_data_out(self, request: api_pb2.FunctionCallPutDataRequest, caller: Caller) -> Empty:
        caller.require_task()
        await self._put(request.function_call_id, request.data_chunks)
        self._bells.ring(f"out {request.function_call_id}")
        return Empty()

    async def _put(self, call_id: str, chunks: Iterable[api_pb2.DataChunk]) -> None:
        if (web := self._web.get(call_id)) is not None:
            for chunk in chunks:
                web.responses.put(chunk)
            return
        await self._stores.calls.add_chunks(call_id, [(chunk.index, chunk.SerializeToString()) for chunk in chunks])

    async def function_call_get_data_out(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """What a generator gave after the last value that the caller saw; waits for more until the timeout."""
        call_id, last = request.function_call_id, request.last_index
        if call_id in self._web:
            raise NotFoundError(f"call {call_id} is a web request")
        await self._stores.calls.get(call_id)
        deadline = time.monotonic() + _LONGEST_POLL
        with self._bells.listen(f"out {call_id}") as bell:
            while True:
                while chunks := await self._stores.calls.chunks_after(call_id, last, _CHUNKS_AT_ONCE):
                    for number, body in chunks:
                        yield api_pb2.DataChunk.FromString(body)
                        last = number
                if not await bell.wait(deadline - time.monotonic()):
                    return
