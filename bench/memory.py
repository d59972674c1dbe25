"""How much memory the lazy layer's daemon takes at most while ten containers of three images start at once, cold.

Beside it: the limit that was set, 100 MB.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.coldstart import Image, make_image
from bench.figures import Figure, Report
from bench.hosts import PATH, forget_objects, open_starts, scratch_directory
from bench.start import make_base
from jiffy.cli.running import find_server
from jiffy.core.actions import LaunchContainer
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.objects.local import LocalObjects
from jiffy.worker.container import Container
from jiffy.worker.host import Host, Origin

_CONTAINERS: Final = 10
_LIMIT_MB: Final = 100.0
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
    name = f"daemon, {_CONTAINERS} containers of {len(images)} images"
    return Report([Figure(name, "MB", peaks, "limit", [_LIMIT_MB] * samples)])


async def _start_all(scratch: DataDirectory, origin: Origin, images: Sequence[Image], modules: Sequence[str]) -> float:
    forget_objects(scratch)
    async with open_starts(scratch, origin) as starts:
        assert starts.host is not None
        launches = [_launch(starts.host, number, images, modules) for number in range(_CONTAINERS)]
        await asyncio.gather(*launches)
        if starts.failed:
            raise JiffyError(f"{starts.failed} of {_CONTAINERS} containers failed")
        return _peak(starts.host.lazy.pid)


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
