from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jiffy.datadir import DataDirectory
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mount import mount_tmpfs, unmount
from jiffy.image.index import Entry, Kind
from jiffy.objects.base import object_path
from jiffy.objects.local import LocalObjects
from tests.mounts import mounted_root
from tests.objects.origin import Origin, serve_origin

CONTENTS = {f"file-{number}": os.urandom(3000 + 997 * number) for number in range(30)} | {
    "large": os.urandom(5 * 2**20),
    "script": b"#!/bin/sh\necho it runs\n",
}

subprocess._USE_VFORK = False  # type: ignore[misc]
"""The objects of these tests come from this process. With some Pythons (Debian's 3.11.2) it stands still, with all
its threads, while a child that it started by vfork waits for its program."""


@dataclass
class ColdHost:
    """A host that has no object, the origin that has them all, and a root that needs them."""

    data: DataDirectory
    objects: LocalObjects
    origin: Origin
    lazy: Path
    mount: LazyMount
    root: Path
    image: Path

    def digest(self, name: str) -> str:
        return hashlib.sha256(CONTENTS[name]).hexdigest()

    def lazy_path(self, name: str) -> Path:
        return self.lazy / object_path(self.digest(name))

    def fetched(self) -> list[str]:
        return [request.removeprefix("/objects/") for request in self.origin.requests]


OBJECTS = {hashlib.sha256(data).hexdigest(): data for data in CONTENTS.values()}


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin(dict(OBJECTS)) as running:
        yield running


@pytest.fixture
async def host(tmp_path: Path, origin: Origin) -> AsyncIterator[ColdHost]:
    async with cold_host(tmp_path, origin) as opened:
        yield opened


@pytest.fixture
async def full_host(tmp_path: Path, origin: Origin) -> AsyncIterator[ColdHost]:
    """Its objects are on a filesystem with next to no room."""
    store = tmp_path / "store"
    store.mkdir()
    mount_tmpfs(store, size=16 * 4096)
    try:
        async with cold_host(tmp_path, origin) as opened:
            yield opened
    finally:
        unmount(store)


@asynccontextmanager
async def cold_host(
    tmp_path: Path, origin: Origin, more: Mapping[str, bytes] | None = None, disks: Sequence[Path] = ()
) -> AsyncIterator[ColdHost]:
    data = DataDirectory(tmp_path / "store")
    data.create()
    objects = LocalObjects(data.objects, data.incoming)
    objects.disks.spread(disks)
    lazy = tmp_path / "lazy"
    lazy.mkdir()
    token = tmp_path / "token.json"
    token.write_text(json.dumps({"token_id": "id", "token_secret": "secret"}))
    mount = LazyMount(lazy, data, [origin.url], token)
    await mount.start()
    try:
        with mounted_root(_tree(CONTENTS | dict(more or {})), mount.data_layers, tmp_path) as root:
            yield ColdHost(data, objects, origin, lazy, mount, root, tmp_path / "image")
    finally:
        await mount.stop()


def _tree(contents: Mapping[str, bytes]) -> list[Entry]:
    files = [
        Entry(f"/{name}".encode(), Kind.FILE, 0o755, size=len(data), digest=hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    ]
    return [Entry(b"/", Kind.DIRECTORY, 0o755), *files]


async def kill_daemon(mount: LazyMount) -> None:
    """Until there is another."""
    pid = mount.pid
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while mount.pid == pid:
            await asyncio.sleep(0.01)
