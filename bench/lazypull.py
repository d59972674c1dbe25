"""The first instruction of an image in a registry 2 ms away, on a host that has nothing: `import sklearn` from an
eStargz, and from an ordinary image with seek indexes, of which only what it reads is fetched, beside `podman pull`
and run of the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.coldstart import Image, make_image
from bench.figures import Figure, Report
from bench.hosts import open_starts, record_profile, scratch_directory
from bench.podman import Storage, serve_registry
from bench.proxy import far_away
from jiffy.cli.image_export import Pushed
from jiffy.cli.running import ask_server, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.image.estargz_writer import write_estargz
from jiffy.image.export import Exportable, LayerFile, export_image, write_layer
from jiffy.image.importing import Progress
from jiffy.image.index import Index
from jiffy.image.manifest import Platform
from jiffy.image.oci import open_registry
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Registry
from jiffy.image.seekable import attach_seek_indexes
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import Profile
from jiffy.worker.host import Origin

_ROUND_TRIP: Final = 0.002
_PACKAGES: Final = ("scikit-learn",)
_PROGRAM: Final = ("python3", "-c", "import sklearn, sklearn.linear_model; print('ready')")
_PATH: Final = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]}
_REACH: Final = 0.5
_READY_SECONDS: Final = 15.0


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, a server that has made its base on the data directory, podman, docker-registry and skopeo."""
    with scratch_directory(data) as scratch, serve_registry(scratch.root / "registry") as port:
        objects = LocalObjects(data.objects, data.incoming)
        image = asyncio.run(make_image(data, objects, scratch.root / "image", _PACKAGES))
        read = asyncio.run(_record(data, scratch, image))
        asyncio.run(_publish_estargz(objects, image, read, scratch, f"127.0.0.1:{port}/bench/estargz:1"))
        asyncio.run(_publish_ordinary(objects, image, read, scratch, f"127.0.0.1:{port}/bench/ordinary:1"))
        with far_away(port, _ROUND_TRIP) as far:
            return Report(
                [
                    _compare("eStargz", _REACH, scratch, f"127.0.0.1:{far.port}/bench/estargz:1", samples),
                    _compare("gzip and a seek index", 0.0, scratch, f"127.0.0.1:{far.port}/bench/ordinary:1", samples),
                ]
            )


def _compare(form: str, reach: float, scratch: DataDirectory, name: str, samples: int) -> Figure:
    ours, peers = [], []
    for number in range(samples):
        ours.append(_start_lazily(DataDirectory(scratch.root / f"{form.split()[0]}-{number}"), name))
        storage = Storage(scratch.root)
        peers.append(storage.pull(name) + storage.run(name, _PROGRAM))
    return Figure(f"import sklearn, {form}", "s", ours, "podman pull and run", peers, reach)


async def _record(data: DataDirectory, scratch: DataDirectory, image: Image) -> Profile:
    """What a start reads, in a loop of its own: a host's threads must all be in its namespace."""
    host = DataDirectory(scratch.root / "recorder")
    host.create()
    origin = Origin((find_server(data).http_url,), data.token)
    return await record_profile(host, origin, _PROGRAM, image.layers, image.chunk_maps)


async def _publish_estargz(
    objects: LocalObjects, image: Image, read: Profile, scratch: DataDirectory, name: str
) -> None:
    """What a start reads comes first in the layers."""

    def write(index: Index, path: Path) -> LayerFile:
        held = {digest for digest, _ in index.digests()}
        return write_estargz(index, objects.path, path, [digest for digest in read if digest in held])

    await _publish(objects, image, write, scratch, name)


async def _publish_ordinary(
    objects: LocalObjects, image: Image, read: Profile, scratch: DataDirectory, name: str
) -> None:
    """As any tool makes it, with seek indexes beside it."""

    def write(index: Index, path: Path) -> LayerFile:
        return write_layer(index, objects.path, path, "gzip")

    await _publish(objects, image, write, scratch, name)
    reference = parse_reference(name)
    async with (
        open_registry(reference, Platform("amd64"), None, {}) as published,
        Registry(reference, can_push=True) as registry,
    ):
        await attach_seek_indexes(registry, published, Progress(), list(read))


async def _publish(
    objects: LocalObjects, image: Image, write: Callable[[Index, Path], LayerFile], scratch: DataDirectory, name: str
) -> None:
    def load(digest: str) -> Index:
        return Index.from_file(objects.path(digest))

    reference = parse_reference(name)
    with tempfile.TemporaryDirectory(dir=scratch.root) as folder:
        async with Registry(reference, can_push=True) as registry:
            exportable = Exportable(image.indexes, _PATH)
            await export_image(exportable, load, write, Path(folder), Pushed(registry, reference.tag))


def _start_lazily(scratch: DataDirectory, name: str) -> float:
    """Seconds from the wish for the image until the program is ready, with a server and a host that have nothing. What they
    then have stays until the end: files that are made within seconds of deletions take several times as long."""
    scratch.create()
    with _fresh_server(scratch) as server:
        return asyncio.run(_import_and_start(scratch, server, name))


async def _import_and_start(scratch: DataDirectory, server: DataDirectory, name: str) -> float:
    url = find_server(server).http_url
    host = DataDirectory(scratch.root / "host")
    host.create()
    async with open_starts(host, Origin((url,), server.token)) as starts:
        started = time.perf_counter()
        command = [sys.executable, "-m", "jiffy", "image", "import", "--lazy", "--json", f"docker://{name}"]
        process = await asyncio.create_subprocess_exec(
            *command, "--data", str(server.root), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        imported = json.loads(output)
        described = await asyncio.to_thread(_describe, server, imported["image_id"])
        taken = time.perf_counter() - started
        start = await starts.measure(
            _PROGRAM,
            described["layers"],
            described["profile"],
            catalogues=described["catalogues"],
            chunk_maps=described["chunk_maps"],
        )
        return taken + start.total / 1000


def _describe(server: DataDirectory, image_id: str) -> dict[str, Any]:
    described: dict[str, Any] = ask_server(find_server(server).http_url, server.token, f"/images/{image_id}")
    return described


@contextmanager
def _fresh_server(scratch: DataDirectory) -> Iterator[DataDirectory]:
    """A child of this process, which must wait for it: it may be the parent of all that has none."""
    data = DataDirectory(scratch.root / "server")
    command = [sys.executable, "-m", "jiffy", "serve", "--no-worker", "--port", "0", "--data", str(data.root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await(data)
            yield data
        finally:
            server.terminate()


def _await(data: DataDirectory) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            find_server(data)
            return
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
