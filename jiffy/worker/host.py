"""What all containers of a worker share: namespaces, the network, the lazy layer, the runtime. Opened once, closed in
reverse; what a killed predecessor left is removed first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.core.events import Event
from jiffy.datadir import DataDirectory, read_token
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mount import mount_tmpfs, private_mount_namespace, unmount
from jiffy.fs.spread import spread_folders
from jiffy.objects.eviction import NO_LIMITS, Evictor, LayerUse, Limits
from jiffy.objects.http import HttpObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.recovery import Marker
from jiffy.objects.scrub import Scrubber
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers
from jiffy.periodic import repeat
from jiffy.runtime import cgroups
from jiffy.runtime.capacity import Capacity, find_capacity
from jiffy.runtime.kernel import choose_mode, require_kernel
from jiffy.runtime.network import GATEWAY, ContainerNetwork
from jiffy.runtime.oci import Runtime, choose_runtime, hide_empty_hierarchy
from jiffy.runtime.process import adopt_orphans
from jiffy.worker.caches import BUILD_CACHE_BYTES, Caches
from jiffy.worker.changes import Changes
from jiffy.worker.connection import local_server
from jiffy.worker.gpus import NO_GPUS, Gpus, Inventory
from jiffy.worker.roots import Roots

logger = logging.getLogger(__name__)

GRPC_PORT: Final = 9900
HTTP_PORT: Final = 9901
_SYNC_SECONDS: Final = 30.0
_SCRUB_SECONDS: Final = 24 * 3600.0
_SCRUB_RATE: Final = 20e6
_EVICT_SECONDS: Final = 10.0
_PROBE_SECONDS: Final = 10.0
_TRIM_SECONDS: Final = 1800.0
_SERVER_SECONDS: Final = 5.0
_SERVER_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Origin:
    """Where objects are fetched from as they are read: addresses as in objects/sources.py, the nearest first, the file
    with the server's token, how many of them may be kept here, and the disks to spread them over, if not at home."""

    urls: tuple[str, ...]
    token_file: Path
    limits: Limits = NO_LIMITS
    disks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """`report` takes events, `is_full` says that they pile up. `listeners` are where containers reach the server: for gRPC
    and for HTTP."""

    data: DataDirectory
    roots: Roots
    lazy: LazyMount
    network: ContainerNetwork
    runtime: Runtime
    caches: Caches
    changes: Changes
    capacity: Capacity
    gpus: Gpus
    listeners: tuple[socket.socket, socket.socket]
    report: Callable[[Event], None]
    is_full: Callable[[], bool]

    @property
    def server_url(self) -> str:
        """The server's address, as containers know it."""
        return f"http://{GATEWAY}:{GRPC_PORT}"


@asynccontextmanager
async def open_host(
    data: DataDirectory,
    origin: Origin | None,
    report: Callable[[Event], None],
    is_full: Callable[[], bool],
    build_cache: int = BUILD_CACHE_BYTES,
    capacity: Capacity | None = None,
    gpus: Inventory = NO_GPUS,
) -> AsyncIterator[Host]:
    """This process moves to a mount namespace of its own, and becomes the parent of its containers. Without an `origin`,
    the data directory has all objects. `build_cache`: bytes that the caches of builds may have. `capacity`: what
    containers may use, if not all that is there."""
    require_kernel(platform.release())
    async with AsyncExitStack() as stack:
        _enter_namespace(data)
        stack.callback(unmount, data.runtime)
        runtime = choose_runtime(data.runtime / "state")
        await _sweep(data)
        spread_folders(data.containers)
        stack.push_async_callback(cgroups.remove_group, cgroups.parent_group(data.instance))
        network = ContainerNetwork(data.instance)
        await network.open()
        stack.push_async_callback(network.close)
        listeners = tuple(stack.enter_context(network.listen(port)) for port in (GRPC_PORT, HTTP_PORT))
        roots, lazy = await _open_roots(stack, data, origin)
        caches = Caches(data.caches)
        _tend(stack, _TRIM_SECONDS, lambda: caches.trim(build_cache), "dropping caches of builds")
        yield Host(
            data=data,
            roots=roots,
            lazy=lazy,
            network=network,
            runtime=runtime,
            caches=caches,
            changes=_open_changes(data, origin),
            capacity=capacity or find_capacity(),
            gpus=Gpus(gpus),
            listeners=(listeners[0], listeners[1]),
            report=report,
            is_full=is_full,
        )


def _enter_namespace(data: DataDirectory) -> None:
    private_mount_namespace()
    mount_tmpfs(data.runtime)
    scratch = data.mounts / "cgroup"
    scratch.mkdir(exist_ok=True)
    hide_empty_hierarchy(scratch)
    adopt_orphans()


def _open_changes(data: DataDirectory, origin: Origin | None) -> Changes:
    objects = LocalObjects(data.objects, data.incoming, durable=origin is None)
    if origin is None:
        return Changes(objects, None)
    objects.disks.spread(origin.disks)
    return Changes(objects, HttpObjects(origin.urls[-1], read_token(origin.token_file)))


async def _own_server(data: DataDirectory) -> tuple[str, ...]:
    """The server that shares the data directory: it knows where objects are that lie in registries only. It may be on its
    way up still."""
    deadline = asyncio.get_running_loop().time() + _SERVER_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        try:
            return (local_server(data.address, data.token)[0],)
        except (OSError, ValueError):
            await asyncio.sleep(_SERVER_POLL_SECONDS)
    return ()


async def _open_roots(stack: AsyncExitStack, data: DataDirectory, origin: Origin | None) -> tuple[Roots, LazyMount]:
    objects = LocalObjects(data.objects, data.incoming, durable=origin is None)
    if origin is not None:
        objects.disks.spread(origin.disks)
        _tend(stack, _PROBE_SECONDS, objects.disks.probe, "looking after the disks")
        marker = Marker(data.synced, objects, data.partial)
        await asyncio.to_thread(marker.recover)
        stack.push_async_callback(asyncio.to_thread, marker.sync)
        _tend(stack, _SYNC_SECONDS, marker.sync, "syncing the cache")
    lazy = data.mounts / "lazy"
    lazy.mkdir(exist_ok=True)
    urls, token_file = (origin.urls, origin.token_file) if origin is not None else (await _own_server(data), data.token)
    mount = LazyMount(lazy, data, urls, token_file, choose_mode())
    await mount.start()
    stack.callback(lazy.rmdir)
    stack.push_async_callback(mount.stop)
    sources = open_sources(urls, read_token(token_file)) if urls else None
    tiers = Tiers(objects, sources)
    use = LayerUse(data.layer_use)
    if origin is not None:
        ended = threading.Event()
        scrubber = Scrubber(tiers, data.quarantine, _SCRUB_RATE)
        _tend(stack, _SCRUB_SECONDS, lambda: _scrub(scrubber, ended), "reading the cache again")
        stack.callback(ended.set)
        evictor = Evictor(objects, data.partial, use, origin.limits)
        _tend(stack, _EVICT_SECONDS, evictor.run, "dropping objects from the cache")
        stack.callback(use.save)
    roots = Roots(data, tiers, mount, use)
    stack.callback(roots.close)
    return roots, mount


def _tend(stack: AsyncExitStack, seconds: float, job: Callable[[], object], what: str) -> None:
    stack.callback(asyncio.ensure_future(repeat(seconds, job, what)).cancel)


def _scrub(scrubber: Scrubber, cancelled: threading.Event) -> None:
    findings = scrubber.run(cancelled)
    logger.info("%d objects were read again, %d mended", findings.objects, findings.mended)


async def _sweep(data: DataDirectory) -> None:
    """Remove what a killed predecessor left: containers, their groups and their files."""
    await cgroups.remove_group(cgroups.parent_group(data.instance))
    for folder in data.containers.iterdir():
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    for folder in data.mounts.iterdir():
        with contextlib.suppress(OSError):
            folder.rmdir()
    LocalObjects(data.objects, data.incoming).sweep()
