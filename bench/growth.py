"""What grows, and how fast: a mount by the number of mounts that are there, a look-up by the names in its folder, an open by
the objects of the host. Beside each: the same at the smallest number, as nothing should grow.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from typing import Final

from bench.figures import Figure, Report
from bench.hosts import PAUSE, open_starts, scratch_directory
from bench.reading import storm
from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.worker.host import Host, Origin
from jiffy.worker.roots import Root

_MOUNTS: Final = (1, 10, 100, 500)
_NAMES: Final = (100, 1_000, 10_000, 100_000)
_OBJECTS: Final = (100, 1_000, 10_000, 50_000)
_LOOKED_AT: Final = 100


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    with scratch_directory(data) as scratch:
        origin = Origin((server.http_url,), data.token)
        return Report(asyncio.run(_measure(scratch, origin, samples)))


async def _measure(scratch: DataDirectory, origin: Origin, samples: int) -> list[Figure]:
    few = None if samples > 1 else 2
    async with open_starts(scratch, origin) as starts:
        assert starts.host is not None
        grow = _Growth(starts.host, LocalObjects(scratch.objects, scratch.incoming, durable=False), samples)
        return [
            *_figures("mount and unmount a root", "roots mounted", await grow.mounts(_MOUNTS[:few])),
            *_figures("stat of a name in a folder", "names in the folder", await grow.names(_NAMES[:few])),
            *_figures("open and read of an object", "objects on the host", await grow.objects(_OBJECTS[:few])),
        ]


class _Growth:
    """Microseconds of one operation, by the number of what there is."""

    def __init__(self, host: Host, objects: LocalObjects, samples: int) -> None:
        self._host = host
        self._objects = objects
        self._samples = samples

    async def mounts(self, counts: tuple[int, ...]) -> dict[int, list[float]]:
        layer = self._image([entry(b"/file", b"content")])
        found: dict[int, list[float]] = {}
        held: list[Root] = []
        for count in counts:
            while len(held) < count:
                await self._host.roots.prepare([layer])
                held.append(await self._host.roots.mount(f"held-{len(held)}", [layer]))
            for number in range(self._samples):
                await asyncio.sleep(0.01)
                started = time.perf_counter()
                await self._host.roots.prepare([layer])
                await self._host.roots.remove(await self._host.roots.mount(f"sample-{number}", [layer]))
                found.setdefault(count, []).append((time.perf_counter() - started) * 1e6)
        for root in held:
            await self._host.roots.remove(root)
        return found

    async def names(self, counts: tuple[int, ...]) -> dict[int, list[float]]:
        return await self._look(counts, lambda number: b"the same", everywhere=False)

    async def objects(self, counts: tuple[int, ...]) -> dict[int, list[float]]:
        return await self._look(counts, lambda number: b"object %d" % number, everywhere=True)

    async def _look(
        self, counts: tuple[int, ...], content: Callable[[int], bytes], *, everywhere: bool
    ) -> dict[int, list[float]]:
        """First stats in one folder, or first opens of files in folders of a hundred."""
        found: dict[int, list[float]] = {}
        for count in counts:
            paths = [f"/{number // 100 if everywhere else 0}/name-{number}" for number in range(count)]
            folders = sorted({path.rpartition("/")[0].encode() for path in paths})
            files = [entry(path.encode(), content(number)) for number, path in enumerate(paths)]
            for number in range(count if everywhere else 1):
                self._objects.put(content(number))
            layer = self._image([*(Entry(folder, Kind.DIRECTORY, 0o755) for folder in folders), *files])
            for number in range(self._samples):
                some = random.Random(number).sample(paths, min(_LOOKED_AT, count))
                found.setdefault(count, []).append(await self._storm(layer, some, opens=everywhere))
        return found

    async def _storm(self, layer: Digest, paths: list[str], *, opens: bool) -> float:
        await self._host.roots.prepare([layer])
        root = await self._host.roots.mount("storm", [layer])
        await asyncio.sleep(PAUSE)
        stats, reads = await storm(root.path, paths, 1)
        await self._host.roots.remove(root)
        return (reads if opens else stats)[0] * 1e6 / len(paths)

    def _image(self, entries: list[Entry]) -> Digest:
        index = Index.load(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), *entries]))
        with self._objects.writer() as writer:
            write_erofs(index, writer)
            return writer.publish()[0]


def entry(path: bytes, data: bytes) -> Entry:
    return Entry(path, Kind.FILE, 0o644, size=len(data), digest=hashlib.sha256(data).hexdigest())


def _figures(name: str, axis: str, found: dict[int, list[float]]) -> list[Figure]:
    least = min(found)
    return [
        Figure(
            f"{name}, {count:,} {axis}",
            "us",
            samples,
            f"with {least} {axis}",
            found[least],
            series=name,
            x=count,
            axis=axis,
        )
        for count, samples in found.items()
    ]
