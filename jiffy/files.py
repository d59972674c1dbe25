"""Small files that are replaced as a whole: who reads one sees the old or the new, whenever its writer is killed."""

from __future__ import annotations

from pathlib import Path


def replace_file(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Written aside and renamed. `private`: readable by its owner only."""
    temporary = path.with_suffix(".new")
    if private:
        temporary.touch(mode=0o600)
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    temporary.rename(path)
