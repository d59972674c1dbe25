"""How long `import sklearn` takes on a host that has nothing, by the round trip to the origin: with nothing known of any
start, with what a start of another image read (`import pandas`), with a profile, and with a boot pack. And on a host that
has it all.

Beside it: podman, which pulls and runs the same image; and the same on a plain copy on the host's own disk, which had to be
there first. A start ends when the import is done. The image is the base with scikit-learn and what it needs, from wheels.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlparse

from bench.copies import make_bundle, start_copy, unpack
from bench.figures import Figure, Report
from bench.hosts import Start, forget_objects, open_starts, record_profile, scratch_directory
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
from jiffy.image.tree import Tree
from jiffy.objects.base import Digest
from jiffy.objects.catalogue import encode_catalogue, make_catalogue
from jiffy.objects.chunks import LARGE, encode_chunk_map, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.objects.pack import encode_packed_profile, write_pack
from jiffy.objects.profile import Profile, encode_profile
from jiffy.worker.host import Origin

_PROGRAM: Final = ("python3", "-c", "import sklearn, sklearn.linear_model; print('ready')")
_PACKAGES: Final = ("scikit-learn",)
_ROUND_TRIPS: Final = (0.0, 0.0002, 0.002, 0.02, 0.2)
_GUESSED: Final = ("nothing known", "another image's profile")
_REACH: Final = {**dict.fromkeys(_GUESSED, 1 / 3), "profile": 0.2, "boot pack": 0.2}
_ANOTHER: Final = ("python3", "-c", "import pandas; print('ready')")
_SMALL: Final = ("python3", "-c", "import requests; print('ready')")
_WARM_REACH: Final = 1.1
_WARM_STARTS: Final = 10
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Image:
    """`indexes`, and what is made of each: bottom first."""

    indexes: tuple[str, ...]
    layers: tuple[str, ...]
    catalogues: tuple[str, ...]
    chunk_maps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Start:
    """A cold start, and what it fetched."""

    milliseconds: float
    requests: int
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A program that prints when it is ready, what makes its image in a folder, and one that is started before."""

    program: tuple[str, ...]
    make: Callable[[DataDirectory, LocalObjects, Path], Coroutine[Any, Any, Image]]
    another: Subject | None = None


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory. One sample is of something small: it only shows that all
    works."""
    if samples == 1:
        small = Subject(_SMALL, lambda data, objects, folder: make_image(data, objects, folder, ["requests"]))
        return measure(small, data, samples)
    another = Subject(_ANOTHER, lambda data, objects, folder: make_image(data, objects, folder, ["pandas"]))
    subject = Subject(_PROGRAM, lambda data, objects, folder: make_image(data, objects, folder, _PACKAGES), another)
    return measure(subject, data, samples)


def measure(subject: Subject, data: DataDirectory, samples: int) -> Report:
    server = find_server(data)
    objects = LocalObjects(data.objects, data.incoming)
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        image = asyncio.run(subject.make(data, objects, scratch.root / "packages"))
        copy = scratch.root / "copy"
        indexes = [Index.from_file(objects.path(index)) for index in image.indexes]
        unpack(indexes, objects, copy)
        bundle = make_bundle(copy, scratch.root / "peer", subject.program)
        measured = _Cold(scratch, data.token, subject.program, image, bundle, samples)
        origin = Origin((server.http_url,), data.token)
        measured.learn(_record(scratch, origin, subject.program, image), objects)
        if subject.another is not None:
            others = asyncio.run(subject.another.make(data, objects, scratch.root / "another"))
            measured.learn_of_another(_record(scratch, origin, subject.another.program, others), objects)
        port = urlparse(server.http_url).port
        assert port is not None
        round_trips = _ROUND_TRIPS if samples > 1 else (0.002,)
        for round_trip in round_trips:
            with far_away(port, round_trip) as far:
                asyncio.run(measured.warm_up(far))
                for _ in range(samples):
                    measured.take_turn(far, round_trip)
        pulls = _pull(scratch.root, indexes, objects, subject, samples) if samples > 1 else {}
        total = sum(size for index in indexes for _, size in index.digests())
        return Report([*measured.times(pulls), *measured.costs(total)])


def _pull(
    folder: Path, indexes: Sequence[Index], objects: LocalObjects, subject: Subject, samples: int
) -> dict[float, list[float]]:
    """Milliseconds of a pull and a run with podman, by the same round trips to the registry."""
    trees = [folder / f"layer-{number}" for number in range(len(indexes))]
    for tree, index in zip(trees, indexes, strict=True):
        tree.mkdir()
        unpack([index], objects, tree)
    found = {}
    with serve_registry(folder / "registry") as port:
        push_image(trees, folder / "pushed", port)
        for round_trip in _ROUND_TRIPS:
            with far_away(port, round_trip) as far:
                pulled = [pull_and_run(folder, far.port, subject.program) for _ in range(samples)]
            found[round_trip] = [each.pull + each.run for each in pulled]
    return found


def _record(scratch: DataDirectory, origin: Origin, program: Sequence[str], image: Image) -> Profile:
    return asyncio.run(record_profile(scratch, origin, program, image.layers, image.chunk_maps))


class _Cold:
    """Starts in turns, and what they cost: by the round trip in seconds, and by what was known of the start."""

    def __init__(
        self, scratch: DataDirectory, token: Path, program: Sequence[str], image: Image, bundle: Path, samples: int
    ) -> None:
        self._scratch = scratch
        self._token = token
        self._program = program
        self._image = image
        self._bundle = bundle
        self._samples = samples
        self._profiles = {"nothing known": ""}
        self._starts: dict[tuple[float, str], list[_Start]] = {}
        self._warm: list[float] = []
        self._peer: list[float] = []

    def learn(self, profile: Profile, objects: LocalObjects) -> None:
        """Have the origin hold the program's profile, and the same with a boot pack."""
        encoded = encode_profile(profile)
        packed = encode_packed_profile(write_pack(profile, objects), encoded)
        self._profiles |= {"profile": objects.put(encoded), "boot pack": objects.put(packed)}

    def learn_of_another(self, profile: Profile, objects: LocalObjects) -> None:
        """Of what the start of another image read this one has a part."""
        indexes = [Index.from_file(objects.path(index)) for index in self._image.indexes]
        held = {digest for index in indexes for digest, _ in index.digests()}
        fitted = {digest: ranges for digest, ranges in profile.items() if digest in held}
        self._profiles["another image's profile"] = objects.put(encode_profile(fitted))

    async def warm_up(self, far: Far) -> None:
        """A host that has it all: each start beside one of the plain copy."""
        if self._warm:
            return
        forget_objects(self._scratch)
        async with open_starts(self._scratch, self._origin(far)) as starts:
            for number in range((_WARM_STARTS if self._samples > 1 else 1) + 1):
                start = await starts.measure(self._program, self._image.layers, chunk_maps=self._image.chunk_maps)
                peer = await start_copy(self._bundle)
                if number:
                    self._warm.append(start.total)
                    self._peer.append(peer.total)

    def take_turn(self, far: Far, round_trip: float) -> None:
        for kind, profile in self._profiles.items():
            self._starts.setdefault((round_trip, kind), []).append(self._start(far, profile, kind in _GUESSED))

    def _start(self, far: Far, profile: str, is_guess: bool) -> _Start:
        forget_objects(self._scratch)
        image = self._image

        async def start() -> Start:
            async with open_starts(self._scratch, self._origin(far)) as starts:
                catalogues = image.catalogues if is_guess else ()
                maps = image.chunk_maps
                return await starts.measure(
                    self._program, image.layers, profile, catalogues=catalogues, chunk_maps=maps
                )

        far.requests()
        measured = asyncio.run(start())
        folders = (self._scratch.objects, self._scratch.partial)
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return _Start(measured.total, far.requests(), len(files), sum(path.stat().st_blocks * 512 for path in files))

    def _origin(self, far: Far) -> Origin:
        return Origin((f"http://127.0.0.1:{far.port}",), self._token)

    def times(self, pulls: Mapping[float, list[float]]) -> Iterator[Figure]:
        """Beside podman, where that was measured, else beside the plain copy."""
        yield Figure("warm", "ms", self._warm, "crun, plain copy", self._peer, _WARM_REACH)
        for (round_trip, kind), starts in self._starts.items():
            peer = "podman pull and run" if pulls else "crun, plain copy"
            beside = pulls.get(round_trip, self._peer)
            name = f"round trip {round_trip * 1000:g} ms, {kind}"
            samples = [start.milliseconds for start in starts]
            yield Figure(name, "ms", samples, peer, beside, _REACH[kind], kind, round_trip * 1000, "round trip, ms")

    def costs(self, total: int) -> Iterator[Figure]:
        """What was fetched beside the whole image, and the requests beside the files."""
        for (round_trip, kind), starts in self._starts.items():
            name = f"round trip {round_trip * 1000:g} ms, {kind}"
            megabytes = [start.size / 1e6 for start in starts]
            yield Figure(f"{name}, fetched", "MB", megabytes, "image", [total / 1e6] * len(starts))
            if all(start.requests for start in starts):
                requests = [float(start.requests) for start in starts]
                files = [float(start.objects) for start in starts]
                yield Figure(f"{name}, requests", "", requests, "objects fetched", files)


async def make_image(data: DataDirectory, objects: LocalObjects, folder: Path, packages: Sequence[str]) -> Image:
    """The base with packages on top."""
    base, base_layer = await find_base(data)
    tree, scratch = folder / "tree", folder / "scratch"
    scratch.mkdir(parents=True)
    target = tree / "usr/local/lib" / f"python{_PYTHON}" / "dist-packages"
    await run_pip("install", "--target", str(target), "--no-compile", "--only-binary", ":all:", *packages)
    await Compiler(_PYTHON, (base,), f"/usr/bin/python{_PYTHON}", objects).compile(tree, scratch)
    with objects.batch() as batch:
        entries = import_folder(tree, batch)
    index = encode_index(graft(Tree([Index.from_file(objects.path(base))]), Index.load(encode_index(entries))))
    return describe_image(objects, (base, objects.put(index)), base_layer)


def describe_image(objects: LocalObjects, indexes: tuple[Digest, ...], *layers: Digest) -> Image:
    """Of indexes, bottom first; `layers` are the EROFS images of the first ones."""
    written = tuple(_write_layer(objects, index) for index in indexes[len(layers) :])
    catalogues = tuple(_write_catalogue(objects, index) for index in indexes)
    return Image(indexes, (*layers, *written), catalogues, tuple(_map_chunks(objects, index) for index in indexes))


def _write_layer(objects: LocalObjects, index: Digest) -> Digest:
    with objects.writer() as writer:
        write_erofs(Index.from_file(objects.path(index)), writer)
        return writer.publish()[0]


def _map_chunks(objects: LocalObjects, index: str) -> str:
    large = [digest for digest, size in Index.from_file(objects.path(index)).digests() if size >= LARGE]
    lists = [(digest, objects.put(list_chunks(objects.path(digest)).encode())) for digest in large]
    return objects.put(encode_chunk_map(lists))


def _write_catalogue(objects: LocalObjects, index: str) -> str:
    return objects.put(encode_catalogue(make_catalogue(Index.from_file(objects.path(index)).files())))
