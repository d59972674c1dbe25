"""Functions of the API: defined by a program, with the handle by which clients and containers know them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from modal_proto import api_pb2

from jiffy.errors import InvalidError, UnsupportedError
from jiffy.server.caller import Caller
from jiffy.server.scheduler import Scheduler
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores

_UNSUPPORTED = {
    "volume_mounts": "volumes",
    "shared_volume_mounts": "network file systems",
    "cloud_bucket_mounts": "cloud bucket mounts",
    "method_definitions": "classes",
}


class Functions:
    def __init__(self, stores: Stores, scheduler: Scheduler) -> None:
        self._stores = stores
        self._scheduler = scheduler

    async def function_precreate(
        self, request: api_pb2.FunctionPrecreateRequest, caller: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        await self._stores.apps.get(request.app_id)
        function_id = request.existing_function_id or caller.new_id("fu")
        handle = _handle(request, function_id, request.app_id)
        await self._stores.functions.put(
            StoredFunction(
                function_id, request.app_id, request.function_name, handle.SerializeToString(), definition=None
            )
        )
        return api_pb2.FunctionPrecreateResponse(function_id=function_id, handle_metadata=handle)

    async def function_create(
        self, request: api_pb2.FunctionCreateRequest, caller: Caller
    ) -> api_pb2.FunctionCreateResponse:
        await self._stores.apps.get(request.app_id)
        definition = _definition(request)
        _refuse_unsupported(definition)
        function_id = request.existing_function_id or caller.new_id("fu")
        handle = _handle(definition, function_id, request.app_id)
        await self._stores.functions.put(
            StoredFunction(
                function_id,
                request.app_id,
                definition.function_name,
                handle.SerializeToString(),
                definition.SerializeToString(),
            )
        )
        await self._scheduler.redefine(function_id)
        return api_pb2.FunctionCreateResponse(
            function_id=function_id,
            function=definition,
            function_data=_function_data(request, definition),
            handle_metadata=handle,
        )


def _definition(request: api_pb2.FunctionCreateRequest) -> Any:
    """Newer clients may send FunctionData, whose ranked functions differ by GPU only; the first is wanted most."""
    if request.HasField("function"):
        return request.function
    if request.function_data.ranked_functions:
        return request.function_data.ranked_functions[0].function
    raise InvalidError("a function without a definition", hint="send `function` or `function_data`")


def _refuse_unsupported(definition: Any) -> None:
    if definition.resources.gpu_config.count or definition.resources.gpu_config.gpu_type:
        raise UnsupportedError(f"{definition.function_name} asks for a GPU", why="this server has none to give")
    for field, name in _UNSUPPORTED.items():
        if getattr(definition, field):
            raise UnsupportedError(f"{definition.function_name} uses {name}", why="this version of jiffy has none yet")
    if definition.webhook_config.type:
        raise UnsupportedError(
            f"{definition.function_name} is a web endpoint", why="this version of jiffy serves none yet"
        )


def _handle(source: Any, function_id: str, app_id: str) -> api_pb2.FunctionHandleMetadata:
    """What others need to call a function; `source` is a Function or a FunctionPrecreateRequest."""
    handle = api_pb2.FunctionHandleMetadata(
        function_name=source.function_name,
        function_type=source.function_type,
        function_schema=source.function_schema,
        definition_id=f"de-{function_id}",
        app_id=app_id,
        supported_input_formats=source.supported_input_formats,
        supported_output_formats=source.supported_output_formats,
    )
    if isinstance(source, api_pb2.Function):
        handle.is_method = source.is_method
        handle.class_parameter_info.CopyFrom(source.class_parameter_info)
    return handle


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
