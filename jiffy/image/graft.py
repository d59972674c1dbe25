"""Fits loose entries onto trees that lie below them, so that overlayfs can stack the result on those trees.

Overlayfs merges directories by name and takes the attributes of the topmost one, and a directory hides a link of the same
name. So an upper layer must put its files where the links below lead, and repeat the attributes of the folders below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from jiffy.errors import InvalidError
from jiffy.image.index import Entry, Kind
from jiffy.image.tree import Tree


def graft(lower: Tree, entries: Iterable[Entry]) -> list[Entry]:
    """The entries of a layer for the top of a tree: parents added, links below followed."""
    grafted: dict[bytes, Entry] = {}
    for entry in entries:
        if entry.kind is Kind.DIRECTORY:
            path = lower.resolve(entry.path)
            grafted.setdefault(path, _directory(lower, path, entry))
        else:
            folder, _, name = entry.path.rpartition(b"/")
            parent = lower.resolve(folder or b"/")
            path = parent.rstrip(b"/") + b"/" + name
            grafted[path] = replace(entry, path=path)
    for path in list(grafted):
        _add_parents(lower, grafted, path)
    return list(grafted.values())


def _add_parents(lower: Tree, grafted: dict[bytes, Entry], path: bytes) -> None:
    while path != b"/":
        path = path.rpartition(b"/")[0] or b"/"
        if path in grafted:
            if grafted[path].kind is not Kind.DIRECTORY:
                raise InvalidError(f"{path!r} cannot be both a file and a folder")
            return
        grafted[path] = _directory(lower, path, Entry(path=path, kind=Kind.DIRECTORY, mode=0o755))


def _directory(lower: Tree, path: bytes, entry: Entry) -> Entry:
    below = lower.lookup(path)
    if below is not None and below.kind is Kind.DIRECTORY:
        return below
    return replace(entry, path=path)
