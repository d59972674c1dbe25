"""Cache folders: what a build's steps leave for later steps on this host, such as the downloads of a package manager.

They belong to no image and may be deleted at any time when nobody uses them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from jiffy.core.actions import CacheMount
from jiffy.runtime.bundle import BindMount


class Caches:
    """`folder` holds them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def held(self, caches: Sequence[CacheMount]) -> AsyncIterator[list[BindMount]]:
        """The mounts of a container's caches; those that are exclusive are waited for, in one order for all."""
        async with AsyncExitStack() as stack:
            for cache in sorted(caches, key=lambda cache: cache.name):
                if cache.exclusive:
                    await stack.enter_async_context(self._locks.setdefault(cache.name, asyncio.Lock()))
            yield [BindMount(self._open(cache), cache.target, cache.read_only) for cache in caches]

    def _open(self, cache: CacheMount) -> Path:
        folder = self._folder / hashlib.sha256(cache.name.encode()).hexdigest()
        if not folder.exists():
            fresh = folder.with_suffix(".new")
            fresh.mkdir(exist_ok=True)
            os.chown(fresh, cache.owner.uid, cache.owner.gid)
            fresh.chmod(cache.mode)
            fresh.rename(folder)
        return folder
