"""How long it takes to stat, and to open and begin to read, 2,000 files of Debian with Python, warm.

Beside it: the same files of a plain copy on the host's own disk. Each figure is of the first round of a new process, and of
the best of those that follow.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.copies import unpack
from bench.figures import Figure, Report
from bench.hosts import PAUSE, open_starts, scratch_directory
from bench.reading import storm
from bench.start import find_base, make_base
from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory
from jiffy.image.index import Index
from jiffy.objects.local import LocalObjects
from jiffy.worker.host import Host, Origin

_FILES: Final = 2000
_ROUNDS: Final = 5


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        index, layer = asyncio.run(find_base(data))
        objects = LocalObjects(data.objects, data.incoming)
        tree = Index.from_file(objects.path(index))
        copy = scratch.root / "copy"
        unpack([tree], objects, copy)
        paths = [os.fsdecode(path) for path, _, _ in tree.files()]
        some = paths[:: max(1, len(paths) // _FILES)][:_FILES]
        origin = Origin((server.http_url,), data.token)
        return asyncio.run(_compare(scratch, origin, layer, copy, some, samples))


async def _compare(
    scratch: DataDirectory, origin: Origin, layer: str, copy: Path, paths: Sequence[str], samples: int
) -> Report:
    async with open_starts(scratch, origin) as starts:
        assert starts.host is not None
        await _storm_root(starts.host, layer, paths)  # from here on the host has the files
        ours, peer = [], []
        for _ in range(samples):
            ours.append(await _storm_root(starts.host, layer, paths))
            await asyncio.sleep(PAUSE)
            peer.append(await _storm(copy, paths))
    names = ("stat, new root", "stat, again", "open and read, new root", "open and read, again")
    return Report(
        [
            Figure(f"{len(paths)} x {name}", "ms", mine, "ext4 copy", its)
            for name, mine, its in zip(names, zip(*ours, strict=True), zip(*peer, strict=True), strict=True)
        ]
    )


async def _storm_root(host: Host, layer: str, paths: Sequence[str]) -> tuple[float, ...]:
    await host.roots.prepare([layer])
    root = await host.roots.mount("storm", [layer])
    try:
        await asyncio.sleep(PAUSE)
        return await _storm(root.path, paths)
    finally:
        await host.roots.remove(root)


async def _storm(root: Path, paths: Sequence[str]) -> tuple[float, ...]:
    """Milliseconds: first and best of stats, first and best of opens."""
    stats, opens = await storm(root, paths, _ROUNDS)
    return stats[0] * 1000, min(stats[1:]) * 1000, opens[0] * 1000, min(opens[1:]) * 1000
