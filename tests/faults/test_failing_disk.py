"""A disk of the cache that fails costs nothing but its share: what was on it is fetched again."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from jiffy.fs.mount import mount_overlay, unmount
from tests.fs.conftest import CONTENTS, OBJECTS, ColdHost, cold_host
from tests.objects.origin import serve_origin

pytestmark = pytest.mark.root

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from now on the filesystem fails as on a disk that is gone."""

_WITHOUT_LOG = 2


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A filesystem of its own, on a file."""
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        unmount(folder)
        image.unlink()


def fail(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("<I", _WITHOUT_LOG))
    finally:
        os.close(descriptor)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[Path]]:
    with ExitStack() as stack:
        yield [stack.enter_context(disk(tmp_path / f"disk-{number}")) for number in range(2)]


@pytest.fixture
async def host(tmp_path: Path, disks: list[Path]) -> AsyncIterator[ColdHost]:
    with serve_origin(dict(OBJECTS)) as origin:
        async with cold_host(tmp_path, origin, disks=disks) as opened:
            yield opened


async def read_all(root: Path) -> dict[str, bytes]:
    return await asyncio.to_thread(lambda: {name: (root / name).read_bytes() for name in CONTENTS})


@contextmanager
def another_root(host: ColdHost, folder: Path) -> Iterator[Path]:
    """As a container has it that is started now."""
    upper, work, at = [folder / name for name in ("upper-2", "work-2", "root-2")]
    for path in (upper, work, at):
        path.mkdir()
    mount_overlay(at, [host.image], host.mount.data_layers, upper, work)
    try:
        yield at
    finally:
        unmount(at)


def share(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "objects").rglob("*"))


async def test_both_disks_have_their_share(host: ColdHost, disks: list[Path]) -> None:
    assert await read_all(host.root) == CONTENTS
    assert sum(map(share, disks)) == len(CONTENTS)
    assert all(map(share, disks))
    assert len(host.fetched()) == len(CONTENTS)
    assert await read_all(host.root) == CONTENTS
    assert len(host.fetched()) == len(CONTENTS), "the kernel finds them on either disk"


async def test_what_a_failed_disk_had_is_fetched_to_the_other(
    host: ColdHost, disks: list[Path], tmp_path: Path
) -> None:
    """A root in which a file was opened before may fail to open that file again; new ones have everything."""
    assert await read_all(host.root) == CONTENTS
    lost = share(disks[0])
    fail(disks[0])
    host.objects.disks.probe()
    assert host.objects.disks.roots == (disks[1],)
    with another_root(host, tmp_path) as root:
        assert await read_all(root) == CONTENTS
    assert len(host.fetched()) - len(CONTENTS) <= lost + 1
    assert all(hashlib.sha256(host.objects.read(digest)).hexdigest() == digest for digest in host.objects)


async def test_a_disk_that_fails_while_objects_come_is_given_up(host: ColdHost, disks: list[Path]) -> None:
    """Nobody but the lazy layer's daemon has noticed."""
    fail(disks[1])
    assert await read_all(host.root) == CONTENTS
    assert host.objects.disks.roots == (disks[0],)
    assert share(disks[0]) == len(CONTENTS)
