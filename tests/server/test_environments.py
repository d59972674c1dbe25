"""Environments: what is in one is no other's business, and what is in none is refused."""

from __future__ import annotations

from typing import Any

import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from jiffy.server.environments import builder_version
from tests.server.conftest import Api

_IF_MISSING = api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING


@pytest.mark.parametrize(
    ("client", "builder"),
    [("1.0.5", "2024.10"), ("1.1.4", "2025.06"), ("1.6.0", "2025.06"), ("1.6.4", "2026.10"), ("1.7.0", "2026.10")],
)
def test_a_client_hears_of_no_builder_that_it_does_not_know(client: str, builder: str) -> None:
    assert builder_version(client) == builder


def test_a_client_that_does_not_say_its_version_gets_the_newest() -> None:
    assert builder_version("") == "2026.10"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("AppCreate", {}),
        ("AppList", {}),
        ("AppGetByDeploymentName", {"name": "it"}),
        ("TaskList", {}),
        ("DictList", {}),
        ("DictGetOrCreate", {"deployment_name": "it", "object_creation_type": _IF_MISSING}),
        ("QueueGetOrCreate", {"deployment_name": "it", "object_creation_type": _IF_MISSING}),
        ("VolumeGetOrCreate", {"deployment_name": "it", "object_creation_type": _IF_MISSING}),
        ("SecretGetOrCreate", {"deployment_name": "it", "object_creation_type": _IF_MISSING}),
        ("ImageListTags", {}),
    ],
)
async def test_nothing_is_looked_for_or_made_in_an_environment_that_is_not_there(
    api: Api, name: str, fields: dict[str, Any]
) -> None:
    request = getattr(api_pb2, f"{name}Request")(environment_name="nowhere", **fields)
    with pytest.raises(GRPCError) as refusal:
        await getattr(api.stub, name)(request, metadata=api.metadata)
    assert refusal.value.status is Status.NOT_FOUND
    assert refusal.value.message == "no environment nowhere (`modal environment create nowhere` makes it)"


async def test_once_it_is_made_an_environment_has_what_is_put_there(api: Api) -> None:
    await api.stub.EnvironmentCreate(api_pb2.EnvironmentCreateRequest(name="somewhere"), metadata=api.metadata)
    made = api_pb2.DictGetOrCreateRequest(
        deployment_name="it", environment_name="somewhere", object_creation_type=_IF_MISSING
    )
    await api.stub.DictGetOrCreate(made, metadata=api.metadata)
    for environment, names in (("somewhere", ["it"]), ("main", []), ("", [])):
        listed = await api.stub.DictList(api_pb2.DictListRequest(environment_name=environment), metadata=api.metadata)
        assert [each.name for each in listed.dicts] == names
