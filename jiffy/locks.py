"""Locks on files: one process at a time does what a lock stands for. The file holds its pid; the kernel ends the lock with
the process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jiffy.errors import ConflictError


@contextmanager
def hold_lock(path: Path, who: str) -> Iterator[None]:
    """`who` says what the holder is, such as "server". ConflictError when there is one already."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"a {who} runs on {path.parent} already",
                why=f"process {lock_holder(path)}",
                hint="`jiffy stop` ends it",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_holder(path: Path) -> int | None:
    """The process that holds a lock, None when nobody does."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except FileNotFoundError:
        return None
    return None
