"""The file that describes a fleet: where its machines come from, which there are, and how many there may be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from jiffy.core.placement import Need
from jiffy.core.sizing import Bounds, Offer
from jiffy.errors import InvalidError
from jiffy.fleet.base import Kind
from jiffy.sizes import parse_size

Size = Annotated[int, BeforeValidator(lambda value: parse_size(str(value)))]
ProviderName = Literal["local", "ec2", "gce", "kubernetes"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spare(_Strict):
    cpus: float = Field(default=0, ge=0)
    memory: Size = 0
    gpus: int = Field(default=0, ge=0)


class OfferSettings(_Strict):
    """`price` is of an hour, in any currency. `instance` is the provider's name of it, if that is another."""

    name: str
    cpus: float = Field(gt=0)
    memory: Size
    price: float = Field(ge=0)
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = ""
    labels: tuple[str, ...] = ()
    instance: str = ""
    spot: bool = False

    def kind(self) -> Kind:
        offer = Offer(
            name=self.name,
            cpu_millis=int(1000 * self.cpus),
            memory_bytes=self.memory,
            price=self.price,
            gpus=self.gpus,
            gpu_type=self.gpu_type,
            labels=frozenset(self.labels),
        )
        return Kind(offer, self.instance or self.name, self.spot)


class Ec2Settings(_Strict):
    region: str
    image: str
    subnet: str = ""
    security_groups: tuple[str, ...] = ()
    disk: Size = 0
    endpoint: str = ""


class GceSettings(_Strict):
    project: str
    zone: str
    image: str = "projects/debian-cloud/global/images/family/debian-12"
    network: str = "global/networks/default"
    disk: Size = 50 * 2**30
    endpoint: str = ""


class KubernetesSettings(_Strict):
    """`image` is one of a container that has jiffy. `kubeconfig` is a file; without it the server's own cluster is meant, or
    what KUBECONFIG names."""

    image: str
    namespace: str = "default"
    node_selector: dict[str, str] = Field(default_factory=dict)
    kubeconfig: str = ""


class FleetSettings(_Strict):
    """`servers` are the gates at which machines join, if they reach them at other addresses than the server's own. `package`
    is what pip installs on a machine that has nothing."""

    provider: ProviderName
    name: str = Field(default="jiffy", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    servers: tuple[str, ...] = ()
    minimum: int = Field(default=0, ge=0)
    maximum: int = Field(default=10, ge=1)
    hourly: float = Field(default=0, ge=0)
    daily: float = Field(default=0, ge=0)
    idle_seconds: float = Field(default=300, ge=0)
    join_seconds: float = Field(default=600, gt=0)
    orphan_seconds: float = Field(default=600, gt=0)
    package: str = "jiffy"
    spare: Spare = Spare()
    offer: tuple[OfferSettings, ...] = Field(min_length=1)
    ec2: Ec2Settings | None = None
    gce: GceSettings | None = None
    kubernetes: KubernetesSettings | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> FleetSettings:
        if self.provider != "local" and getattr(self, self.provider) is None:
            raise ValueError(f"[{self.provider}] is missing")
        names = [offer.name for offer in self.offer]
        if len(set(names)) < len(names):
            raise ValueError("two offers have the same name")
        if self.minimum > self.maximum:
            raise ValueError("minimum is more than maximum")
        return self

    def kinds(self) -> dict[str, Kind]:
        return {offer.name: offer.kind() for offer in self.offer}

    def bounds(self) -> Bounds:
        spare = Need(int(1000 * self.spare.cpus), self.spare.memory, gpus=self.spare.gpus)
        return Bounds(
            minimum=self.minimum,
            maximum=self.maximum,
            hourly=self.hourly,
            daily=self.daily,
            spare=spare,
            idle_seconds=self.idle_seconds,
            join_seconds=self.join_seconds,
        )


def read_fleet(path: Path) -> FleetSettings:
    """InvalidError with the first thing that is wrong in the file."""
    try:
        return FleetSettings.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, InvalidError) as error:
        raise InvalidError(f"{path} describes no fleet", why=str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        why = f"{place}: {first['msg']}" if place else first["msg"]
        raise InvalidError(f"{path} describes no fleet", why=why, hint="see docs/FLEET.md") from error
