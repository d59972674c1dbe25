"""The trees of volumes: what is put into them, taken away, copied and listed. Paths are as people write them, absolute or
not.

Nothing here knows of containers or clients: a tree and a wish give a tree.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.image.index import Entry, Index, Kind

ROOT: Final = Entry(b"/", Kind.DIRECTORY, 0o755)
Entries = dict[bytes, Entry]


def parse_path(text: str) -> bytes:
    """`/` for the whole. InvalidError for one that leads out."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in text:
        raise InvalidError(f"{text!r} is no path in a volume")
    return b"/" + "/".join(parts).encode()


def read_entries(index: Index) -> Entries:
    return {entry.path: entry for entry in index}


def put_files(entries: Entries, files: Iterable[Entry], *, only_new: bool) -> None:
    """Add files, with the folders that they are in. With `only_new`, ConflictError where there is one already."""
    for file in files:
        there = entries.get(file.path)
        if there is not None and (only_new or there.kind is Kind.DIRECTORY):
            kind = "folder" if there.kind is Kind.DIRECTORY else "file"
            raise ConflictError(f"there is a {kind} {_text(file.path)} already", hint="--force replaces files")
        _make_parents(entries, file.path)
        entries[file.path] = replace(file, mtime_ns=file.mtime_ns or time.time_ns())


def remove(entries: Entries, path: bytes, *, recursive: bool) -> None:
    """A file or, with `recursive`, all of a folder."""
    there = _find(entries, path)
    if path == b"/":
        raise InvalidError("the root of a volume cannot be removed", hint="remove what is in it")
    if there.kind is Kind.DIRECTORY and not recursive:
        raise InvalidError(f"{_text(path)} is a folder", hint="remove it with --recursive")
    for gone in [each for each in entries if each == path or each.startswith(path + b"/")]:
        del entries[gone]


def copy(entries: Entries, sources: list[bytes], target: bytes, *, recursive: bool) -> None:
    """As cp does: into a folder that is there, or to a new name."""
    is_folder = target in entries and entries[target].kind is Kind.DIRECTORY
    if len(sources) > 1 and not is_folder:
        raise InvalidError(f"{_text(target)} is no folder", why="several files are to be copied there")
    for source in sources:
        there = _find(entries, source)
        if there.kind is Kind.DIRECTORY and not recursive:
            raise InvalidError(f"{_text(source)} is a folder", hint="copy it with --recursive")
        base = target.rstrip(b"/") + b"/" + source.rpartition(b"/")[2] if is_folder else target
        if base.startswith(source + b"/"):
            raise InvalidError(f"{_text(source)} cannot be copied into itself")
        _make_parents(entries, base)
        for entry in [each for path, each in entries.items() if path == source or path.startswith(source + b"/")]:
            moved = base + entry.path[len(source) :]
            entries[moved] = replace(entry, path=moved, link=0, mtime_ns=time.time_ns())


def list_folder(index: Index, path: bytes, *, recursive: bool) -> Iterator[Entry]:
    """What is in a folder, or a file itself."""
    there = index.lookup(path)
    if there is None:
        raise NotFoundError(f"no file or folder {_text(path)} is in the volume")
    if there.kind is not Kind.DIRECTORY:
        yield there
        return
    prefix = path.rstrip(b"/") + b"/"
    for entry in index.below(path):
        if entry.path != path and (recursive or b"/" not in entry.path[len(prefix) :]):
            yield entry


def _find(entries: Entries, path: bytes) -> Entry:
    if (entry := entries.get(path)) is None:
        raise NotFoundError(f"no file or folder {_text(path)} is in the volume")
    return entry


def _make_parents(entries: Entries, path: bytes) -> None:
    while (path := path.rpartition(b"/")[0]) not in (b"", b"/"):
        there = entries.get(path)
        if there is not None and there.kind is not Kind.DIRECTORY:
            raise ConflictError(f"{_text(path)} is a file, no folder")
        if there is None:
            entries[path] = Entry(path, Kind.DIRECTORY, 0o755, mtime_ns=time.time_ns())


def _text(path: bytes) -> str:
    return path.decode(errors="replace")
