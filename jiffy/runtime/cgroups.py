"""Control groups, of version 1, 2, or both at once: where containers are put, what killed them, what they used.

Everything of one instance is below one group named for it, so whatever a killed worker left can be found and removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_FREEZER: Final = "freezer.state"
"""Of version 1."""

_REMOVAL_SECONDS: Final = 5.0
_FREEZE_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.005


class Layout(StrEnum):
    """`HYBRID`: version 1 controllers, with an empty version 2 tree at /sys/fs/cgroup/unified."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_seconds: float
    memory_bytes: int


def find_layout(root: Path = ROOT) -> Layout:
    if (root / "cgroup.controllers").exists():
        return Layout.V2
    return Layout.HYBRID if (root / "unified" / "cgroup.controllers").exists() else Layout.V1


def parent_group(instance: str) -> str:
    """The group of an instance, below which each container has its own."""
    return f"jiffy-{instance}"


def oom_kills(group: str, root: Path = ROOT) -> int:
    """How many processes of a group the kernel killed for want of memory; 0 when the group is gone."""
    if find_layout(root) is Layout.V2:
        return _read_field(root / group / "memory.events", "oom_kill")
    return _read_field(root / "memory" / group / "memory.oom_control", "oom_kill")


def read_usage(group: str, root: Path = ROOT) -> Usage:
    """CPU time used so far, and memory in use now without files that the kernel can drop; zeros when the group is gone."""
    if find_layout(root) is Layout.V2:
        microseconds = _read_field(root / group / "cpu.stat", "usage_usec")
        memory, field = root / group, "inactive_file"
        return Usage(microseconds / 1e6, _working_set(memory / "memory.current", memory / "memory.stat", field))
    nanoseconds = _read_number(root / "cpuacct" / group / "cpuacct.usage")
    memory, field = root / "memory" / group, "total_inactive_file"
    return Usage(nanoseconds / 1e9, _working_set(memory / "memory.usage_in_bytes", memory / "memory.stat", field))


def _working_set(current: Path, details: Path, field: str) -> int:
    return max(0, _read_number(current) - _read_field(details, field))


def processes(group: str, root: Path = ROOT) -> set[int]:
    """All that are in a group or below it."""
    found: set[int] = set()
    for folder in _folders(group, root):
        for procs in folder.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(map(int, procs.read_text().split()))
    return found


@contextlib.asynccontextmanager
async def frozen(group: str, root: Path = ROOT) -> AsyncIterator[None]:
    """Nothing in a group or below it runs meanwhile. What the kernel cannot freeze soon, because it waits for a disk, say,
    is not waited for; nothing is frozen where no group can be."""
    folder = root / group if find_layout(root) is Layout.V2 else root / "freezer" / group
    try:
        await _freeze(folder)
        yield
    finally:
        _thaw(folder)


async def remove_group(group: str, root: Path = ROOT) -> None:
    """Kill whatever is in a group and below, and remove it from every hierarchy. Nothing happens when it is gone."""
    folders = [folder for folder in _folders(group, root) if folder.is_dir()]
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while folders:
        for folder in folders:
            _kill_all(folder)
            _thaw_all(folder)
        folders = [folder for folder in folders if not _remove_tree(folder)]
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes in {folders[0]} do not die")
        if folders:
            await asyncio.sleep(_STEP_SECONDS)


def _folders(group: str, root: Path) -> list[Path]:
    if find_layout(root) is Layout.V2:
        return [root / group]
    return [hierarchy / group for hierarchy in root.iterdir() if hierarchy.is_dir() and not hierarchy.is_symlink()]


async def _freeze(folder: Path) -> None:
    """What is forked as it freezes may need to be told again."""
    deadline = time.monotonic() + _FREEZE_SECONDS
    while _try_to_write(folder / _FREEZER, "FROZEN") or _try_to_write(folder / "cgroup.freeze", "1"):
        if _is_frozen(folder) or time.monotonic() > deadline:
            return
        await asyncio.sleep(_STEP_SECONDS)


def _is_frozen(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return (folder / _FREEZER).read_text().strip() == "FROZEN"
    return _read_field(folder / "cgroup.events", "frozen") == 1


def _thaw(folder: Path) -> None:
    _try_to_write(folder / _FREEZER, "THAWED")
    _try_to_write(folder / "cgroup.freeze", "0")


def _thaw_all(folder: Path) -> None:
    """In version 1 what is frozen does not even die."""
    if (folder / _FREEZER).exists():
        for path in folder.rglob(_FREEZER):
            _try_to_write(path, "THAWED")


def _try_to_write(path: Path, text: str) -> bool:
    """False when it is not there, or is about to be gone."""
    with contextlib.suppress(OSError), path.open("rb+", buffering=0) as file:
        file.write(text.encode())
        return True
    return False


def _kill_all(folder: Path) -> None:
    for procs in folder.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            for pid in procs.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def _remove_tree(folder: Path) -> bool:
    """True when it is gone; False while something in it still dies."""
    groups = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for path in [*groups, folder]:
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
    return True


def _read_field(path: Path, field: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == field:
                return int(value)
    return 0


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
