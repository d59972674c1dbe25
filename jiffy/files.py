"""Small files that are made or replaced as a whole: who reads one sees the old or the new, whenever its writer is killed, or
the power goes."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Written aside and renamed, where a link leads. `private`: readable by its owner only."""
    path = path.resolve()
    with _written_aside(path, data, private) as temporary:
        temporary.rename(path)


def create_file(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """The same, unless it is there: of several who make it at once, one does."""
    path = path.resolve()
    with _written_aside(path, data, private) as temporary, contextlib.suppress(FileExistsError):
        path.hardlink_to(temporary)


@contextmanager
def _written_aside(path: Path, data: str | bytes, private: bool) -> Iterator[Path]:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600 if private else 0o644), "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
