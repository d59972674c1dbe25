"""A folder of this host as entries; its files become objects."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jiffy.image.index import Entry, Kind
from jiffy.objects.local import ObjectBatch


def import_folder(folder: Path, objects: ObjectBatch) -> list[Entry]:
    """Files, links and folders. Owners and times are left out, so that the same contents give the same index."""
    return [_entry(folder, path, objects) for path in [folder, *sorted(folder.rglob("*"))]]


def _entry(folder: Path, path: Path, objects: ObjectBatch) -> Entry:
    name = b"/" if path == folder else b"/" + os.fsencode(path.relative_to(folder))
    if path.is_symlink():
        target = os.readlink(os.fsencode(path))  # noqa: PTH115, a Path would change how it is written
        return Entry(path=name, kind=Kind.SYMLINK, mode=0o777, target=target)
    if path.is_dir():
        return Entry(path=name, kind=Kind.DIRECTORY, mode=0o755)
    data = path.read_bytes()
    mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
    return Entry(path=name, kind=Kind.FILE, mode=mode, size=len(data), digest=objects.put(data) if data else "")
