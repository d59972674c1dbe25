"""Roots of containers: layers that are EROFS images, mounted by the kernel or, in plain mode, by the lazy mount's daemon.

An image is an object; its mount is shared by all containers that have the layer. A root is one overlay of a fresh upper
folder, those mounts, the host's objects and the lazy layer. Nothing is ever copied.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mount import mount_overlay, unmount
from jiffy.objects.base import Digest
from jiffy.objects.eviction import LayerUse
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

_IDLE_KEPT: Final = 32


@dataclass(slots=True)
class _Layer:
    """A mounted EROFS image, and how many roots stand on it."""

    at: Path
    users: int = 0


@dataclass(frozen=True, slots=True)
class Root:
    """A mounted root and the folder that holds all of its container's own files."""

    path: Path
    folder: Path
    layers: tuple[Digest, ...]

    @property
    def upper(self) -> Path:
        """What was written, as overlayfs keeps it."""
        return self.folder / "upper"


class Roots:
    """`lazy` mounts layers, `use` hears of each one that is used."""

    def __init__(self, data: DataDirectory, tiers: Tiers, lazy: LazyMount, use: LayerUse) -> None:
        self._data = data
        self._tiers = tiers
        self._lazy = lazy
        self._use = use
        self._layers: dict[Digest, _Layer] = {}
        self._locks: dict[Digest, asyncio.Lock] = {}

    def known_layers(self) -> tuple[Digest, ...]:
        """Those that are mounted: in use, or used lately."""
        return tuple(self._layers)

    async def prepare(self, layers: Sequence[Digest]) -> None:
        """Have every layer's image mounted, and in use by one more root."""
        self._use.note(layers)
        held: list[Digest] = []
        try:
            for digest in layers:
                await self._hold(digest)
                held.append(digest)
        except BaseException:
            for digest in held:
                self._layers[digest].users -= 1
            raise

    async def mount(self, identifier: str, layers: Sequence[Digest], at: Path | None = None) -> Root:
        """Mount a root on prepared layers (bottom first), in a folder of its own or in one that is there."""
        path = at or self._data.roots / identifier
        root = Root(path, self._data.containers / identifier, tuple(layers))
        await asyncio.to_thread(self._mount_now, root)
        return root

    def layer_mounts(self, root: Root) -> list[Path]:
        """Where a root's layers are mounted, topmost first."""
        return [self._data.mounts / digest for digest in reversed(root.layers)]

    async def detach(self, root: Root) -> Path:
        """Unmount a root whose container has ended, and give the folder that has all that was written."""
        return await asyncio.to_thread(_unmount_now, root)

    async def remove(self, root: Root) -> None:
        """Unmount, delete what the container wrote, let go of the layers."""
        await asyncio.to_thread(_remove_now, root)
        self.release(root.layers)

    def release(self, layers: Sequence[Digest]) -> None:
        self._use.note(layers)
        for digest in layers:
            layer = self._layers.pop(digest)
            layer.users -= 1
            self._layers[digest] = layer
        idle = [digest for digest, layer in self._layers.items() if not layer.users]
        for digest in idle[: max(0, len(idle) - _IDLE_KEPT)]:
            self._drop(digest)

    def close(self) -> None:
        for digest in list(self._layers):
            self._drop(digest)

    async def _hold(self, digest: Digest) -> None:
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if digest not in self._layers:
                await asyncio.to_thread(self._mount_layer, digest)
                self._layers[digest] = _Layer(self._data.mounts / digest)
            self._layers[digest].users += 1

    def _mount_layer(self, digest: Digest) -> None:
        at = self._data.mounts / digest
        at.mkdir(exist_ok=True)
        self._lazy.mount_layer(digest, self._tiers.ensure(digest), at)

    def _mount_now(self, root: Root) -> None:
        upper, work = root.upper, root.folder / "work"
        for folder in (root.folder, upper, work, root.path):
            folder.mkdir(parents=True, exist_ok=True)
        layers = self.layer_mounts(root)
        _copy_status(layers[0], upper)
        mount_overlay(root.path, layers, self._lazy.data_layers, upper, work)

    def _drop(self, digest: Digest) -> None:
        at = self._layers.pop(digest).at
        self._lazy.unmount_layer(at)
        at.rmdir()


def _copy_status(layer: Path, upper: Path) -> None:
    """The folder / of a container is that of its image."""
    status = layer.stat()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(stat.S_IMODE(status.st_mode))
    os.utime(upper, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _unmount_now(root: Root) -> Path:
    unmount(root.path)
    return root.upper


def _remove_now(root: Root) -> None:
    if root.path.is_mount():
        unmount(root.path)
    root.path.rmdir()
    shutil.rmtree(root.folder, ignore_errors=True)
