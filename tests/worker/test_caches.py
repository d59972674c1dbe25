"""Caches of builds: kept for later steps, within bounds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jiffy.core.actions import CacheMount, User
from jiffy.worker.caches import Caches

KIB = 2**10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "caches").mkdir()
    return tmp_path / "caches"


def cache(name: str, *, exclusive: bool = False) -> CacheMount:
    return CacheMount(
        name=name, target="/cache", mode=0o750, owner=User(uid=os.getuid(), gid=os.getgid()), exclusive=exclusive
    )


async def fill(caches: Caches, name: str, size: int, used_at: float) -> Path:
    """A cache that some step used at a time."""
    async with caches.held([cache(name)]) as (mount,):
        (mount.source / "file").write_bytes(b"x" * size)
    os.utime(mount.source.with_suffix(".used"), (used_at, used_at))
    return mount.source


async def test_what_a_step_leaves_the_next_one_finds(folder: Path) -> None:
    caches = Caches(folder)
    path = await fill(caches, "one", 10, 1)
    async with Caches(folder).held([cache("one")]) as (mount,):
        assert mount.source == path and (path / "file").read_bytes() == b"x" * 10
    assert path.stat().st_mode & 0o777 == 0o750


async def test_one_that_is_exclusive_is_waited_for(folder: Path) -> None:
    caches = Caches(folder)
    order = []

    async def use(name: str) -> None:
        async with caches.held([cache("one", exclusive=True)]):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(use("a"), use("b"))
    assert order == ["a begins", "a ends", "b begins", "b ends"]


async def test_those_used_longest_ago_are_dropped(folder: Path) -> None:
    caches = Caches(folder)
    old, middle, new = [await fill(caches, name, 64 * KIB, at) for at, name in enumerate(("a", "b", "c"), 1)]
    assert caches.trim(200 * KIB) == 0
    assert caches.trim(150 * KIB) == 1
    assert (old.exists(), middle.exists(), new.exists()) == (False, True, True)
    assert caches.trim(0) == 2
    assert list(folder.iterdir()) == []


async def test_one_that_is_used_is_not_dropped(folder: Path) -> None:
    caches = Caches(folder)
    path = await fill(caches, "one", 64 * KIB, 1)
    async with caches.held([cache("one")]):
        assert caches.trim(0) == 0 and (path / "file").exists()
    assert caches.trim(0) == 1


async def test_what_a_killed_worker_was_dropping_goes_with_the_next(folder: Path) -> None:
    caches = Caches(folder)
    path = await fill(caches, "one", 10, 1)
    path.rename(path.with_suffix(".gone"))
    assert caches.trim(2**30) == 0
    assert not path.with_suffix(".gone").exists()
