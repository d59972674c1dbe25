"""How much memory the lazy layer's daemon takes at most: while ten containers of three images start at once, cold, and while
one large file is read from its beginning to its end.

Beside the first: the limit that was set, 100 MB. Beside the second: the same with a file of a twentieth of the size.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.coldstart import Image, make_image
from bench.figures import Figure, Report
from bench.hosts import PATH, forget_objects, open_starts, scratch_directory
from bench.reading import read_file
from bench.start import make_base
from bench.throughput import make_image as make_large
from bench.throughput import put_random
from jiffy.cli.running import find_server
from jiffy.core.actions import LaunchContainer
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.fs.prefetch import Request
from jiffy.objects.local import LocalObjects
from jiffy.worker.container import Container
from jiffy.worker.host import Host, Origin

_CONTAINERS: Final = 10
_LIMIT_MB: Final = 100.0
_LARGE: Final = 5 * 2**30
_PROGRAMS: Final = {"scikit-learn": "sklearn.linear_model", "numpy": "numpy", "pydantic": "pydantic"}


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    objects = LocalObjects(data.objects, data.incoming)
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        names = list(_PROGRAMS) if samples > 1 else list(_PROGRAMS)[-1:]
        images = [asyncio.run(make_image(data, objects, scratch.root / name, [name])) for name in names]
        modules = [_PROGRAMS[name] for name in names]
        origin = Origin((server.http_url,), data.token)
        peaks = [asyncio.run(_start_all(scratch, origin, images, modules)) for _ in range(samples)]
        sizes = (_LARGE // 20, _LARGE) if samples > 1 else (_LARGE // 320, _LARGE // 160)
        small, large = [asyncio.run(_stream(scratch, origin, objects, size)) for size in sizes]
    name = f"daemon, {_CONTAINERS} containers of {len(images)} images"
    stream = f"daemon, a file of {sizes[1] / 2**30:.2g} GiB read"
    return Report(
        [
            Figure(name, "MB", peaks, "limit", [_LIMIT_MB] * samples, 1.0),
            Figure(stream, "MB", [large], f"{sizes[0] / 2**20:.0f} MiB", [small]),
        ]
    )


async def _start_all(scratch: DataDirectory, origin: Origin, images: Sequence[Image], modules: Sequence[str]) -> float:
    forget_objects(scratch)
    async with open_starts(scratch, origin) as starts:
        assert starts.host is not None
        launches = [_launch(starts.host, number, images, modules) for number in range(_CONTAINERS)]
        await asyncio.gather(*launches)
        if starts.failed:
            raise JiffyError(f"{starts.failed} of {_CONTAINERS} containers failed")
        return _peak(starts.host.lazy.pid)


async def _stream(scratch: DataDirectory, origin: Origin, objects: LocalObjects, size: int) -> float:
    forget_objects(scratch)
    for aside in scratch.root.glob("forgotten-*"):
        shutil.rmtree(aside)
    digest = put_random(scratch.root / "large", objects, size)
    (scratch.root / "large").unlink()
    try:
        layer, chunk_map = make_large(objects, digest, size)
        async with open_starts(scratch, origin) as starts:
            assert starts.host is not None
            starts.host.lazy.tell(Request.CHUNK_MAP, chunk_map)
            await starts.host.roots.prepare([layer])
            root = await starts.host.roots.mount("large", [layer])
            await read_file(root.path / "file", 1)
            await starts.host.roots.remove(root)
            return _peak(starts.host.lazy.pid)
    finally:
        objects.delete(digest)


async def _launch(host: Host, number: int, images: Sequence[Image], modules: Sequence[str]) -> None:
    image, module = images[number % len(images)], modules[number % len(images)]
    order = LaunchContainer(
        task_id=f"bench-memory-{number}",
        layers=image.layers,
        argv=("python3", "-c", f"import {module}; print('ready')"),
        environment={"PATH": PATH},
        catalogues=image.catalogues,
        chunk_maps=image.chunk_maps,
    )
    await Container(order, host).run()


def _peak(pid: int) -> float:
    """MB that a process had in memory at most."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024 / 1e6
