"""Dicts of the API: values that containers and clients share by keys. Two keys are equal when their bytes are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import InvalidError
from jiffy.server.caller import Caller
from jiffy.server.named_objects import NamedObjects, creation_info
from jiffy.store.named_objects import NamedObject
from jiffy.store.stores import Stores

_LARGEST: Final = 100 * 2**20


class Dicts:
    def __init__(self, stores: Stores) -> None:
        self._entries = stores.dicts
        self._objects = NamedObjects(stores.named_objects, "dict", "di")

    async def dict_get_or_create(
        self, request: api_pb2.DictGetOrCreateRequest, caller: Caller
    ) -> api_pb2.DictGetOrCreateResponse:
        found, is_new = await self._objects.get_or_create(request, caller)
        if is_new:
            await self._entries.update(
                found.object_id, [(each.key, each.value) for each in request.data], only_new=True
            )
        return api_pb2.DictGetOrCreateResponse(dict_id=found.object_id, metadata=_metadata(found))

    async def dict_get_by_id(self, request: api_pb2.DictGetByIdRequest, caller: Caller) -> api_pb2.DictGetByIdResponse:
        found = await self._objects.get(request.dict_id)
        return api_pb2.DictGetByIdResponse(dict_id=found.object_id, metadata=_metadata(found))

    async def dict_list(self, request: api_pb2.DictListRequest, caller: Caller) -> api_pb2.DictListResponse:
        items = [
            api_pb2.DictListResponse.DictInfo(
                name=each.name, created_at=each.created_at, dict_id=each.object_id, metadata=_metadata(each)
            )
            for each in await self._objects.list(request)
        ]
        return api_pb2.DictListResponse(dicts=items, environment_name=request.environment_name)

    async def dict_delete(self, request: api_pb2.DictDeleteRequest, caller: Caller) -> Empty:
        await self._objects.delete(request.dict_id)
        return Empty()

    async def dict_heartbeat(self, request: api_pb2.DictHeartbeatRequest, caller: Caller) -> Empty:
        await self._objects.beat(request.dict_id)
        return Empty()

    async def dict_get(self, request: api_pb2.DictGetRequest, caller: Caller) -> api_pb2.DictGetResponse:
        await self._objects.get(request.dict_id)
        value = await self._entries.get(request.dict_id, request.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    async def dict_contains(self, request: api_pb2.DictContainsRequest, caller: Caller) -> api_pb2.DictContainsResponse:
        await self._objects.get(request.dict_id)
        return api_pb2.DictContainsResponse(found=await self._entries.contains(request.dict_id, request.key))

    async def dict_update(self, request: api_pb2.DictUpdateRequest, caller: Caller) -> api_pb2.DictUpdateResponse:
        await self._objects.get(request.dict_id)
        entries = [(each.key, each.value) for each in request.updates]
        if any(len(key) + len(value) > _LARGEST for key, value in entries):
            raise InvalidError(f"an entry of more than {_LARGEST // 2**20} MiB", hint="put large things in a volume")
        created = await self._entries.update(request.dict_id, entries, only_new=request.if_not_exists)
        return api_pb2.DictUpdateResponse(created=created)

    async def dict_pop(self, request: api_pb2.DictPopRequest, caller: Caller) -> api_pb2.DictPopResponse:
        await self._objects.get(request.dict_id)
        value = await self._entries.pop(request.dict_id, request.key)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    async def dict_len(self, request: api_pb2.DictLenRequest, caller: Caller) -> api_pb2.DictLenResponse:
        await self._objects.get(request.dict_id)
        return api_pb2.DictLenResponse(len=await self._entries.size(request.dict_id))

    async def dict_clear(self, request: api_pb2.DictClearRequest, caller: Caller) -> Empty:
        await self._objects.get(request.dict_id)
        await self._entries.clear(request.dict_id)
        return Empty()

    async def dict_contents(
        self, request: api_pb2.DictContentsRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.DictEntry]:
        await self._objects.get(request.dict_id)
        async for key, value in self._entries.contents(request.dict_id):
            yield api_pb2.DictEntry(key=key if request.keys else b"", value=value if request.values else b"")


def _metadata(found: NamedObject) -> api_pb2.DictMetadata:
    return api_pb2.DictMetadata(name=found.name, creation_info=creation_info(found))
