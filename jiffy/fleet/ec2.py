"""Machines of AWS EC2, or of what speaks its API. Who may use it is found as the AWS command line finds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from jiffy.errors import ExhaustedError, InvalidError, JiffyError, UnavailableError
from jiffy.extras import load_extra
from jiffy.fleet.base import Join, Kind
from jiffy.fleet.boot import cloud_config
from jiffy.fleet.settings import Ec2Settings

T = TypeVar("T")

_FLEET: Final = "jiffy-fleet"
_MACHINE: Final = "jiffy-machine"
_ALIVE: Final = ("pending", "running")
_NO_CAPACITY: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "VcpuLimitExceeded",
    }
)
_PASSING: Final = frozenset(
    {"RequestLimitExceeded", "Throttling", "InternalError", "ServiceUnavailable", "Unavailable"}
)


class Ec2Provider:
    look_seconds: Final = 10.0
    appears_seconds: Final = 60.0

    def __init__(self, settings: Ec2Settings, fleet: str, package: str) -> None:
        self._settings = settings
        self._fleet = fleet
        self._package = package
        what = "machines of EC2 cannot be had"
        self._errors = load_extra("botocore.exceptions", what, "fleet")
        session = load_extra("botocore.session", what, "fleet").get_session()
        self._client = session.create_client("ec2", region_name=settings.region, endpoint_url=settings.endpoint or None)

    async def start(self, machine_id: str, kind: Kind, join: Join) -> None:
        tags = [{"Key": key, "Value": value} for key, value in self._tags(machine_id).items()]
        request: dict[str, Any] = {
            "ClientToken": machine_id,
            "ImageId": self._settings.image,
            "InstanceType": kind.instance,
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": cloud_config(join, self._package),
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required"},
            "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
        }
        if self._settings.subnet:
            request["SubnetId"] = self._settings.subnet
        if self._settings.security_groups:
            request["SecurityGroupIds"] = list(self._settings.security_groups)
        if self._settings.disk:
            request["BlockDeviceMappings"] = [await self._disk()]
        if kind.spot:
            request["InstanceMarketOptions"] = {"MarketType": "spot"}
        await self._ask(lambda: self._client.run_instances(**request))

    async def running(self) -> Collection[str]:
        return set(await self._ask(self._find))

    async def end(self, machine_id: str) -> None:
        def end() -> None:
            if (instance_id := self._find().get(machine_id)) is not None:
                self._client.terminate_instances(InstanceIds=[instance_id])

        await self._ask(end)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    def _tags(self, machine_id: str) -> dict[str, str]:
        return {_FLEET: self._fleet, _MACHINE: machine_id, "Name": f"{self._fleet} {machine_id}"}

    def _find(self) -> dict[str, str]:
        """The machines of this fleet: id -> what EC2 calls it."""
        filters = [
            {"Name": f"tag:{_FLEET}", "Values": [self._fleet]},
            {"Name": "instance-state-name", "Values": list(_ALIVE)},
        ]
        pages = self._client.get_paginator("describe_instances").paginate(Filters=filters)
        instances = [each for page in pages for group in page["Reservations"] for each in group["Instances"]]
        return {
            tag["Value"]: each["InstanceId"] for each in instances for tag in each["Tags"] if tag["Key"] == _MACHINE
        }

    async def _disk(self) -> dict[str, Any]:
        """The first disk of the image, as large as it is to be."""
        images = await self._ask(lambda: self._client.describe_images(ImageIds=[self._settings.image])["Images"])
        if not images:
            raise InvalidError(f"EC2 has no image {self._settings.image} in {self._settings.region}")
        size = -(-self._settings.disk // 2**30)
        return {"DeviceName": images[0]["RootDeviceName"], "Ebs": {"VolumeSize": size, "VolumeType": "gp3"}}

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(question)
        except self._errors.ClientError as error:
            raise _explain(error.response["Error"]) from error
        except self._errors.BotoCoreError as error:
            raise UnavailableError("EC2 does not answer", why=str(error)) from error


def _explain(error: dict[str, str]) -> JiffyError:
    why = f"{error['Code']}: {error['Message']}"
    if error["Code"] in _NO_CAPACITY:
        return ExhaustedError("EC2 has no such machine for now", why=why)
    if error["Code"] in _PASSING:
        return UnavailableError("EC2 does not answer", why=why)
    return InvalidError("EC2 refuses", why=why)
