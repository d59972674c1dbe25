"""What an index costs as a tree grows: bytes an entry, time to write it and its EROFS image, to load and to mount them.

Beside the bytes: composefs' 156 an entry, as published. Beside the times: those of the smallest tree, times the growth.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

from bench.figures import Figure, Report
from bench.hosts import scratch_directory
from jiffy.datadir import DataDirectory
from jiffy.fs.mount import mount_erofs, private_mount_namespace, unmount
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.local import LocalObjects

T = TypeVar("T")
_SIZES: Final = (1_000, 10_000, 30_000, 100_000, 300_000)
_SMOKE_SIZES: Final = (1_000, 3_000)
_FILES_IN_A_FOLDER: Final = 20
_COMPOSEFS_BYTES: Final = 156.0


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root."""
    with scratch_directory(data) as scratch:
        return asyncio.run(_measure(scratch, samples))


async def _measure(scratch: DataDirectory, samples: int) -> Report:
    private_mount_namespace()
    figures: list[Figure] = []
    first: dict[str, float] = {}
    sizes = _SIZES if samples > 1 else _SMOKE_SIZES
    for size in sizes:
        found = _measure_tree(scratch, make_tree(size), samples)
        for name, values in found.items():
            if name.startswith("bytes"):
                figures.append(
                    Figure(f"{size} entries, {name}", "B", values, "composefs", [_COMPOSEFS_BYTES] * samples, 1.0)
                )
            else:
                base = first.setdefault(name, sorted(values)[len(values) // 2])
                line = [base * size / sizes[0]] * samples
                figure = f"{size} entries, {name}"
                figures.append(Figure(figure, "ms", values, "linear growth", line, series=name, x=size, axis="entries"))
    return Report(figures)


def make_tree(size: int) -> list[Entry]:
    """As in site-packages: folders of 20 files, with names and sizes of every kind."""
    entries = [Entry(b"/", Kind.DIRECTORY, 0o755)]
    folder = b""
    for number in range(size - 1):
        if number % (_FILES_IN_A_FOLDER + 1) == 0:
            folder = b"/package_%d" % number
            entries.append(Entry(folder, Kind.DIRECTORY, 0o755))
        else:
            digest = hashlib.sha256(b"%d" % number).hexdigest()
            path = folder + b"/module_%d.cpython-311.pyc" % number
            entries.append(Entry(path, Kind.FILE, 0o644, size=1 + number % 50_000, digest=digest))
    return entries


def _measure_tree(scratch: DataDirectory, entries: list[Entry], samples: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _ in range(samples):
        for name, value in _measure_once(scratch, entries).items():
            found.setdefault(name, []).append(value)
    return found


def _measure_once(scratch: DataDirectory, entries: list[Entry]) -> dict[str, float]:
    objects = LocalObjects(scratch.objects, scratch.incoming, durable=False)
    path, at = scratch.root / "index", scratch.mounts / "index"
    at.mkdir(exist_ok=True)
    data, encode = _time(lambda: encode_index(entries))
    path.write_bytes(data)
    index, load = _time(lambda: Index.from_file(path))
    _, look_up = _time(lambda: index.lookup(entries[-1].path))
    layer, write = _time(lambda: _write(objects, index))
    image = objects.path(layer)
    _, mount = _time(lambda: mount_erofs(image, at))
    unmount(at)
    return {
        "bytes of the index": len(data) / len(entries),
        "bytes of its image": image.stat().st_size / len(entries),
        "encode": encode,
        "load": load,
        "look one up": look_up,
        "write its image": write,
        "mount": mount,
    }


def _write(objects: LocalObjects, index: Index) -> str:
    with objects.writer() as writer:
        write_erofs(index, writer)
        return writer.publish()[0]


def _time(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the milliseconds that it took."""
    started = time.perf_counter()
    value = work()
    return value, (time.perf_counter() - started) * 1000
