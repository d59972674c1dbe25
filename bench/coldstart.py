"""How long `import sklearn` takes on a host that has nothing, by the round trip to the origin, with and without a profile.

Beside it: the same on a plain copy on the host's own disk, which had to be there first. A start ends when the import is
done. The image is the base with scikit-learn and what it needs, from wheels.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

from bench.copies import make_bundle, start_copy, unpack
from bench.figures import Figure, Report
from bench.hosts import Start, forget_objects, open_starts, scratch_directory
from bench.podman import pull_and_run, push_image, serve_registry
from bench.proxy import Far, far_away
from bench.start import find_base, make_base
from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory
from jiffy.image.bytecode import Compiler, run_pip
from jiffy.image.erofs import write_erofs
from jiffy.image.folder import import_folder
from jiffy.image.graft import graft
from jiffy.image.index import Index, encode_index
from jiffy.objects.catalogue import encode_catalogue, make_catalogue
from jiffy.objects.chunks import LARGE, encode_chunk_map, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import Profile, encode_profile
from jiffy.worker.host import Origin

_PROGRAM: Final = ("python3", "-c", "import sklearn, sklearn.linear_model; print('ready')")
_PACKAGES: Final = ("scikit-learn",)
_ROUND_TRIPS: Final = (0.0, 0.0002, 0.002, 0.02, 0.2)
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Image:
    """`indexes`, and what is made of each: bottom first."""

    indexes: tuple[str, ...]
    layers: tuple[str, ...]
    catalogues: tuple[str, ...]
    chunk_maps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cold:
    """A cold start, and what it fetched."""

    start: Start
    requests: int
    objects: int
    size: int


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    objects = LocalObjects(data.objects, data.incoming)
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        image = asyncio.run(make_image(data, objects, scratch.root / "packages", _PACKAGES))
        copy = scratch.root / "copy"
        indexes = [Index.from_file(objects.path(index)) for index in image.indexes]
        unpack(indexes, objects, copy)
        bundle = make_bundle(copy, scratch.root / "peer", _PROGRAM)
        profile = _record(scratch, Origin((server.http_url,), data.token), objects, image)
        total = sum(size for index in indexes for _, size in index.digests())
        port = urlparse(server.http_url).port
        assert port is not None
        figures: list[Figure] = []
        for round_trip in _ROUND_TRIPS if samples > 1 else (0.002,):
            with far_away(port, round_trip) as far:
                figures += _compare(scratch, far, data.token, image, profile, bundle, samples, total, round_trip)
        if samples > 1:
            figures += _compare_podman(scratch.root, indexes, objects, figures, samples)
    return Report(figures)


def _compare(
    scratch: DataDirectory,
    far: Far,
    token: Path,
    image: Image,
    profile: str,
    bundle: Path,
    samples: int,
    total: int,
    round_trip: float,
) -> list[Figure]:
    name = f"round trip {round_trip * 1000:g} ms"
    plain, profiled, peer = [], [], []
    origin = Origin((f"http://127.0.0.1:{far.port}",), token)
    for _ in range(samples):
        plain.append(_start_cold(scratch, origin, far, image, ""))
        profiled.append(_start_cold(scratch, origin, far, image, profile))
        peer.append(asyncio.run(start_copy(bundle)).total)
    beside = "crun, plain copy"
    return [
        Figure(f"{name}, no profile", "ms", [cold.start.total for cold in plain], beside, peer),
        Figure(f"{name}, profile", "ms", [cold.start.total for cold in profiled], beside, peer),
        Figure(f"{name}, fetched", "MB", [c.size / 1e6 for c in plain], "image", [total / 1e6] * samples),
        Figure(f"{name}, fetched, profile", "MB", [c.size / 1e6 for c in profiled], "image", [total / 1e6] * samples),
        *_compare_requests(name, plain, profiled),
    ]


def _compare_podman(
    folder: Path, indexes: Sequence[Index], objects: LocalObjects, figures: Sequence[Figure], samples: int
) -> list[Figure]:
    """The starts that were measured before, beside a pull and a run, with the same round trips to the registry."""
    trees = [folder / f"layer-{number}" for number in range(len(indexes))]
    for tree, index in zip(trees, indexes, strict=True):
        tree.mkdir()
        unpack([index], objects, tree)
    compared = []
    with serve_registry(folder / "registry") as port:
        push_image(trees, folder / "pushed", port)
        for round_trip in _ROUND_TRIPS:
            name = f"round trip {round_trip * 1000:g} ms"
            with far_away(port, round_trip) as far:
                pulled = [pull_and_run(folder, far.port, _PROGRAM) for _ in range(samples)]
            times = [each.pull + each.run for each in pulled]
            starts = (figure for figure in figures if figure.name in (f"{name}, no profile", f"{name}, profile"))
            compared += [Figure(each.name, "ms", each.samples, "podman pull and run", times) for each in starts]
    return compared


def _compare_requests(name: str, plain: list[_Cold], profiled: list[_Cold]) -> list[Figure]:
    if not all(cold.requests for cold in plain):
        return []
    return [
        Figure(
            f"{name}, requests{kind}",
            "",
            [float(c.requests) for c in colds],
            "files",
            [float(c.objects) for c in colds],
        )
        for kind, colds in (("", plain), (", profile", profiled))
    ]


def _start_cold(scratch: DataDirectory, origin: Origin, far: Far, image: Image, profile: str) -> _Cold:
    forget_objects(scratch)

    async def start() -> Start:
        async with open_starts(scratch, origin) as starts:
            catalogues = () if profile else image.catalogues
            maps = image.chunk_maps
            return await starts.measure(_PROGRAM, image.layers, profile, catalogues=catalogues, chunk_maps=maps)

    far.requests()
    measured = asyncio.run(start())
    files = [path for folder in (scratch.objects, scratch.partial) for path in folder.rglob("*") if path.is_file()]
    return _Cold(measured, far.requests(), len(files), sum(path.stat().st_blocks * 512 for path in files))


def _record(scratch: DataDirectory, origin: Origin, objects: LocalObjects, image: Image) -> str:
    """Have the origin hold the program's profile; gives its digest."""

    async def record() -> Profile:
        async with open_starts(scratch, origin) as starts:
            await starts.measure(_PROGRAM, image.layers, chunk_maps=image.chunk_maps, record=True)
            recorded: Profile = starts.recorded
            return recorded

    return objects.put(encode_profile(asyncio.run(record())))


async def make_image(data: DataDirectory, objects: LocalObjects, folder: Path, packages: Sequence[str]) -> Image:
    """The base with packages on top."""
    base, base_layer = await find_base(data)
    tree, scratch = folder / "tree", folder / "scratch"
    scratch.mkdir(parents=True)
    target = tree / "usr/local/lib" / f"python{_PYTHON}" / "dist-packages"
    await run_pip("install", "--target", str(target), "--no-compile", "--only-binary", ":all:", *packages)
    await Compiler(_PYTHON, base, objects).compile(tree, scratch)
    with objects.batch() as batch:
        entries = import_folder(tree, batch)
    index = encode_index(graft([Index.from_file(objects.path(base))], Index.load(encode_index(entries))))
    with objects.writer() as writer:
        write_erofs(Index.load(index), writer)
        layer, _ = writer.publish()
    indexes = (base, objects.put(index))
    catalogues = tuple(_write_catalogue(objects, each) for each in indexes)
    return Image(indexes, (base_layer, layer), catalogues, tuple(_map_chunks(objects, each) for each in indexes))


def _map_chunks(objects: LocalObjects, index: str) -> str:
    large = [digest for digest, size in Index.from_file(objects.path(index)).digests() if size >= LARGE]
    lists = [(digest, objects.put(list_chunks(objects.path(digest)).encode())) for digest in large]
    return objects.put(encode_chunk_map(lists))


def _write_catalogue(objects: LocalObjects, index: str) -> str:
    return objects.put(encode_catalogue(make_catalogue(Index.from_file(objects.path(index)).files())))
