"""What dicts, queues and volumes of the API have in common: how they are got or made, listed, and kept alive."""

from __future__ import annotations

import time
from typing import Any, Final

from modal_proto import api_pb2

from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.server.caller import Caller
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.store.named_objects import NamedObject
from jiffy.store.named_objects import NamedObjects as Store

SILENCE_ALLOWED: Final = 15 * 60.0
"""Seconds without a heartbeat after which one without a name is dropped; clients send one each five minutes."""

_PAGE: Final = 100


class NamedObjects:
    """Of one kind, whose ids begin with `prefix`."""

    def __init__(self, store: Store, kind: str, prefix: str) -> None:
        self._store = store
        self._kind = kind
        self._prefix = prefix

    async def get(self, object_id: str) -> NamedObject:
        return await self._store.get(self._kind, object_id)

    async def get_or_create(self, request: Any, caller: Caller) -> tuple[NamedObject, bool]:
        """As a request for one says, and whether it was made now."""
        environment, name = request.environment_name or DEFAULT_ENVIRONMENT, request.deployment_name
        creation = request.object_creation_type
        if creation == api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL:
            return await self._add(caller.new_id(self._prefix), environment, "", "", time.time()), True
        if creation == api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP:
            app_id = getattr(request, "app_id", "")
            return await self._add(caller.new_id(self._prefix), environment, "", app_id, None), True
        if not name:
            raise InvalidError(f"a {self._kind} needs a name")
        found = await self._store.find(self._kind, environment, name)
        if found is not None and creation == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise ConflictError(f"there is a {self._kind} {name} already")
        if found is not None and creation == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            await self._store.delete([found.object_id])
            found = None
        if found is not None:
            return found, False
        if creation == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise NotFoundError(
                f"no {self._kind} is named {name} in environment {environment}",
                hint=f"create_if_missing=True or `modal {self._kind} create {name}` makes it",
            )
        return await self._add(caller.new_id(self._prefix), environment, name, "", None), True

    async def list(self, request: Any) -> list[NamedObject]:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        before = request.pagination.created_before or float("inf")
        return await self._store.named(self._kind, environment, before, request.pagination.max_objects or _PAGE)

    async def rename(self, object_id: str, name: str) -> None:
        await self.get(object_id)
        await self._store.rename(object_id, name)

    async def delete(self, object_id: str) -> None:
        await self.get(object_id)
        await self._store.delete([object_id])

    async def beat(self, object_id: str) -> None:
        await self.get(object_id)
        await self._store.beat(object_id)

    async def _add(
        self, object_id: str, environment: str, name: str, app_id: str, beat_at: float | None
    ) -> NamedObject:
        return await self._store.add(NamedObject(object_id, self._kind, environment, name, app_id, 0.0, beat_at))


def creation_info(thing: NamedObject) -> api_pb2.CreationInfo:
    return api_pb2.CreationInfo(created_at=thing.created_at)
