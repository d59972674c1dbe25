"""One image on a folder, without a container: the same root that containers have."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import UnsupportedError
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mount import bind_mount, unmount
from jiffy.locks import hold_lock
from jiffy.objects.eviction import LayerUse
from jiffy.objects.local import LocalObjects
from jiffy.objects.recovery import Marker
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers
from jiffy.runtime.kernel import choose_mode, require_kernel
from jiffy.worker.roots import Roots

_ROOT: Final = "root"


async def mount_image(
    data: DataDirectory,
    image: Mapping[str, Any],
    folder: Path,
    sources: Sequence[str],
    token_file: Path,
    report: Callable[[], None],
) -> None:
    """Until SIGINT or SIGTERM. `image` is as the server describes it; `data` keeps what was fetched for the next time; what
    a killed predecessor left mounted is unmounted first."""
    async with _mounted(data, image, folder, sources, token_file):
        report()
        await _wait_for_end()


async def visit_image(
    data: DataDirectory,
    image: Mapping[str, Any],
    sources: Sequence[str],
    token_file: Path,
    visit: Callable[[Path], None],
) -> None:
    """Mount an image for as long as `visit` takes, which gets its root; it is called in a thread."""
    folder = data.root / "visited"
    data.create()
    folder.mkdir()
    async with _mounted(data, image, folder, sources, token_file):
        await asyncio.to_thread(visit, folder)


@asynccontextmanager
async def _mounted(
    data: DataDirectory, image: Mapping[str, Any], folder: Path, sources: Sequence[str], token_file: Path
) -> AsyncIterator[None]:
    if os.geteuid() != 0:
        raise UnsupportedError("cannot mount an image", why="mounts need root", hint="run it with sudo")
    require_kernel(platform.release())
    data.create()
    async with AsyncExitStack() as stack:
        stack.enter_context(hold_lock(data.worker_lock, "mount"))
        _unmount_leftovers(data, folder)
        roots, lazy = await _open(stack, data, sources, token_file)
        lazy.announce(_ROOT, chunk_maps=image["chunk_maps"], catalogues=image["catalogues"], profile=image["profile"])
        await roots.prepare(image["layers"])
        root = await roots.mount(_ROOT, image["layers"])
        stack.push_async_callback(roots.remove, root)
        bind_mount(root.path, folder)
        stack.callback(unmount, folder)
        yield


async def _open(
    stack: AsyncExitStack, data: DataDirectory, sources: Sequence[str], token_file: Path
) -> tuple[Roots, LazyMount]:
    objects = LocalObjects(data.objects, data.incoming, durable=False)
    objects.sweep()
    marker = Marker(data.synced, objects, data.partial)
    await asyncio.to_thread(marker.recover)
    stack.callback(marker.sync)
    at = data.mounts / "lazy"
    at.mkdir(exist_ok=True)
    lazy = LazyMount(at, data, sources, token_file, choose_mode())
    await lazy.start()
    stack.push_async_callback(lazy.stop)
    tiers = Tiers(objects, open_sources(sources, read_token(token_file)))
    roots = Roots(data, tiers, lazy, LayerUse(data.layer_use))
    stack.callback(roots.close)
    return roots, lazy


def _unmount_leftovers(data: DataDirectory, folder: Path) -> None:
    mounted = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    ours = [path for path in mounted if path.is_relative_to(data.root.resolve())]
    if (data.containers / _ROOT).exists() and folder in mounted:
        ours.append(folder)
    for path in reversed(ours):
        unmount(path)
    shutil.rmtree(data.containers / _ROOT, ignore_errors=True)


async def _wait_for_end() -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
