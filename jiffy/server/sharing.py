"""What the servers of one store share: a folder that all of them see, with the objects and the keys.

In each server's data directory links lead there, so that whatever reads a data directory finds them where they always are.
"""

from __future__ import annotations

from pathlib import Path

from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError


def share(data: DataDirectory, folder: Path) -> None:
    """Have a data directory's lasting contents in a folder. ConflictError when it has contents of its own."""
    folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (data.objects, data.incoming, data.partial, data.layers, data.remote):
        (folder / path.name).mkdir(exist_ok=True)
        _link(path, folder)
    for path in (data.signing_key, data.certificate, data.synced):
        _link(path, folder)


def _link(path: Path, folder: Path) -> None:
    target = folder / path.name
    if path.is_symlink() and path.readlink() == target:
        return
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()
    if path.is_symlink() or path.exists():
        raise ConflictError(
            f"{path} is this server's own",
            why=f"servers that share {folder} have it there",
            hint="start with an empty data directory, or move it there while no server runs",
        )
    path.symlink_to(target)
