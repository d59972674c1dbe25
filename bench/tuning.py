"""What the parameters of FUSE do: each beside the values that jiffy uses, in the same run.

A large file that arrives while it is read (layered mode); the same, from an object that is here, through the daemon
(plain mode), by one reader and by four; the first stats, and opens with a first read, of 2,000 files in plain mode.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report
from bench.hosts import forget_objects, scratch_directory
from bench.reading import read_file, storm
from bench.start import find_base, make_base
from bench.throughput import make_image, put_random
from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory, read_token
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mode import Mode
from jiffy.fs.mount import mount_overlay, private_mount_namespace, unmount
from jiffy.fs.prefetch import Request
from jiffy.fs.tuning import DEFAULT, Tuning
from jiffy.image.index import Index
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers

_SIZE: Final = 256 * 2**20
_FILES: Final = 2000
_READERS: Final = 4
_LIMIT: Final = Path("/proc/sys/fs/fuse/max_pages_limit")

_STREAMED: Final = (
    replace(DEFAULT, threads=1),
    replace(DEFAULT, threads=4),
    replace(DEFAULT, pages=32),
    replace(DEFAULT, pages=1024),
    replace(DEFAULT, read_ahead_kib=128),
    replace(DEFAULT, read_ahead_kib=8192),
    replace(DEFAULT, read_ahead_kib=32768),
    replace(DEFAULT, background=12, congestion=9),
    replace(DEFAULT, direct=True),
)
_STORMED: Final = (replace(DEFAULT, threads=1), replace(DEFAULT, threads=4), replace(DEFAULT, threads=32))


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    objects = LocalObjects(data.objects, data.incoming)
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        base, base_layer = asyncio.run(find_base(data))
        paths = [os.fsdecode(path) for path, _, _ in Index.from_file(objects.path(base)).files()]
        some = paths[:: max(1, len(paths) // _FILES)][:_FILES]
        size = _SIZE if samples > 1 else 2**24
        digest = put_random(scratch.root / "file", objects, size)
        large = make_image(objects, digest, size)
        bench = _Bench(scratch, server.http_url, data.token, size, samples)
        return Report(
            [*asyncio.run(bench.compare_streams(large)), *asyncio.run(bench.compare_storms(base_layer, some))]
        )


class _Bench:
    def __init__(self, scratch: DataDirectory, url: str, token: Path, size: int, samples: int) -> None:
        self._scratch = scratch
        self._url = url
        self._token = token
        self._mebibytes = size / 2**20
        self._samples = samples
        private_mount_namespace()

    async def compare_streams(self, large: tuple[Digest, Digest]) -> list[Figure]:
        names = ("arrives", "is here, plain", f"is here, plain, {_READERS} readers")
        found: dict[Tuning, list[list[float]]] = {}
        tunings = [DEFAULT, *filter(_is_possible, _STREAMED)]
        for sample in range(self._samples):
            for tuning in _rotate(tunings, sample):
                found.setdefault(tuning, []).append(await self._stream(tuning, large))
        return _compare(names, "MiB/s", found)

    async def compare_storms(self, layer: Digest, paths: Sequence[str]) -> list[Figure]:
        names = (f"{len(paths)} first stats, plain", f"{len(paths)} first opens and reads, plain")
        found: dict[Tuning, list[list[float]]] = {}
        await self._storm(DEFAULT, layer, paths)  # from here on the host has the files
        for sample in range(self._samples):
            for tuning in _rotate([DEFAULT, *_STORMED], sample):
                found.setdefault(tuning, []).append(await self._storm(tuning, layer, paths))
        return _compare(names, "ms", found)

    async def _stream(self, tuning: Tuning, large: tuple[Digest, Digest]) -> list[float]:
        layer, chunk_map = large
        forget_objects(self._scratch)
        seconds = []
        async with self._root(Mode.LAYERED, tuning, layer, chunk_map) as root:
            seconds += await read_file(root / "file", 1)
        async with self._root(Mode.PLAIN, tuning, layer, chunk_map) as root:
            seconds += await read_file(root / "file", 1)
        async with self._root(Mode.PLAIN, tuning, layer, chunk_map) as root:
            started = time.perf_counter()
            await asyncio.gather(*(read_file(root / "file", 1) for _ in range(_READERS)))
            seconds.append(time.perf_counter() - started)
        return [self._mebibytes / each for each in seconds]

    async def _storm(self, tuning: Tuning, layer: Digest, paths: Sequence[str]) -> list[float]:
        async with self._root(Mode.PLAIN, tuning, layer) as root:
            stats, opens = await storm(root, paths, 1)
        return [stats[0] * 1000, opens[0] * 1000]

    @asynccontextmanager
    async def _root(self, mode: Mode, tuning: Tuning, layer: Digest, chunk_map: str = "") -> AsyncIterator[Path]:
        data = self._scratch
        lazy, at, root, upper, work = [data.mounts / name for name in ("lazy", "layer", "root", "upper", "work")]
        for folder in (lazy, at, root, upper, work):
            folder.mkdir(exist_ok=True)
        mount = LazyMount(lazy, data, [self._url], self._token, mode, tuning)
        await mount.start()
        try:
            if chunk_map:
                mount.tell(Request.CHUNK_MAP, chunk_map)
            sources = open_sources([self._url], read_token(self._token))
            tiers = Tiers(LocalObjects(data.objects, data.incoming, durable=False), sources)
            await asyncio.to_thread(lambda: mount.mount_layer(layer, tiers.ensure(layer), at))
            mount_overlay(root, [at], mount.data_layers, upper, work)
            await asyncio.sleep(0.3)
            yield root
            unmount(root)
            mount.unmount_layer(at)
        finally:
            await mount.stop()


def _rotate(tunings: Sequence[Tuning], sample: int) -> Sequence[Tuning]:
    """None is always the first of a turn: that one finds another host."""
    start = sample * 3 % len(tunings)
    return (*tunings[start:], *tunings[:start])


def _is_possible(tuning: Tuning) -> bool:
    return tuning.pages <= int(_LIMIT.read_text()) if _LIMIT.exists() else tuning.pages <= DEFAULT.pages


def _compare(names: Sequence[str], unit: str, found: dict[Tuning, list[list[float]]]) -> list[Figure]:
    """Each tuning's samples beside those of the default."""
    columns = {tuning: list(zip(*samples, strict=True)) for tuning, samples in found.items()}
    return [
        Figure(f"{name}, {_describe(tuning)}", unit, columns[tuning][number], "as it is", columns[DEFAULT][number])
        for number, name in enumerate(names)
        for tuning in columns
        if tuning != DEFAULT
    ]


def _describe(tuning: Tuning) -> str:
    usual = asdict(DEFAULT)
    return ", ".join(f"{name} {value}" for name, value in asdict(tuning).items() if value != usual[name])
