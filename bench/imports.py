"""How long an image of a registry takes to be imported, and a second one that shares most of its bytes, beside `podman pull`
of the same; and how many objects the second adds."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.coldstart import make_image
from bench.figures import Figure, Report
from bench.hosts import scratch_directory
from bench.podman import Storage, serve_registry
from jiffy.cli.image_export import Pushed
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.image.bytecode import run_pip
from jiffy.image.export import Exportable, LayerFile, export_image, write_layer
from jiffy.image.folder import import_folder
from jiffy.image.importing import Imported
from jiffy.image.index import Index, encode_index
from jiffy.image.pull import Pulls
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Registry
from jiffy.objects.local import LocalObjects

_FIRST: Final = ("scikit-learn",)
_MORE: Final = ("pandas",)
_GIB: Final = 2**30
_REACH: Final = 1.0
_PAUSE: Final = 1.0


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, a server that has made its base on the data directory, podman, docker-registry and skopeo."""
    with scratch_directory(data) as scratch, serve_registry(scratch.root / "registry") as port:
        return asyncio.run(_measure(data, scratch, port, samples))


async def _measure(data: DataDirectory, scratch: DataDirectory, port: int, samples: int) -> Report:
    objects = LocalObjects(data.objects, data.incoming)
    first = (await make_image(data, objects, scratch.root / "first", _FIRST)).indexes
    second = (*first, await _more(objects, scratch.root / "second"))
    names = [f"127.0.0.1:{port}/bench/{name}:1" for name in ("first", "second")]
    for name, layers in zip(names, (first, second), strict=True):
        await _push(objects, layers, name, scratch.root)
    sizes = [sum(Index.from_file(objects.path(layer)).total_size() for layer in layers) for layers in (first, second)]
    ours: list[list[float]] = [[], []]
    peers: list[list[float]] = [[], []]
    stored: list[float] = []
    for _ in range(samples):
        fresh = DataDirectory(scratch.root / "fresh")
        fresh.create()
        before = 0
        pulls = Pulls(fresh)
        for name, seconds in zip(names, ours, strict=True):
            await asyncio.sleep(_PAUSE)
            seconds.append(await _import(pulls, name))
            before, added = _count(fresh), _count(fresh) - before
        await pulls.close()
        stored.append(float(added))
        storage = Storage(scratch.root)
        for name, seconds in zip(names, peers, strict=True):
            seconds.append(await asyncio.to_thread(storage.pull, name))
        fresh.root.rename(scratch.root / f"used-{len(stored)}")
    share = sizes[0] / sizes[1]
    added = len(dict(Index.from_file(objects.path(second[-1])).digests()))
    return Report(
        [
            _figure("first image", ours[0], peers[0], sizes[0]),
            _figure(f"second image, {share:.0%} shared", ours[1], peers[1], sizes[1]),
            Figure("objects added by the second", "", stored, "files that are new", [float(added)] * samples),
        ]
    )


def _figure(name: str, ours: Sequence[float], peers: Sequence[float], size: int) -> Figure:
    unit = size / _GIB
    return Figure(
        name,
        "s/GiB",
        [seconds / unit for seconds in ours],
        "podman pull",
        [seconds / unit for seconds in peers],
        _REACH,
    )


async def _import(pulls: Pulls, name: str) -> float:
    started = asyncio.get_running_loop().time()
    imported = [news async for news in pulls.pull(name, "linux/amd64", None, {}) if isinstance(news, Imported)]
    if not imported:
        raise JiffyError(f"{name} was not imported")
    return asyncio.get_running_loop().time() - started


def _count(data: DataDirectory) -> int:
    return sum(1 for _ in LocalObjects(data.objects, data.incoming))


async def _more(objects: LocalObjects, folder: Path) -> str:
    target = folder / "opt" / "more"
    await run_pip("install", "--target", str(target), "--no-compile", "--only-binary", ":all:", *_MORE)
    with objects.batch() as batch:
        entries = import_folder(folder, batch)
    return objects.put(encode_index(entries))


async def _push(objects: LocalObjects, layers: tuple[str, ...], name: str, scratch: Path) -> None:
    def load(digest: str) -> Index:
        return Index.from_file(objects.path(digest))

    def write(index: Index, path: Path) -> LayerFile:
        return write_layer(index, objects.path, path, "gzip")

    reference = parse_reference(name)
    async with Registry(reference, can_push=True) as registry:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            image = Exportable(layers, {})
            await export_image(image, load, write, Path(folder), Pushed(registry, reference.tag))
