"""What flows between a call's two sides while it runs: values of a generator, the body of a web request and its response.

Values of a generator are in the store: they outlive whoever carries them. A web request lives as long as its connection, so
its chunks are in memory only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.store.stores import Stores

_LONGEST_POLL: Final = 55.0
_CHUNKS_AT_ONCE: Final = 100
_ROOM: Final = 8 * 2**20


class Channel:
    """One direction of a web request. Chunks are numbered from 1. Whoever reads them may come again for those that it was
    sent last, so that a broken connection loses none."""

    def __init__(self) -> None:
        self._chunks: deque[api_pb2.DataChunk] = deque()
        self._kept = 0
        self._unsent = 0
        self._last = self._sent = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, chunk: api_pb2.DataChunk) -> None:
        """One that was put already is dropped."""
        if chunk.index <= self._last:
            return
        self._last = chunk.index
        self._chunks.append(chunk)
        self._kept += len(chunk.data)
        self._unsent += len(chunk.data)
        if self._unsent > _ROOM:
            self._has_room.clear()

    def add(self, data_format: api_pb2.DataFormat.ValueType, data: bytes) -> None:
        """The next one."""
        self.put(api_pb2.DataChunk(data_format=data_format, data=data, index=self._last + 1))

    async def wait_for_room(self) -> None:
        """Until what waits here is not too much."""
        await self._has_room.wait()

    def after(self, number: int) -> list[api_pb2.DataChunk]:
        return [chunk for chunk in self._chunks if chunk.index > number]

    def note_sent(self, chunk: api_pb2.DataChunk) -> None:
        if chunk.index > self._sent:
            self._sent = chunk.index
            self._unsent -= len(chunk.data)
        while self._kept > _ROOM and self._chunks[0].index <= self._sent:
            self._kept -= len(self._chunks.popleft().data)
        if self._unsent <= _ROOM:
            self._has_room.set()

    def take_first(self) -> api_pb2.DataChunk | None:
        """The next one for a reader that never comes again."""
        if not self._chunks:
            return None
        chunk = self._chunks.popleft()
        self._kept -= len(chunk.data)
        self._unsent -= len(chunk.data)
        if self._unsent <= _ROOM:
            self._has_room.set()
        return chunk

    def close(self) -> None:
        """Nobody reads any more: nobody need wait."""
        self._has_room.set()


class WebCall:
    """A web request's call: what comes in and what goes out."""

    def __init__(self) -> None:
        self.requests = Channel()
        self.responses = Channel()


class Streams:
    """`read_blob` gives what a container uploaded because it is large."""

    def __init__(self, stores: Stores, bells: Bells, read_blob: Callable[[str], Awaitable[bytes]]) -> None:
        self._stores = stores
        self._bells = bells
        self._read_blob = read_blob
        self._web: dict[str, WebCall] = {}

    def open_web(self, call_id: str) -> WebCall:
        call = self._web[call_id] = WebCall()
        return call

    def close_web(self, call_id: str) -> None:
        web = self._web.pop(call_id)
        web.requests.close()
        web.responses.close()
        self.ring_in(call_id)

    def ring_in(self, call_id: str) -> None:
        """There is something for the container."""
        self._bells.ring_here(f"in {call_id}")

    async def function_call_get_data_in(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """The body of a web request, for its container. One that is over has nothing more."""
        caller.require_task()
        last = request.last_index
        deadline = time.monotonic() + _LONGEST_POLL
        with self._bells.listen(f"in {request.function_call_id}") as bell:
            while True:
                web = self._web.get(request.function_call_id)
                for chunk in web.requests.after(last) if web is not None else ():
                    yield chunk
                    last = chunk.index
                    if web is not None:
                        web.requests.note_sent(chunk)
                if not await bell.wait(deadline - time.monotonic()):
                    return

    async def function_call_put_data_out(self, request: api_pb2.FunctionCallPutDataRequest, caller: Caller) -> Empty:
        caller.require_task()
        call_id = request.function_call_id
        if (web := self._web.get(call_id)) is not None:
            await self._pass_on(web, call_id, request.data_chunks)
        else:
            chunks = [(chunk.index, chunk.SerializeToString()) for chunk in request.data_chunks]
            await self._stores.call_chunks.add(call_id, chunks)
            self._bells.ring(f"out {call_id}")
        return Empty()

    async def _pass_on(self, web: WebCall, call_id: str, chunks: Iterable[api_pb2.DataChunk]) -> None:
        """As fast as the client takes it."""
        for chunk in chunks:
            if chunk.data_blob_id:
                chunk.data = await self._read_blob(chunk.data_blob_id)
            web.responses.put(chunk)
        self._bells.ring_here(call_id)
        await web.responses.wait_for_room()

    async def function_call_get_data_out(
        self, request: api_pb2.FunctionCallGetDataRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """What a generator gave after the last value that the caller saw; waits for more until the timeout."""
        call_id, last = request.function_call_id, request.last_index
        await self._stores.calls.get(call_id)
        deadline = time.monotonic() + _LONGEST_POLL
        with self._bells.listen(f"out {call_id}") as bell:
            while True:
                while chunks := await self._stores.call_chunks.after(call_id, last, _CHUNKS_AT_ONCE):
                    for number, body in chunks:
                        yield api_pb2.DataChunk.FromString(body)
                        last = number
                if not await bell.wait(deadline - time.monotonic()):
                    return
