"""Queues of the API: values that containers and clients pass on, in partitions, first in, first out."""

from __future__ import annotations

import time
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import InvalidError
from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.server.entries import entry_id, read_entry_id
from jiffy.server.named_objects import NamedObjects, creation_info
from jiffy.store.named_objects import NamedObject
from jiffy.store.stores import Stores

LONGEST_POLL: Final = 55.0
_MOST_ITEMS: Final = 5000
_LARGEST_ITEM: Final = 2**20
_ITEMS_AT_ONCE: Final = 100
_PARTITION_SECONDS: Final = 24 * 3600
_LONGEST_PARTITION_SECONDS: Final = 7 * 24 * 3600


class MessageQueues:
    def __init__(self, stores: Stores, bells: Bells) -> None:
        self._items = stores.queue_items
        self._bells = bells
        self._objects = NamedObjects(stores.named_objects, "queue", "qu")

    async def queue_get_or_create(
        self, request: api_pb2.QueueGetOrCreateRequest, caller: Caller
    ) -> api_pb2.QueueGetOrCreateResponse:
        found, _ = await self._objects.get_or_create(request, caller)
        return api_pb2.QueueGetOrCreateResponse(queue_id=found.object_id, metadata=_metadata(found))

    async def queue_get_by_id(
        self, request: api_pb2.QueueGetByIdRequest, caller: Caller
    ) -> api_pb2.QueueGetByIdResponse:
        found = await self._objects.get(request.queue_id)
        return api_pb2.QueueGetByIdResponse(queue_id=found.object_id, metadata=_metadata(found))

    async def queue_list(self, request: api_pb2.QueueListRequest, caller: Caller) -> api_pb2.QueueListResponse:
        most = request.total_size_limit or 2**31 - 1
        items = [
            api_pb2.QueueListResponse.QueueInfo(
                name=each.name,
                created_at=each.created_at,
                num_partitions=await self._items.count_partitions(each.object_id),
                total_size=min(most, await self._items.size(each.object_id, None)),
                queue_id=each.object_id,
                metadata=_metadata(each),
            )
            for each in await self._objects.list(request)
        ]
        return api_pb2.QueueListResponse(queues=items, environment_name=request.environment_name)

    async def queue_delete(self, request: api_pb2.QueueDeleteRequest, caller: Caller) -> Empty:
        await self._objects.delete(request.queue_id)
        return Empty()

    async def queue_heartbeat(self, request: api_pb2.QueueHeartbeatRequest, caller: Caller) -> Empty:
        await self._objects.beat(request.queue_id)
        return Empty()

    async def queue_put(self, request: api_pb2.QueuePutRequest, caller: Caller) -> Empty:
        await self._objects.get(request.queue_id)
        seconds = request.partition_ttl_seconds or _PARTITION_SECONDS
        if not 1 <= seconds <= _LONGEST_PARTITION_SECONDS:
            raise InvalidError("a partition lives for a second at least, and for seven days at most")
        if any(len(value) > _LARGEST_ITEM for value in request.values):
            raise InvalidError("an item of more than 1 MiB", hint="put large things in a volume or a dict")
        await self._items.put(
            request.queue_id, request.partition_key, list(request.values), float(seconds), _MOST_ITEMS
        )
        self._bells.ring(request.queue_id)
        return Empty()

    async def queue_get(self, request: api_pb2.QueueGetRequest, caller: Caller) -> api_pb2.QueueGetResponse:
        """Up to as many as are asked for; waits for the first until the timeout."""
        await self._objects.get(request.queue_id)
        deadline = time.monotonic() + min(request.timeout, LONGEST_POLL)
        with self._bells.listen(request.queue_id) as bell:
            while not (
                values := await self._items.take(request.queue_id, request.partition_key, request.n_values or 1)
            ):
                if not await bell.wait(deadline - time.monotonic()):
                    break
        return api_pb2.QueueGetResponse(values=values)

    async def queue_next_items(
        self, request: api_pb2.QueueNextItemsRequest, caller: Caller
    ) -> api_pb2.QueueNextItemsResponse:
        """Those behind the last one that the caller saw, which stay in the queue."""
        await self._objects.get(request.queue_id)
        position = read_entry_id(request.last_entry_id)
        deadline = time.monotonic() + min(request.item_poll_timeout, LONGEST_POLL)
        with self._bells.listen(request.queue_id) as bell:
            while not (
                items := await self._items.after(request.queue_id, request.partition_key, position, _ITEMS_AT_ONCE)
            ):
                if not await bell.wait(deadline - time.monotonic()):
                    break
        return api_pb2.QueueNextItemsResponse(
            items=[api_pb2.QueueItem(value=item.value, entry_id=entry_id(item.position)) for item in items]
        )

    async def queue_len(self, request: api_pb2.QueueLenRequest, caller: Caller) -> api_pb2.QueueLenResponse:
        await self._objects.get(request.queue_id)
        partition = None if request.total else request.partition_key
        return api_pb2.QueueLenResponse(len=await self._items.size(request.queue_id, partition))

    async def queue_clear(self, request: api_pb2.QueueClearRequest, caller: Caller) -> Empty:
        await self._objects.get(request.queue_id)
        await self._items.clear(request.queue_id, None if request.all_partitions else request.partition_key)
        return Empty()


def _metadata(found: NamedObject) -> api_pb2.QueueMetadata:
    return api_pb2.QueueMetadata(name=found.name, creation_info=creation_info(found))
