"""Deployments of an app: its versions, those that are brought back, and those that are only rolled over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.server.conftest import Api


@dataclass
class Deployed:
    """An app of two versions."""

    api: Api
    app_id: str

    async def ask(self, rpc: str, /, key: str = "", **fields: Any) -> Any:
        request = getattr(api_pb2, f"{rpc}Request")(app_id=self.app_id, **fields)
        return await getattr(self.api.stub, rpc)(request, metadata=self.api.keyed(key) if key else self.api.metadata)

    async def deploy(self) -> None:
        await self.ask("AppPublish", name="service", app_state=api_pb2.APP_STATE_DEPLOYED)

    async def history(self) -> list[tuple[int, str, int]]:
        """Number, kind and what was brought back, of each version, the newest first."""
        answer = await self.ask("AppDeploymentHistory")
        kind = api_pb2.DeploymentType.Name
        return [
            (each.version, kind(each.deployment_type).removeprefix("DEPLOYMENT_TYPE_"), each.rollback_version)
            for each in answer.app_deployment_histories
        ]


@pytest.fixture
async def once(api: Api) -> Deployed:
    request = api_pb2.AppCreateRequest(description="service", app_state=api_pb2.APP_STATE_INITIALIZING)
    deployed = Deployed(api, (await api.stub.AppCreate(request, metadata=api.metadata)).app_id)
    await deployed.deploy()
    return deployed


@pytest.fixture
async def twice(once: Deployed) -> Deployed:
    await once.deploy()
    return once


async def test_a_rollover_is_a_version_of_its_own(twice: Deployed) -> None:
    answer = await twice.ask("AppRollover")
    assert await twice.history() == [(3, "ROLLOVER", 0), (2, "STANDARD", 0), (1, "STANDARD", 0)]
    lifecycle = (await twice.ask("AppGetLifecycle")).lifecycle
    assert (lifecycle.version, lifecycle.deployed_at) == (3, answer.deployed_at)
    assert answer.url.endswith(f"/apps/{twice.app_id}")


async def test_a_rollback_says_when_it_was(twice: Deployed) -> None:
    """For clients that end the containers of before."""
    answer = await twice.ask("AppRollback", version=-1)
    assert await twice.history() == [(3, "ROLLBACK", 1), (2, "STANDARD", 0), (1, "STANDARD", 0)]
    assert answer.deployed_at == (await twice.ask("AppGetLifecycle")).lifecycle.deployed_at
    assert answer.url.endswith(f"/apps/{twice.app_id}")


@pytest.mark.parametrize(("name", "fields"), [("AppRollover", {}), ("AppRollback", {"version": -1})])
async def test_a_request_that_is_repeated_makes_one_version(twice: Deployed, name: str, fields: dict[str, Any]) -> None:
    answers = [await twice.ask(name, key="once", **fields) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(await twice.history()) == 3


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (-1, "app service has no earlier version to bring back: its newest is 1"),
        (7, "app service has no version 7: its newest is 1"),
        (1, "app service is at version 1 already"),
    ],
)
async def test_what_cannot_be_brought_back_is_said(once: Deployed, version: int, sentence: str) -> None:
    with pytest.raises(GRPCError) as refusal:
        await once.ask("AppRollback", version=version)
    assert refusal.value.message == sentence


async def test_an_app_that_was_stopped_is_neither_rolled_over_nor_tagged(once: Deployed) -> None:
    await once.ask("AppStop")
    for name in ("AppRollover", "AppSetTags"):
        with pytest.raises(GRPCError) as refusal:
            await once.ask(name)
        assert refusal.value.status is Status.ALREADY_EXISTS
        assert refusal.value.message == "app service was stopped (deploy it again)"
