"""Which worker runs a container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker has in all, and what its containers have reserved."""

    worker_id: str
    cpu_millis: int
    memory_bytes: int
    cpu_millis_reserved: int = 0
    memory_bytes_reserved: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    cpu_millis: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no worker takes it. `forever`: not even an empty worker could."""

    reason: str
    forever: bool


def place(need: Need, rooms: Sequence[Room]) -> str | Refusal:
    """The id of the fullest worker that still fits, or the reason why there is none."""
    if not rooms:
        return Refusal("no worker is connected", forever=False)
    fitting = [room for room in rooms if _fits(need, room)]
    if fitting:
        return max(fitting, key=lambda room: room.memory_bytes_reserved).worker_id
    if any(need.cpu_millis <= room.cpu_millis and need.memory_bytes <= room.memory_bytes for room in rooms):
        return Refusal(f"every worker is full: it takes {_describe(need)}", forever=False)
    largest = max(rooms, key=lambda room: (room.memory_bytes, room.cpu_millis))
    return Refusal(
        f"no worker has {_describe(need)}: the largest has {_describe(Need(largest.cpu_millis, largest.memory_bytes))}",
        forever=True,
    )


def _fits(need: Need, room: Room) -> bool:
    return (
        room.cpu_millis_reserved + need.cpu_millis <= room.cpu_millis
        and room.memory_bytes_reserved + need.memory_bytes <= room.memory_bytes
    )


def _describe(need: Need) -> str:
    return f"{need.cpu_millis / 1000:g} CPU and {need.memory_bytes / 2**20:.0f} MiB of memory"
