"""Every provider of machines does the same: what is started runs, is known again, and ends.

EC2 is moto's server; Google and Kubernetes are stand-ins. Machines of this host are real (tests/programs/test_fleet.py).
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from jiffy.core.sizing import Offer
from jiffy.errors import ExhaustedError, InvalidError, UnavailableError
from jiffy.fleet.base import Join, Kind, Provider, new_machine_id
from jiffy.fleet.boot import cloud_config
from jiffy.fleet.ec2 import Ec2Provider
from jiffy.fleet.gce import GceProvider
from jiffy.fleet.kubernetes import KubernetesProvider
from jiffy.fleet.settings import Ec2Settings, GceSettings, KubernetesSettings
from tests.fleet.stand_ins import StandIn, serve_compute_engine, serve_kubernetes

GIBIBYTE = 2**30
SMALL = Kind(Offer("small", 2000, 4 * GIBIBYTE, 0.1), "t3.medium")
SPOT = Kind(Offer("spot", 2000, 4 * GIBIBYTE, 0.03), "t3.medium", spot=True)
JOIN = Join(("https://10.0.0.5:9902", "https://10.0.0.6:9902"), "wk-1:ws-1:pin", ("machine=ma-1", "zone=a"), 600)


@dataclass
class Land:
    """Where machines are. `open` gives a provider for a fleet; `seen` all that was made there, as the API tells it."""

    open: Callable[[str], Provider]
    seen: Callable[[], list[Any]]


def open_ec2(address: str) -> Land:
    client = boto3.client("ec2", endpoint_url=address, region_name="us-east-1")
    image = client.describe_images()["Images"][0]["ImageId"]
    settings = Ec2Settings(region="us-east-1", image=image, endpoint=address, disk=40 * GIBIBYTE)

    def seen() -> list[Any]:
        return [each for group in client.describe_instances()["Reservations"] for each in group["Instances"]]

    return Land(lambda fleet: Ec2Provider(settings, fleet, "jiffy==1"), seen)


def kubeconfig(folder: Path, address: str) -> str:
    """A file that leads to a cluster."""
    file = folder / "kubeconfig"
    described = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "users": [{"name": "test", "user": {"token": "secret"}}],
    }
    file.write_text(json.dumps(described))
    return str(file)


@pytest.fixture(params=[pytest.param("ec2", marks=pytest.mark.service), "gce", "kubernetes"])
async def land(request: pytest.FixtureRequest) -> AsyncIterator[Land]:
    async with AsyncExitStack() as stack:
        if request.param == "ec2":
            request.getfixturevalue("credentials")
            yield open_ec2(request.getfixturevalue("s3_address"))
        elif request.param == "gce":
            google = await stack.enter_async_context(serve_compute_engine())
            gce = GceSettings(project="example", zone="europe-west1-b", endpoint=google.address)
            yield Land(lambda fleet: GceProvider(gce, fleet, "jiffy==1"), lambda: list(google.things.values()))
        else:
            cluster = await stack.enter_async_context(serve_kubernetes())
            file = kubeconfig(request.getfixturevalue("tmp_path"), cluster.address)
            pods = KubernetesSettings(image="registry.example/jiffy:1", kubeconfig=file)
            yield Land(lambda fleet: KubernetesProvider(pods, fleet), lambda: list(cluster.things.values()))


@pytest.fixture
async def provider(land: Land) -> AsyncIterator[Provider]:
    opened = land.open(new_machine_id())
    yield opened
    await opened.close()


async def test_what_is_started_runs_until_it_is_ended(provider: Provider) -> None:
    first, second = new_machine_id(), new_machine_id()
    for machine_id in (first, second):
        await provider.start(machine_id, SMALL, JOIN)
    assert set(await provider.running()) == {first, second}
    await provider.end(first)
    assert set(await provider.running()) == {second}


async def test_one_that_is_gone_may_be_ended(provider: Provider) -> None:
    machine_id = new_machine_id()
    await provider.start(machine_id, SMALL, JOIN)
    for _ in range(2):
        await provider.end(machine_id)
    await provider.end(new_machine_id())
    assert set(await provider.running()) == set()


async def test_fleets_do_not_know_each_others_machines(land: Land, provider: Provider) -> None:
    await provider.start(new_machine_id(), SMALL, JOIN)
    stranger = land.open(new_machine_id())
    assert set(await stranger.running()) == set()
    await stranger.close()


async def test_another_server_of_the_same_fleet_knows_them(land: Land) -> None:
    fleet, machine_id = new_machine_id(), new_machine_id()
    first, second = land.open(fleet), land.open(fleet)
    await first.start(machine_id, SMALL, JOIN)
    assert set(await second.running()) == {machine_id}
    await first.close()
    await second.close()


@dataclass
class Google:
    api: StandIn
    provider: GceProvider


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    async with serve_compute_engine() as api:
        provider = GceProvider(GceSettings(project="example", zone="z", endpoint=api.address), "fleet", "jiffy==1")
        yield Google(api, provider)
        await provider.close()


@pytest.mark.parametrize("refusal", [(200, "ZONE_RESOURCE_POOL_EXHAUSTED"), (403, "quotaExceeded")])
async def test_google_may_have_no_machine_for_now(google: Google, refusal: tuple[int, str]) -> None:
    google.api.refusal = refusal
    with pytest.raises(ExhaustedError, match="no such machine for now"):
        await google.provider.start(new_machine_id(), SMALL, JOIN)
    assert set(await google.provider.running()) == set()


@pytest.mark.parametrize(
    ("status", "kind"), [(500, UnavailableError), (429, UnavailableError), (400, InvalidError), (403, InvalidError)]
)
async def test_google_says_what_is_wrong(google: Google, status: int, kind: type[Exception]) -> None:
    google.api.refusal = (status, "something")
    with pytest.raises(kind, match="refused: something"):
        await google.provider.start(new_machine_id(), SMALL, JOIN)


async def test_a_machine_of_google_is_what_was_ordered(google: Google) -> None:
    for kind in (SMALL, SPOT):
        await google.provider.start(f"ma-{kind.offer.name}", kind, JOIN)
    small, spot = google.api.things["ma-small"], google.api.things["ma-spot"]
    assert small["machineType"] == "zones/z/machineTypes/t3.medium"
    assert read_boot(small["metadata"]["items"][0]["value"])["packages"]
    assert "provisioningModel" not in small["scheduling"] and spot["scheduling"]["provisioningModel"] == "SPOT"


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((403, "exceeded quota: pods"), ExhaustedError),
        ((403, "may not create pods"), InvalidError),
        ((500, "etcd is gone"), UnavailableError),
    ],
)
async def test_kubernetes_says_what_is_wrong(tmp_path: Path, refusal: tuple[int, str], kind: type[Exception]) -> None:
    async with serve_kubernetes() as cluster:
        settings = KubernetesSettings(image="jiffy:1", kubeconfig=kubeconfig(tmp_path, cluster.address))
        provider = KubernetesProvider(settings, "fleet")
        cluster.refusal = refusal
        with pytest.raises(kind, match=refusal[1]):
            await provider.start(new_machine_id(), SMALL, JOIN)
        await provider.close()


async def test_a_cluster_that_does_not_answer_is_said_so(tmp_path: Path) -> None:
    settings = KubernetesSettings(image="jiffy:1", kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:1"))
    provider = KubernetesProvider(settings, "fleet")
    with pytest.raises(UnavailableError, match="Kubernetes does not answer"):
        await provider.running()
    await provider.close()


async def test_a_pod_is_what_was_ordered(tmp_path: Path) -> None:
    async with serve_kubernetes() as cluster:
        file = kubeconfig(tmp_path, cluster.address)
        settings = KubernetesSettings(image="jiffy:1", kubeconfig=file, node_selector={"pool": "jiffy"})
        provider = KubernetesProvider(settings, "fleet")
        await provider.start("ma-1", SMALL, JOIN)
        await provider.close()
    spec = cluster.things["ma-1"]["spec"]
    (worker,) = spec["containers"]
    assert spec["restartPolicy"] == "Never"
    assert spec["nodeSelector"] == {"pool": "jiffy", "node.kubernetes.io/instance-type": "t3.medium"}
    assert worker["resources"]["limits"] == {"cpu": "2000m", "memory": str(4 * GIBIBYTE)}
    assert worker["command"][:2] == ["jiffy", "worker"]
    assert worker["env"] == [{"name": "JIFFY_WORKER_TOKEN", "value": "wk-1:ws-1:pin"}]


@pytest.mark.service
async def test_a_machine_of_ec2_is_what_was_ordered(credentials: None, s3_address: str) -> None:
    land, fleet = open_ec2(s3_address), new_machine_id()
    provider = land.open(fleet)
    await provider.start("ma-ordered", SPOT, JOIN)
    await provider.close()
    (instance,) = [each for each in land.seen() if {"Key": "jiffy-fleet", "Value": fleet} in each["Tags"]]
    assert instance["InstanceType"] == "t3.medium"
    assert instance["InstanceLifecycle"] == "spot"
    client = boto3.client("ec2", endpoint_url=s3_address, region_name="us-east-1")
    asked = {"InstanceId": instance["InstanceId"], "Attribute": "userData"}
    data = client.describe_instance_attribute(**asked)["UserData"]["Value"]
    assert read_boot(base64.b64decode(data).decode())["packages"]


@pytest.mark.service
async def test_ec2_says_what_is_wrong(credentials: None, s3_address: str) -> None:
    settings = Ec2Settings(region="us-east-1", image="ami-00000000", subnet="subnet-none", endpoint=s3_address)
    provider = Ec2Provider(settings, "fleet", "jiffy==1")
    with pytest.raises(InvalidError, match="EC2 refuses: InvalidSubnetID"):
        await provider.start(new_machine_id(), SMALL, JOIN)
    await provider.close()
    silent = Ec2Provider(Ec2Settings(region="us-east-1", image="ami-1", endpoint="http://127.0.0.1:1"), "f", "jiffy")
    with pytest.raises(UnavailableError, match="EC2 does not answer"):
        await silent.running()
    await silent.close()


def read_boot(text: str) -> dict[str, Any]:
    assert text.startswith("#cloud-config\n")
    described: dict[str, Any] = json.loads(text.partition("\n")[2])
    return described


def test_a_machine_that_boots_joins_by_itself() -> None:
    boot = read_boot(cloud_config(JOIN, "jiffy[cloud]==1.2"))
    environment, service = boot["write_files"]
    assert environment == {
        "path": "/etc/jiffy/worker.env",
        "permissions": "0600",
        "content": "JIFFY_WORKER_TOKEN=wk-1:ws-1:pin\n",
    }
    command = next(line for line in service["content"].splitlines() if line.startswith("ExecStart="))
    words = shlex.split(command.removeprefix("ExecStart="))
    assert words[:2] == ["/opt/jiffy/bin/jiffy", "worker"]
    assert words.count("--server") == 2 and "zone=a" in words
    assert "wk-1" not in service["content"], "everybody can read a command line"
    assert ["/opt/jiffy/bin/pip", "install", "jiffy[cloud]==1.2"] in boot["runcmd"]
    assert "SuccessAction=poweroff" in service["content"]
