"""What a fleet asks of who provides machines. A machine runs one worker, which joins by itself and ends with it."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from jiffy.core.sizing import Offer

MACHINE_LABEL: Final = "machine"
"""Each worker of a fleet has this label, with the id of its machine."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that can be bought: `offer` is what the choice is among, `instance` is its name for the provider. `spot`: it
    is cheaper, and may be taken away."""

    offer: Offer
    instance: str
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Join:
    """How a machine's worker joins: at these gates, with a token of its own. Without a server for `orphan_seconds` it ends,
    and with it the machine."""

    servers: tuple[str, ...]
    token: str
    labels: tuple[str, ...]
    orphan_seconds: float

    def options(self) -> tuple[str, ...]:
        """Of `jiffy worker`, but for the token, which others may not see."""
        servers = [word for server in self.servers for word in ("--server", server)]
        labels = [word for label in self.labels for word in ("--label", label)]
        return (*servers, *labels, "--orphan-seconds", f"{self.orphan_seconds:g}")


class Provider(Protocol):
    """Machines are known by ids that the fleet gives. Raises UnavailableError when it does not answer, ExhaustedError when
    there are no machines of a kind for now, InvalidError when it refuses what it is asked."""

    @property
    def look_seconds(self) -> float:
        """How often it may be asked which machines run."""
        ...

    @property
    def appears_seconds(self) -> float:
        """What it may take to know of a machine that it was asked for."""
        ...

    async def start(self, machine_id: str, kind: Kind, join: Join) -> None:
        """Have a machine made; it need not be up when this returns."""
        ...

    async def running(self) -> Collection[str]:
        """The fleet's machines that run or are on their way up."""
        ...

    async def end(self, machine_id: str) -> None:
        """Have it taken down. One that is gone is no error."""
        ...

    async def close(self) -> None: ...


def new_machine_id() -> str:
    """A name that all providers take."""
    return f"ma-{secrets.token_hex(6)}"
