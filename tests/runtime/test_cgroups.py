"""Control groups are found, read and removed, with whatever is in them."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jiffy.runtime import cgroups
from jiffy.runtime.cgroups import Layout, find_layout


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["cgroup.controllers"], Layout.V2),
        (["unified/cgroup.controllers"], Layout.HYBRID),
        (["memory/tasks"], Layout.V1),
    ],
)
def test_layouts_are_told_apart(tmp_path: Path, files: list[str], layout: Layout) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_layout(tmp_path) is layout


def test_kills_for_want_of_memory_are_counted_in_either_version(tmp_path: Path) -> None:
    second = tmp_path / "v2"
    (second / "group").mkdir(parents=True)
    (second / "cgroup.controllers").touch()
    (second / "group" / "memory.events").write_text("low 0\noom 2\noom_kill 3\n")
    assert cgroups.oom_kills("group", second) == 3
    first = tmp_path / "v1"
    (first / "memory" / "group").mkdir(parents=True)
    (first / "memory" / "group" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert cgroups.oom_kills("group", first) == 1


def test_memory_in_use_is_without_files_that_the_kernel_can_drop(tmp_path: Path) -> None:
    second = tmp_path / "v2"
    (second / "group").mkdir(parents=True)
    (second / "cgroup.controllers").touch()
    (second / "group" / "cpu.stat").write_text("usage_usec 2500000\n")
    (second / "group" / "memory.current").write_text("1000\n")
    (second / "group" / "memory.stat").write_text("anon 600\ninactive_file 300\n")
    assert cgroups.read_usage("group", second) == cgroups.Usage(2.5, 700)


def test_a_group_that_is_gone_used_nothing(tmp_path: Path) -> None:
    assert cgroups.oom_kills("absent", tmp_path) == 0
    assert cgroups.read_usage("absent", tmp_path).memory_bytes == 0


async def test_the_second_version_freezes_by_a_file_of_each_group(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    (tmp_path / "cgroup.controllers").touch()
    (folder / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    (folder / "cgroup.freeze").write_text("0")
    async with cgroups.frozen("group", tmp_path):
        assert (folder / "cgroup.freeze").read_text() == "1"
    assert (folder / "cgroup.freeze").read_text() == "0"


async def test_where_no_group_can_be_frozen_none_is(tmp_path: Path) -> None:
    async with cgroups.frozen("group", tmp_path):
        assert not list(tmp_path.iterdir())


@pytest.fixture
async def group() -> AsyncIterator[str]:
    name = "jiffy-test03"
    yield name
    await cgroups.remove_group(name)


@pytest.mark.root
async def test_a_group_is_removed_with_the_processes_and_groups_in_it(group: str) -> None:
    process = await begin(group, "sleep", "600")
    await cgroups.remove_group(group)
    assert await asyncio.wait_for(process.wait(), 5) == -9
    assert not folder_of(group).exists()


@pytest.mark.root
async def test_nothing_in_a_frozen_group_runs_until_it_is_over(group: str) -> None:
    process = await begin(group, "cat")
    assert process.stdin is not None and process.stdout is not None
    async with cgroups.frozen(group):
        process.stdin.write(b"a line\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.stdout.readline(), 0.1)
    assert await process.stdout.readline() == b"a line\n"


@pytest.mark.root
async def test_a_group_that_was_left_frozen_is_removed(group: str) -> None:
    process = await begin(group, "sleep", "600")
    async with cgroups.frozen(group):
        await cgroups.remove_group(group)
    assert await asyncio.wait_for(process.wait(), 5) == -9
    assert not folder_of(group).exists()


def folder_of(group: str) -> Path:
    return cgroups.ROOT / ("." if find_layout() is Layout.V2 else "freezer") / group


async def begin(group: str, *argv: str) -> Process:
    """A process in a group within the group."""
    inner = folder_of(group) / "inner"
    inner.mkdir(parents=True)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    (inner / "cgroup.procs").write_text(str(process.pid))
    return process
