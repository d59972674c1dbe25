"""Functions of the API: defined by a program, looked up by name, with the handle by which clients and containers know
them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from modal_proto import api_pb2

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError
from jiffy.identifiers import derived_id
from jiffy.server.caller import Caller
from jiffy.server.endpoint_names import name_endpoints
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.server.handles import locate, locate_handle, locate_server, make_handle
from jiffy.server.known_functions import apply_options
from jiffy.server.scheduler import Scheduler
from jiffy.server.schedules import next_firing
from jiffy.server.settings import note_fallbacks
from jiffy.store.apps import App, Version
from jiffy.store.functions import StoredDefinition, StoredFunction
from jiffy.store.stores import Stores

_UNSUPPORTED: Final = {
    "is_sessioned": "sessions of a server",
    "shared_volume_mounts": "network file systems",
}


class Functions:
    def __init__(self, stores: Stores, scheduler: Scheduler) -> None:
        self._stores = stores
        self._scheduler = scheduler

    # Defining

    async def function_precreate(
        self, request: api_pb2.FunctionPrecreateRequest, caller: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        await self._stores.apps.get(request.app_id)
        function_id = request.existing_function_id or caller.new_id("fu")
        handle = make_handle(request, function_id, request.app_id, "")
        await self._stores.functions.add(
            StoredFunction(function_id, request.app_id, request.function_name, handle.SerializeToString(), None)
        )
        return api_pb2.FunctionPrecreateResponse(function_id=function_id, handle_metadata=handle)

    async def function_create(
        self, request: api_pb2.FunctionCreateRequest, caller: Caller
    ) -> api_pb2.FunctionCreateResponse:
        """Keep the definition. A function that has one already follows it when the app is published."""
        app = await self._stores.apps.get(request.app_id)
        definition = _definition(request)
        _refuse_unsupported(definition)
        function_id = request.existing_function_id or caller.new_id("fu")
        endpoints = name_endpoints(definition, function_id, app)
        body = definition.SerializeToString(deterministic=True)
        definition_id = derived_id("de", function_id, hashlib.sha256(body).hexdigest())
        handle = make_handle(definition, function_id, request.app_id, definition_id)
        encoded = handle.SerializeToString()
        is_first = await self._stores.functions.define(
            StoredFunction(function_id, request.app_id, definition.function_name, encoded, None),
            StoredDefinition(definition_id, function_id, encoded, body),
        )
        if is_first:
            await self._scheduler.redefine(function_id)
        stolen = await self._stores.endpoints.put(endpoints) if endpoints else []
        definition.web_url_info.label_stolen = definition.web_url in stolen
        locate([definition, *definition.method_definitions.values()], caller.endpoint_url)
        locate_server(definition.flash_service_urls, caller.endpoint_url)
        return api_pb2.FunctionCreateResponse(
            function_id=function_id,
            function=definition,
            function_data=_function_data(request, definition),
            handle_metadata=locate_handle(handle, caller.endpoint_url),
        )

    # Looking up

    async def function_get(self, request: api_pb2.FunctionGetRequest, caller: Caller) -> api_pb2.FunctionGetResponse:
        """By the name of its app and its own; of an earlier version of the app as a variant that keeps its definition."""
        app, version = await self._deployed(request.app_name, request.environment_name, request.app_version)
        function_id = _named("function", request.object_tag, app, (version or app).function_ids)
        if version is not None and version.version != app.version:
            function_id = await self._pin(function_id, version)
        stored = await self._stores.functions.get(function_id)
        return api_pb2.FunctionGetResponse(
            function_id=function_id, handle_metadata=_located(stored, caller), function=await self._data(stored, caller)
        )

    async def function_get_by_id(
        self, request: api_pb2.FunctionGetByIdRequest, caller: Caller
    ) -> api_pb2.FunctionGetByIdResponse:
        stored = await self._stores.functions.get(request.function_id)
        return api_pb2.FunctionGetByIdResponse(
            handle_metadata=_located(stored, caller), function=await self._data(stored, caller)
        )

    async def function_bind_params(
        self, request: api_pb2.FunctionBindParamsRequest, caller: Caller
    ) -> api_pb2.FunctionBindParamsResponse:
        """A variant: a function with a pool of its own, the same one for the same parameters and options."""
        base = await self._stores.functions.get(request.function_id)
        options = request.function_options.SerializeToString(deterministic=True)
        key = hashlib.sha256(request.serialized_params + b"\0" + options).hexdigest()
        function_id = derived_id("fu", base.function_id, base.base_id, key)
        checked = api_pb2.Function.FromString(base.definition or b"")
        apply_options(checked, request.function_options)
        _refuse_unsupported(checked)
        handle = api_pb2.FunctionHandleMetadata.FromString(base.handle)
        handle.base_function_id = base.base_id or base.function_id
        await self._stores.functions.add(
            StoredFunction(
                function_id,
                base.app_id,
                base.name,
                handle.SerializeToString(),
                base.definition if base.base_id else None,
                base_id=base.base_id or base.function_id,
                parameters=request.serialized_params,
                options=options,
            )
        )
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=function_id, handle_metadata=locate_handle(handle, caller.endpoint_url)
        )

    async def class_create(self, request: api_pb2.ClassCreateRequest, caller: Caller) -> api_pb2.ClassCreateResponse:
        await self._stores.apps.get(request.app_id)
        class_id = request.existing_class_id or caller.new_id("cs")
        return api_pb2.ClassCreateResponse(class_id=class_id, handle_metadata=api_pb2.ClassHandleMetadata())

    async def class_get(self, request: api_pb2.ClassGetRequest, caller: Caller) -> api_pb2.ClassGetResponse:
        app, version = await self._deployed(request.app_name, request.environment_name, request.app_version)
        class_id = _named("class", request.object_tag, app, (version or app).class_ids)
        return api_pb2.ClassGetResponse(class_id=class_id, handle_metadata=api_pb2.ClassHandleMetadata())

    async def _deployed(self, name: str, environment: str, version: int) -> tuple[App, Version | None]:
        environment = environment or DEFAULT_ENVIRONMENT
        app = await self._stores.apps.find(environment, name)
        if app is None:
            raise NotFoundError(
                f"no app is deployed as {name} in environment {environment}", hint="`modal deploy` puts one there"
            )
        if not version:
            return app, None
        for each in await self._stores.apps.versions(app.app_id):
            if each.version == version:
                return app, each
        raise NotFoundError(f"app {name} has no version {version}", why=f"its newest is {app.version}")

    async def _pin(self, function_id: str, version: Version) -> str:
        """A variant that keeps the definition of an earlier version."""
        definition = await self._stores.functions.definition(version.definition_ids[function_id])
        pinned = derived_id("fu", definition.definition_id)
        stored = await self._stores.functions.get(function_id)
        await self._stores.functions.add(
            StoredFunction(
                pinned, stored.app_id, stored.name, definition.handle, definition.definition, base_id=function_id
            )
        )
        return pinned

    async def _data(self, stored: StoredFunction, caller: Caller) -> api_pb2.FunctionData:
        known = await self._scheduler.function(stored.function_id)
        data = _function_data(api_pb2.FunctionCreateRequest(), known.definition)
        locate([data, *data.method_definitions.values()], caller.endpoint_url)
        locate_server(data.flash_service_urls, caller.endpoint_url)
        return data


def _named(kind: str, name: str, app: App, identifiers: Mapping[str, str]) -> str:
    """The id of a function or a class of an app."""
    if (found := identifiers.get(name)) is None:
        raise NotFoundError(
            f"app {app.name} has no {kind} {name}", why=f"it has {', '.join(sorted(identifiers)) or 'none'}"
        )
    return found


def _located(stored: StoredFunction, caller: Caller) -> api_pb2.FunctionHandleMetadata:
    return locate_handle(api_pb2.FunctionHandleMetadata.FromString(stored.handle), caller.endpoint_url)


def _definition(request: api_pb2.FunctionCreateRequest) -> api_pb2.Function:
    """Newer clients may send FunctionData, whose ranked functions differ by GPU only; the first is wanted most."""
    definition = api_pb2.Function()
    if request.HasField("function"):
        definition.CopyFrom(request.function)
    elif request.function_data.ranked_functions:
        ranked = [each.function for each in request.function_data.ranked_functions]
        definition.CopyFrom(ranked[0])
        note_fallbacks(definition, [each.resources.gpu_config for each in ranked])
    else:
        raise InvalidError("a function without a definition", hint="send `function` or `function_data`")
    if request.HasField("schedule"):
        definition.schedule.CopyFrom(request.schedule)
    return definition


def _refuse_unsupported(definition: api_pb2.Function) -> None:
    for field, name in _UNSUPPORTED.items():
        if getattr(definition, field):
            raise UnsupportedError(f"{definition.function_name} uses {name}", why="this version of jiffy has none yet")
    if definition.http_config.h2_enabled:
        raise UnsupportedError(f"{definition.function_name} wants HTTP/2", why="its server is asked by HTTP/1.1")
    if definition.http_config.HasField("lift_and_shift_config"):
        raise UnsupportedError(
            f"{definition.function_name} has no class", why="this version of jiffy starts servers by one"
        )
    for mount in definition.cloud_bucket_mounts:
        if mount.oidc_auth_role_arn:
            raise UnsupportedError(
                f"bucket {mount.bucket_name} asks for a role by OIDC",
                why="this server gives containers no identity",
                hint="give the mount a secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
    if definition.HasField("schedule"):
        next_firing(definition.schedule, time.time())


def _function_data(request: api_pb2.FunctionCreateRequest, definition: Any) -> api_pb2.FunctionData:
    """The definition in its newer form: the client refuses an answer without it."""
    if request.HasField("function_data"):
        return request.function_data
    data = api_pb2.FunctionData()
    for field, value in definition.ListFields():
        twin = data.DESCRIPTOR.fields_by_name.get(field.name)
        if twin is not None:
            _copy_field(data, twin, value)
    data.ranked_functions.add(rank=0, function=definition)
    return data


def _copy_field(target: Message, field: FieldDescriptor, value: Any) -> None:
    if isinstance(value, Message):
        getattr(target, field.name).CopyFrom(value)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key, entry in value.items():
            if isinstance(entry, Message):
                getattr(target, field.name)[key].CopyFrom(entry)
            else:
                getattr(target, field.name)[key] = entry
    elif hasattr(value, "extend"):
        getattr(target, field.name).extend(value)
    else:
        setattr(target, field.name, value)
