"""Which processes have files open below a mount point, as they themselves name it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def has_open_files(pids: Iterable[int], target: str) -> bool:
    """Whether one of the processes has a file open on what is mounted at `target`, or works in a folder there."""
    return any(_has_open_file(Path("/proc") / str(pid), target) for pid in pids)


def _has_open_file(process: Path, target: str) -> bool:
    """A process that has ended has none."""
    with contextlib.suppress(OSError):
        if _is_below(str((process / "cwd").readlink()), target):
            return True
        mounts = _mounts_at(process, target)
        return any(_mount_of(each) in mounts for each in (process / "fdinfo").iterdir())
    return False


def _mounts_at(process: Path, target: str) -> set[str]:
    lines = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    return {words[0] for words in lines if _is_below(words[4], target)}


def _mount_of(information: Path) -> str:
    with contextlib.suppress(OSError):
        for line in information.read_text().splitlines():
            if line.startswith("mnt_id:"):
                return line.split()[1]
    return ""


def _is_below(path: str, target: str) -> bool:
    return path == target or path.startswith(target.rstrip("/") + "/")
