"""The GPUs of a host, as its owner declares them: a type, and the devices of the Container Device Interface that are so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jiffy.errors import ExhaustedError, InvalidError
from jiffy.runtime.cdi import Edits, find_devices

VARIABLE: Final = "JIFFY_GPU"


@dataclass(frozen=True, slots=True)
class Inventory:
    """`devices` have names such as nvidia.com/gpu=0; all are of one type."""

    type: str = ""
    devices: tuple[str, ...] = ()


NO_GPUS: Final = Inventory()


def read_inventory(declared: Sequence[str]) -> Inventory:
    """From TYPE=DEVICE, each a GPU. InvalidError, NotFoundError for what is not there."""
    pairs = [text.partition("=")[::2] for text in declared]
    if any(not kind or "/" not in device or "=" not in device for kind, device in pairs):
        raise InvalidError(f"{' '.join(declared)} declares no GPU", hint="such as H100=nvidia.com/gpu=0")
    kinds = {kind.upper() for kind, _ in pairs}
    if len(kinds) > 1:
        raise InvalidError(
            f"GPUs of the types {', '.join(sorted(kinds))} on one host",
            hint="run a worker for each, with labels of its own",
        )
    devices = tuple([device for _, device in pairs])
    if len(set(devices)) != len(devices):
        raise InvalidError("a GPU is declared twice")
    find_devices(devices)
    return Inventory(next(iter(kinds), ""), devices)


class Gpus:
    """Which of them are free."""

    def __init__(self, inventory: Inventory) -> None:
        self._free = list(inventory.devices)
        self._all = len(inventory.devices)
        self._was_given_back = asyncio.Event()

    async def take(self, count: int) -> list[str]:
        """So many, once they are free: a container that ended may be cleaned up still."""
        if count > self._all:
            raise ExhaustedError(f"{count} GPUs are wanted, this host has {self._all}")
        while count > len(self._free):
            self._was_given_back.clear()
            await self._was_given_back.wait()
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def give_back(self, devices: Sequence[str]) -> None:
        self._free += devices
        self._was_given_back.set()


def edits_for(devices: Sequence[str]) -> list[Edits]:
    """What these devices add to a container."""
    return [edits for parts in find_devices(devices).values() for edits in parts]
