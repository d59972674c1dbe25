"""Environments of the API, as far as one workspace with one environment needs them, and the greeting."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import NotFoundError
from jiffy.server.caller import Caller

DEFAULT_ENVIRONMENT = "main"


def builder_version(client_version: str) -> str:
    """The newest image builder that a client knows: another name would make it refuse to go on."""
    parts = tuple(int(part) for part in client_version.split(".")[:3] if part.isdigit())
    if parts and parts < (1, 1):
        return "2024.10"
    return "2025.06" if parts and parts < (1, 6, 4) else "2026.10"


class Environments:
    async def client_hello(self, request: Empty, caller: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse(image_builder_version=builder_version(caller.client_version))

    async def environment_get_or_create(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, caller: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        name = request.deployment_name or DEFAULT_ENVIRONMENT
        if name != DEFAULT_ENVIRONMENT:
            raise NotFoundError(f"no environment {name}", hint=f"this server has one, {DEFAULT_ENVIRONMENT}")
        settings = api_pb2.EnvironmentSettings(image_builder_version=builder_version(caller.client_version))
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id="en-main", metadata=api_pb2.EnvironmentMetadata(name=name, settings=settings)
        )
