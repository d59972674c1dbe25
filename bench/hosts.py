"""A host of its own for measurements: an empty data directory whose origin is the running server."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from jiffy.core.actions import LaunchContainer
from jiffy.core.events import ContainerExited, ContainerStarted, Event, LogWritten, StartRecorded
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.objects.profile import Profile
from jiffy.worker.container import Container
from jiffy.worker.host import Host, Origin, open_host

PATH: Final = "/usr/local/bin:/usr/bin:/bin"
PAUSE: Final = 0.3
"""Seconds before each start: a host that is neither busy nor just opened, with interfaces prepared ahead."""


@dataclass(frozen=True, slots=True)
class Start:
    """Milliseconds until the first byte that a container's process prints, and of each phase before it."""

    total: float
    phases: dict[str, float] = field(default_factory=dict)


@contextmanager
def scratch_directory(data: DataDirectory) -> Iterator[DataDirectory]:
    """An empty data directory on the same disk. What a killed run left is removed by the next."""
    scratch = DataDirectory(data.root / "bench")
    shutil.rmtree(scratch.root, ignore_errors=True)
    scratch.create()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch.root, ignore_errors=True)


def forget_objects(scratch: DataDirectory) -> None:
    """Make the host cold. What it had is put aside, not deleted: for five seconds ext4 searches past each inode that was
    freed, and what is created meanwhile takes several times as long."""
    aside = scratch.root / f"forgotten-{time.monotonic_ns()}"
    aside.mkdir()
    for folder in (scratch.objects, scratch.partial):
        folder.rename(aside / folder.name)
    scratch.create()


class Starts:
    """Starts containers on a host and hears what they tell. `recorded` is what the last recorded start read, `failed` counts
    containers that ended with an error."""

    def __init__(self) -> None:
        self.recorded: Profile = {}
        self.host: Host | None = None
        self.failed = 0
        self._serial = itertools.count()
        self._first_byte_at = 0.0
        self._phases: dict[str, float] = {}
        self._exit: ContainerExited | None = None

    def hear(self, event: Event) -> None:
        match event:
            case LogWritten() if not self._first_byte_at:
                self._first_byte_at = time.perf_counter()
            case ContainerStarted():
                self._phases = event.phases
            case StartRecorded():
                self.recorded = event.objects
            case ContainerExited():
                self._exit = event
                self.failed += event.exit_code != 0

    async def measure(
        self,
        argv: Sequence[str],
        layers: Sequence[str],
        profile: str = "",
        *,
        catalogues: Sequence[str] = (),
        chunk_maps: Sequence[str] = (),
        record: bool = False,
    ) -> Start:
        assert self.host is not None
        await asyncio.sleep(PAUSE)
        self._first_byte_at = 0.0
        order = LaunchContainer(
            task_id=f"bench-{next(self._serial)}",
            layers=tuple(layers),
            argv=tuple(argv),
            environment={"PATH": PATH},
            profile=profile,
            catalogues=tuple(catalogues),
            chunk_maps=tuple(chunk_maps),
            record=record,
        )
        started = time.perf_counter()
        await Container(order, self.host).run()
        if not self._first_byte_at:
            raise JiffyError("a container did not start", why=str(self._exit))
        total = self._first_byte_at - started
        phases = {**self._phases, "first byte": max(0.0, total - sum(self._phases.values()))}
        return Start(total * 1000, {phase: seconds * 1000 for phase, seconds in phases.items()})


async def record_profile(
    scratch: DataDirectory, origin: Origin, argv: Sequence[str], layers: Sequence[str], chunk_maps: Sequence[str] = ()
) -> Profile:
    """What a start reads, on a host of its own."""
    async with open_starts(scratch, origin) as starts:
        await starts.measure(argv, layers, chunk_maps=chunk_maps, record=True)
        return starts.recorded


@asynccontextmanager
async def open_starts(scratch: DataDirectory, origin: Origin) -> AsyncIterator[Starts]:
    """Once a loop: the host's threads must all be in its namespace."""
    starts = Starts()
    async with open_host(scratch, origin, starts.hear, lambda: False) as host:
        starts.host = host
        yield starts
