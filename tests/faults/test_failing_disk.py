"""A disk of the cache that fails costs nothing but its share: what was on it is fetched again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from jiffy.fs.mount import mount_overlay, unmount
from tests.disks import Disk, open_disk
from tests.fs.conftest import CONTENTS, OBJECTS, ColdHost, cold_host
from tests.objects.origin import serve_origin

pytestmark = pytest.mark.root


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[Disk]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_disk(tmp_path / f"disk-{number}", 64 * 2**20)) for number in range(2)]


@pytest.fixture
def disks(opened: list[Disk]) -> list[Path]:
    return [disk.folder for disk in opened]


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
    host: ColdHost, opened: list[Disk], disks: list[Path], tmp_path: Path
) -> None:
    """A root in which a file was opened before may fail to open that file again; new ones have everything."""
    assert await read_all(host.root) == CONTENTS
    lost = share(disks[0])
    opened[0].fail()
    host.objects.disks.probe()
    assert host.objects.disks.roots == (disks[1],)
    with another_root(host, tmp_path) as root:
        assert await read_all(root) == CONTENTS
    assert len(host.fetched()) - len(CONTENTS) <= lost + 1
    assert all(hashlib.sha256(host.objects.read(digest)).hexdigest() == digest for digest in host.objects)


async def test_a_disk_that_fails_while_objects_come_is_given_up(
    host: ColdHost, opened: list[Disk], disks: list[Path]
) -> None:
    """Nobody but the lazy layer's daemon has noticed."""
    opened[1].fail()
    assert await read_all(host.root) == CONTENTS
    assert host.objects.disks.roots == (disks[0],)
    assert share(disks[0]) == len(CONTENTS)
