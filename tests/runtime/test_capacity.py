"""A worker offers what its machine has, or what it may use of it."""

from __future__ import annotations

import os
from pathlib import Path

from jiffy.runtime.capacity import find_capacity

MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def groups(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_limits_it_is_the_machine_less_a_share_of_the_memory(tmp_path: Path) -> None:
    found = find_capacity(groups(tmp_path, {"cgroup.controllers": "cpu memory"}))
    assert found.cpu_millis == 1000 * len(os.sched_getaffinity(0))
    assert found.memory_bytes == int(0.9 * MEMORY)


def test_limits_of_version_2_are_kept(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "cpu memory", "memory.max": f"{MEMORY // 2}\n", "cpu.max": "50000 100000\n"}
    found = find_capacity(groups(tmp_path, files))
    assert found.cpu_millis == 500
    assert found.memory_bytes == int(0.9 * (MEMORY // 2))


def test_a_group_without_limits_says_so_in_words(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "cpu memory", "memory.max": "max\n", "cpu.max": "max 100000\n"}
    assert find_capacity(groups(tmp_path, files)) == find_capacity(
        groups(tmp_path / "none", {"cgroup.controllers": ""})
    )


def test_limits_of_version_1_are_kept(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": str(MEMORY // 4),
        "cpu/cpu.cfs_quota_us": "25000",
        "cpu/cpu.cfs_period_us": "100000",
    }
    found = find_capacity(groups(tmp_path, files))
    assert found.cpu_millis == 250
    assert found.memory_bytes == int(0.9 * (MEMORY // 4))


def test_a_quota_below_zero_is_none(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    assert find_capacity(groups(tmp_path, files)).cpu_millis == 1000 * len(os.sched_getaffinity(0))
