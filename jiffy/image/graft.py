"""Fits loose entries onto trees that lie below them, so that overlayfs can stack the result on those trees.

Overlayfs merges directories by name and takes the attributes of the topmost one, and a directory hides a link of the same
name. So an upper layer must put its files where the links below lead, and repeat the attributes of the folders below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.index import Entry, Index, Kind

_MOST_LINKS: Final = 40


def graft(lowers: Sequence[Index], entries: Iterable[Entry]) -> list[Entry]:
    """The entries of a layer for the top of `lowers` (topmost first): parents added, links below followed."""
    grafted: dict[bytes, Entry] = {}
    for entry in entries:
        if entry.kind is Kind.DIRECTORY:
            path = _resolve(lowers, entry.path)
            grafted.setdefault(path, _directory(lowers, path, entry))
        else:
            folder, _, name = entry.path.rpartition(b"/")
            parent = _resolve(lowers, folder or b"/")
            path = parent.rstrip(b"/") + b"/" + name
            grafted[path] = replace(entry, path=path)
    for path in list(grafted):
        _add_parents(lowers, grafted, path)
    return list(grafted.values())


def _add_parents(lowers: Sequence[Index], grafted: dict[bytes, Entry], path: bytes) -> None:
    while path != b"/":
        path = path.rpartition(b"/")[0] or b"/"
        if path in grafted:
            if grafted[path].kind is not Kind.DIRECTORY:
                raise InvalidError(f"{path!r} cannot be both a file and a folder")
            return
        grafted[path] = _directory(lowers, path, Entry(path=path, kind=Kind.DIRECTORY, mode=0o755))


def _directory(lowers: Sequence[Index], path: bytes, entry: Entry) -> Entry:
    below = _find(lowers, path)
    if below is not None and below.kind is Kind.DIRECTORY:
        return below
    return replace(entry, path=path)


def _find(lowers: Sequence[Index], path: bytes) -> Entry | None:
    return next((found for index in lowers if (found := index.lookup(path)) is not None), None)


def _resolve(lowers: Sequence[Index], path: bytes) -> bytes:
    """Where a folder's path leads once the links below are followed; `..` never leaves the root."""
    pending = [name for name in path.split(b"/") if name][::-1]
    resolved: list[bytes] = []
    links = 0
    while pending:
        name = pending.pop()
        if name == b"..":
            del resolved[-1:]
            continue
        if name == b".":
            continue
        found = _find(lowers, b"/" + b"/".join([*resolved, name]))
        if found is None or found.kind is not Kind.SYMLINK:
            resolved.append(name)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise InvalidError(f"{path!r} leads through a loop of links")
        if found.target.startswith(b"/"):
            resolved.clear()
        pending.extend([name for name in found.target.split(b"/") if name][::-1])
    return b"/" + b"/".join(resolved)
