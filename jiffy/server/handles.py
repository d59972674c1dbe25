"""Handles: by what clients and containers know a function, as the wire API describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from typing import Any

from modal_proto import api_pb2

Address = Callable[[str], str]
"""Where a web endpoint is reached, from its label."""


def make_handle(source: Any, function_id: str, app_id: str, definition_id: str) -> api_pb2.FunctionHandleMetadata:
    """What others need to call a function; `source` is a Function or a FunctionPrecreateRequest."""
    handle = api_pb2.FunctionHandleMetadata(
        function_name=source.function_name,
        function_type=source.function_type,
        function_schema=source.function_schema,
        definition_id=definition_id,
        app_id=app_id,
        supported_input_formats=source.supported_input_formats,
        supported_output_formats=source.supported_output_formats,
    )
    if isinstance(source, api_pb2.Function):
        handle.is_method = source.is_method
        handle.class_parameter_info.CopyFrom(source.class_parameter_info)
        handle.web_url = source.web_url
        handle._experimental_flash_urls.extend(source.flash_service_urls)
    for name, method in source.method_definitions.items():
        handle.method_handle_metadata[name].CopyFrom(_method_handle(name, method))
    return handle


def locate_handle(handle: api_pb2.FunctionHandleMetadata, address: Address) -> api_pb2.FunctionHandleMetadata:
    """The same with addresses: what is stored in their place are labels."""
    located = api_pb2.FunctionHandleMetadata()
    located.CopyFrom(handle)
    locate([located, *located.method_handle_metadata.values()], address)
    locate_server(located._experimental_flash_urls, address)
    return located


def locate(endpoints: Iterable[Any], address: Address) -> None:
    """Where messages have labels of web endpoints, have addresses."""
    for each in endpoints:
        if each.web_url:
            each.web_url = address(each.web_url)


def locate_server(labels: MutableSequence[str], address: Address) -> None:
    """The same for the labels of a server."""
    labels[:] = [address(label) for label in labels]


def _method_handle(name: str, method: api_pb2.MethodDefinition) -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name=method.function_name,
        function_type=method.function_type,
        is_method=True,
        use_method_name=name,
        function_schema=method.function_schema,
        web_url=method.web_url,
        supported_input_formats=method.supported_input_formats,
        supported_output_formats=method.supported_output_formats,
    )
