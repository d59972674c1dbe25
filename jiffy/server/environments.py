"""Environments of the API, in the one workspace that a server is, and the greeting."""

from __future__ import annotations

import re
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from modal_proto import api_pb2

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError
from jiffy.server.caller import Caller
from jiffy.store.environments import Environment
from jiffy.store.environments import Environments as Store

DEFAULT_ENVIRONMENT: Final = "main"
WORKSPACE: Final = "jiffy"
_FIELD: Final = "environment_name"


def builder_version(client_version: str) -> str:
    """The newest image builder that a client knows: another name would make it refuse to go on."""
    parts = tuple(int(part) for part in client_version.split(".")[:3] if part.isdigit())
    if parts and parts < (1, 1):
        return "2024.10"
    return "2025.06" if parts and parts < (1, 6, 4) else "2026.10"


async def require_environment(store: Store, name: str) -> None:
    """NotFoundError when there is none of that name; without a name the default is meant."""
    if name not in ("", DEFAULT_ENVIRONMENT) and await store.find(name) is None:
        raise NotFoundError(f"no environment {name}", hint=f"`modal environment create {name}` makes it")


class Environments:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self, request: Message) -> None:
        """NotFoundError when a request is for an environment that is not there."""
        if _FIELD in request.DESCRIPTOR.fields_by_name:
            await require_environment(self._store, getattr(request, _FIELD))

    async def client_hello(self, request: Empty, caller: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(image_builder_version=builder_version(caller.client_version))

    async def workspace_name_lookup(self, request: Empty, caller: Caller) -> api_pb2.WorkspaceNameLookupResponse:
        return api_pb2.WorkspaceNameLookupResponse(workspace_name=WORKSPACE, username=WORKSPACE)

    async def environment_get_or_create(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, caller: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        name = request.deployment_name or DEFAULT_ENVIRONMENT
        found = await self._store.find(name)
        if found is None and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
            await self._add(name)
        else:
            await require_environment(self._store, name)
        settings = api_pb2.EnvironmentSettings(image_builder_version=builder_version(caller.client_version))
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=f"en-{name}", metadata=api_pb2.EnvironmentMetadata(name=name, settings=settings)
        )

    async def environment_list(self, request: Empty, caller: Caller) -> api_pb2.EnvironmentListResponse:
        return api_pb2.EnvironmentListResponse(items=[_item(each, caller) for each in await self._store.all()])

    async def environment_create(self, request: api_pb2.EnvironmentCreateRequest, caller: Caller) -> Empty:
        await self._add(request.name)
        return Empty()

    async def environment_update(
        self, request: api_pb2.EnvironmentUpdateRequest, caller: Caller
    ) -> api_pb2.EnvironmentListItem:
        """Its web suffix can be changed; a name stays."""
        found = await self._store.find(request.current_name)
        if found is None:
            raise NotFoundError(f"no environment {request.current_name}")
        if request.HasField("name") and request.name.value != found.name:
            raise UnsupportedError("an environment cannot be renamed", hint="make another one")
        if request.HasField("web_suffix"):
            await self._store.set_web_suffix(found.name, _check(request.web_suffix.value, "web suffix"))
        return _item(await self._store.find(found.name) or found, caller)

    async def environment_delete(self, request: api_pb2.EnvironmentDeleteRequest, caller: Caller) -> Empty:
        if request.name == DEFAULT_ENVIRONMENT:
            raise InvalidError(f"environment {DEFAULT_ENVIRONMENT} is the default and stays")
        await self._store.delete(request.name)
        return Empty()

    async def _add(self, name: str) -> None:
        await self._store.add(_check(name, "environment"), name.lower().replace("_", "-").replace(".", "-"))


def _check(name: str, what: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InvalidError(f"{name!r} is no name for an {what}", why="letters, digits, dots, dashes, up to 64")
    return name


def _item(environment: Environment, caller: Caller) -> api_pb2.EnvironmentListItem:
    return api_pb2.EnvironmentListItem(
        name=environment.name,
        webhook_suffix=environment.web_suffix,
        created_at=environment.created_at,
        default=environment.name == DEFAULT_ENVIRONMENT,
        environment_id=f"en-{environment.name}",
        image_builder_version=builder_version(caller.client_version),
    )
