"""How long it takes until many containers of one image run, launched at once on a warm host; beside the runtime alone on a
plain copy of the same root, as many times. A container runs when the first byte that its process prints is there."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.copies import make_bundle, unpack
from bench.figures import Figure, Report, Split
from bench.hosts import PATH, scratch_directory
from bench.start import find_base, make_base
from jiffy.cli.running import find_server
from jiffy.core.actions import LaunchContainer, StopContainer
from jiffy.core.events import ContainerExited, ContainerStarted, Event, LogWritten
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.image.index import Index
from jiffy.objects.local import LocalObjects
from jiffy.worker.container import Container
from jiffy.worker.host import Host, Origin, open_host

CONTAINERS: Final = 100
_PROGRAM: Final = ("sh", "-c", "echo ready; exec sleep 600")
_SECONDS: Final = 120.0
_PAUSE: Final = 6.0
"""Before each launch: what the last one left was deleted, and for five seconds ext4 searches past inodes that were freed."""

_REACH: Final = 1.5


class _Launches:
    """What containers that were launched at once tell."""

    def __init__(self) -> None:
        self.host: Host | None = None
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._phases: list[dict[str, float]] = []

    def hear(self, event: Event) -> None:
        waiting = self._waiting.get(getattr(event, "task_id", ""))
        match event:
            case LogWritten() if waiting is not None and not waiting.done():
                waiting.set_result(None)
            case ContainerStarted():
                self._phases.append(event.phases)
            case ContainerExited() if waiting is not None and not waiting.done():
                waiting.set_exception(JiffyError(f"{event.task_id} ended", why=f"{event.reason} {event.detail}"))

    async def measure(self, layer: str, count: int) -> float:
        """Milliseconds until all run."""
        assert self.host is not None
        await asyncio.sleep(_PAUSE)
        stamp, loop = time.monotonic_ns(), asyncio.get_running_loop()
        orders = [
            LaunchContainer(
                task_id=f"bench-{stamp}-{number}", layers=(layer,), argv=_PROGRAM, environment={"PATH": PATH}
            )
            for number in range(count)
        ]
        self._waiting = {order.task_id: loop.create_future() for order in orders}
        containers = [Container(order, self.host) for order in orders]
        started = time.perf_counter()
        runs = [asyncio.ensure_future(container.run()) for container in containers]
        try:
            await asyncio.wait_for(asyncio.gather(*self._waiting.values()), _SECONDS)
            return (time.perf_counter() - started) * 1000
        finally:
            for container in containers:
                container.stop(StopContainer(container.task_id, "measured", 0.0))
            await asyncio.gather(*runs)

    def phases(self) -> dict[str, list[float]]:
        """Milliseconds that each container's phases took."""
        names = self._phases[0] if self._phases else {}
        return {name: [phases[name] * 1000 for phases in self._phases] for name in names}


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    count = CONTAINERS if samples > 1 else 5
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        index, layer = asyncio.run(find_base(data))
        objects = LocalObjects(data.objects, data.incoming)
        copy = scratch.root / "copy"
        unpack([Index.from_file(objects.path(index))], objects, copy)
        bundles = [make_bundle(copy, scratch.root / f"peer{number}", _PROGRAM) for number in range(count)]
        origin = Origin((server.http_url,), data.token)
        return asyncio.run(_compare(scratch, origin, layer, bundles, samples))


async def _compare(scratch: DataDirectory, origin: Origin, layer: str, bundles: Sequence[Path], samples: int) -> Report:
    launches = _Launches()
    async with open_host(scratch, origin, launches.hear, lambda: False) as host:
        launches.host = host
        await launches.measure(layer, 1)  # from here on the host has the files
        ours, peer = [], []
        for _ in range(samples):
            ours.append(await launches.measure(layer, len(bundles)))
            peer.append(await _run_copies(bundles))
    name = f"{len(bundles)} containers, launch to all running"
    figures = [Figure(name, "ms", ours, f"crun run x {len(bundles)}", peer, _REACH)]
    return Report(figures, [Split("one of them", "ms", launches.phases())])


async def _run_copies(bundles: Sequence[Path]) -> float:
    await asyncio.sleep(_PAUSE)
    started = time.perf_counter()
    processes = await asyncio.gather(*map(_run_copy, bundles))
    milliseconds = (time.perf_counter() - started) * 1000
    for bundle, process in zip(bundles, processes, strict=True):
        await _crun(bundle, "delete", "--force", bundle.name)
        await process.wait()
        shutil.rmtree(bundle / "state", ignore_errors=True)
    return milliseconds


async def _run_copy(bundle: Path) -> asyncio.subprocess.Process:
    """Until its first byte."""
    process = await _crun_process(bundle, "run", "--bundle", str(bundle), bundle.name)
    assert process.stdout is not None
    if not await asyncio.wait_for(process.stdout.read(1), _SECONDS):
        raise JiffyError("crun did not start its container")
    return process


async def _crun(bundle: Path, *words: str) -> None:
    await (await _crun_process(bundle, *words)).wait()


async def _crun_process(bundle: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("crun", "--root", str(bundle / "state"), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
