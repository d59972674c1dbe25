"""Cache folders: what a build's steps leave for later steps on this host, such as the downloads of a package manager.

They belong to no image and may be deleted at any time when nobody uses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from jiffy.core.actions import CacheMount
from jiffy.runtime.bundle import BindMount

BUILD_CACHE_BYTES: Final = 20 * 2**30
_BLOCK_BYTES: Final = 512


class Caches:
    """`folder` holds them all; beside each is an empty file whose time tells when it was used last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exclusive: dict[str, asyncio.Lock] = {}
        self._lock = threading.Lock()
        self._users: Counter[Path] = Counter()

    @asynccontextmanager
    async def held(self, caches: Sequence[CacheMount]) -> AsyncIterator[list[BindMount]]:
        """The mounts of a container's caches; those that are exclusive are waited for, in one order for all."""
        async with AsyncExitStack() as stack:
            for cache in sorted(caches, key=lambda cache: cache.name):
                if cache.exclusive:
                    await stack.enter_async_context(self._exclusive.setdefault(cache.name, asyncio.Lock()))
            opened = [BindMount(self._open(cache), cache.target, cache.read_only) for cache in caches]
            try:
                yield opened
            finally:
                for mount in opened:
                    self._release(mount.source)

    def trim(self, most: int) -> int:
        """Drop those that were used longest ago and that nobody uses, until the others have at most so many bytes; gives how
        many were dropped."""
        for left in self._folder.glob("*.gone"):
            shutil.rmtree(left, ignore_errors=True)
        folders = sorted((path for path in self._folder.iterdir() if path.is_dir()), key=_last_use)
        sizes = {path: _size(path) for path in folders}
        total = sum(sizes.values())
        dropped = 0
        for path in folders:
            if total <= most:
                break
            if self._drop(path):
                total -= sizes[path]
                dropped += 1
        return dropped

    def _open(self, cache: CacheMount) -> Path:
        folder = self._folder / hashlib.sha256(cache.name.encode()).hexdigest()
        with self._lock:
            if not folder.exists():
                fresh = folder.with_suffix(".new")
                fresh.mkdir(exist_ok=True)
                os.chown(fresh, cache.owner.uid, cache.owner.gid)
                fresh.chmod(cache.mode)
                fresh.rename(folder)
            self._users[folder] += 1
            folder.with_suffix(".used").touch()
        return folder

    def _release(self, folder: Path) -> None:
        with self._lock:
            self._users[folder] -= 1
            folder.with_suffix(".used").touch()

    def _drop(self, folder: Path) -> bool:
        gone = folder.with_suffix(".gone")
        with self._lock:
            if self._users[folder]:
                return False
            folder.rename(gone)
            folder.with_suffix(".used").unlink(missing_ok=True)
        shutil.rmtree(gone, ignore_errors=True)
        return True


def _last_use(folder: Path) -> float:
    try:
        return folder.with_suffix(".used").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    """Bytes on the disk. What goes away meanwhile does not count."""
    blocks = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                blocks += os.lstat(os.path.join(root, name)).st_blocks  # noqa: PTH118, thousands of them
    return blocks * _BLOCK_BYTES
