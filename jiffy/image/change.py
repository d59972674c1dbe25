"""What a container changed of its root: read from the upper folder of its overlay, applied to the tree that it stood on.

The upper folder *is* the change, so nothing of the tree below is looked at on the host where the container ran: a file of
which only the attributes changed and a folder that was moved are told by the path that they had. Those paths are looked up
where the indexes are.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from jiffy.errors import CorruptError, InvalidError
from jiffy.image.index import Entry, Index, Kind, encode_index, sort_key
from jiffy.image.tree import Tree
from jiffy.objects.base import Digest

_MAGIC: Final = b"jiffychg"
_LENGTH: Final = struct.Struct("<Q")
_OVERLAY: Final = "trusted.overlay."
_ESCAPED: Final = "trusted.overlay.overlay."
_METACOPY: Final = "trusted.overlay.metacopy"
_REDIRECT: Final = "trusted.overlay.redirect"
_OPAQUE: Final = "trusted.overlay.opaque"
_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}


@dataclass(slots=True)
class Change:
    """`entries`: what is new or different, with the folders that lead there. `removed`: paths that are gone; `opaque`:
    folders that show nothing of what lay below. `moved`: folders, and the path whose contents they have from below;
    `untouched`: files whose content is that of a path below. Those paths are absolute, or a name in the same folder."""

    entries: list[Entry] = field(default_factory=list)
    removed: set[bytes] = field(default_factory=set)
    opaque: set[bytes] = field(default_factory=set)
    moved: dict[bytes, bytes] = field(default_factory=dict)
    untouched: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Applied:
    """A change in terms of the tree below it: `entries` lie over it, once all that is at or below the paths of `hidden` was
    taken away."""

    entries: list[Entry]
    hidden: set[bytes]


def capture_change(upper: Path, store: Callable[[Path], Digest]) -> Change:
    """Read an upper folder that is mounted no more. `store` makes each file with content an object; it may move it away."""
    return _Capture(os.fsencode(upper), store).run()


def encode_change(change: Change) -> bytes:
    """The same change always gives the same bytes. Folders that lead to an entry may be missing."""
    known = {entry.path for entry in change.entries}
    implied = {b"/", *(parent for path in known for parent in _ancestry(path))} - known
    header = {
        "implied": [_text(path) for path in sorted(implied)],
        "removed": [_text(path) for path in sorted(change.removed)],
        "opaque": [_text(path) for path in sorted(change.opaque)],
        "moved": {_text(path): _text(change.moved[path]) for path in sorted(change.moved)},
        "untouched": {_text(path): _text(change.untouched[path]) for path in sorted(change.untouched)},
    }
    text = json.dumps(header).encode()
    folders = [Entry(path, Kind.DIRECTORY, 0o755) for path in implied]
    return _MAGIC + _LENGTH.pack(len(text)) + text + encode_index([*change.entries, *folders])


def read_change(data: bytes) -> Change:
    """CorruptError or InvalidError when the bytes are no change."""
    start = len(_MAGIC) + _LENGTH.size
    if not data.startswith(_MAGIC) or len(data) < start:
        raise CorruptError("not a change", why="its first bytes are wrong")
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        header = json.loads(data[start : start + length])
        implied = {_path(text) for text in header["implied"]}
        return Change(
            entries=[entry for entry in Index.load(data[start + length :]) if entry.path not in implied],
            removed={_path(text) for text in header["removed"]},
            opaque={_path(text) for text in header["opaque"]},
            moved={_path(key): _path(value) for key, value in header["moved"].items()},
            untouched={_path(key): _path(value) for key, value in header["untouched"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError("not a change", why=str(error)) from error


def apply_change(lower: Tree, change: Change, ignored: Collection[bytes] = ()) -> Applied:
    """What a change means on the tree that it was made on. `ignored` are paths where something was mounted meanwhile: the
    empty file or folder that was made for it is no change."""
    applied = _Application(lower, change).run()
    applied.entries = _without_mount_points(lower, applied.entries, ignored)
    return applied


def flatten(lower: Tree, applied: Applied) -> Iterator[Entry]:
    """All of a tree with a change applied to it."""
    entries = {entry.path: entry for entry in lower if not is_hidden(entry.path, applied.hidden)}
    links = max((entry.link for entry in entries.values()), default=0)
    for entry in applied.entries:
        entries[entry.path] = replace(entry, link=entry.link + links) if entry.link else entry
    return iter(entries.values())


def is_hidden(path: bytes, hidden: Collection[bytes]) -> bool:
    """Whether a path is one of some, or is in one of them."""
    return bool(hidden) and any(parent in hidden for parent in _ancestry(path))


def _ancestry(path: bytes) -> Iterator[bytes]:
    """A path and all folders that it is in, but /."""
    while path not in (b"/", b""):
        yield path
        path = path.rpartition(b"/")[0]


class _Capture:
    def __init__(self, upper: bytes, store: Callable[[Path], Digest]) -> None:
        self._upper = upper
        self._store = store
        self._change = Change()
        self._links: dict[int, Entry] = {}

    def run(self) -> Change:
        self._add(b"/", self._upper)
        return self._change

    def _add(self, path: bytes, at: bytes) -> None:
        status = os.lstat(at)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            self._change.removed.add(path)
            return
        attributes = {name: os.getxattr(at, name, follow_symlinks=False) for name in _list_attributes(at)}
        if (first := self._links.get(status.st_ino)) is not None and not stat.S_ISDIR(status.st_mode):
            self._add_name(path, first, attributes)
            return
        entry = self._entry(path, at, status, attributes)
        if status.st_nlink > 1 and entry.kind is not Kind.DIRECTORY:
            self._links[status.st_ino] = entry = replace(entry, link=len(self._links) + 1)
        self._change.entries.append(entry)
        if entry.kind is Kind.DIRECTORY:
            self._add_folder(path, at, attributes)

    def _add_name(self, path: bytes, first: Entry, attributes: Mapping[str, bytes]) -> None:
        """One more name of a file."""
        self._change.entries.append(replace(first, path=path))
        if _METACOPY in attributes:
            self._change.untouched[path] = self._change.untouched[first.path]

    def _add_folder(self, path: bytes, at: bytes, attributes: Mapping[str, bytes]) -> None:
        if attributes.get(_OPAQUE) == b"y":
            self._change.opaque.add(path)
        elif _REDIRECT in attributes:
            self._change.moved[path] = attributes[_REDIRECT]
        with os.scandir(at) as found:
            names = sorted(each.name for each in found)
        for name in names:
            self._add(path.rstrip(b"/") + b"/" + name, at + b"/" + name)

    def _entry(self, path: bytes, at: bytes, status: os.stat_result, attributes: Mapping[str, bytes]) -> Entry:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        entry = Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            xattrs=_kept_attributes(attributes),
        )
        match kind:
            case Kind.SYMLINK:
                return replace(entry, target=os.readlink(at))  # noqa: PTH115, a Path would change how it is written
            case Kind.CHARACTER | Kind.BLOCK:
                return replace(entry, device=status.st_rdev)
            case Kind.FILE if _METACOPY in attributes:
                self._change.untouched[path] = attributes.get(_REDIRECT, path.rpartition(b"/")[2])
            case Kind.FILE if status.st_size:
                return replace(entry, size=status.st_size, digest=self._store(Path(os.fsdecode(at))))
        return entry


def _list_attributes(at: bytes) -> list[str]:
    return os.listxattr(at, follow_symlinks=False)


def _kept_attributes(attributes: Mapping[str, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Those of the file itself: overlayfs keeps its own beside them, and those of an overlay within escaped."""
    kept = {}
    for name, value in attributes.items():
        if name.startswith(_ESCAPED):
            kept[os.fsencode(_OVERLAY + name.removeprefix(_ESCAPED))] = value
        elif not name.startswith(_OVERLAY):
            kept[os.fsencode(name)] = value
    return tuple(sorted(kept.items()))


class _Application:
    def __init__(self, lower: Tree, change: Change) -> None:
        self._lower = lower
        self._change = change
        self._result: dict[bytes, Entry] = {}
        self._hidden: set[bytes] = set()
        self._links = max((entry.link for entry in change.entries), default=0)

    def run(self) -> Applied:
        entries = {entry.path: entry for entry in self._change.entries}
        for path in sorted({*entries, *self._change.removed}, key=sort_key):
            if path in self._change.removed:
                self._remove(path)
            else:
                self._put(entries[path])
        return Applied(list(self._result.values()), self._hidden)

    def _remove(self, path: bytes) -> None:
        self._take_away(path)
        if self._lower.lookup(path) is not None:
            self._hidden.add(path)

    def _put(self, entry: Entry) -> None:
        path = entry.path
        if path in self._change.moved:
            self._take_away(path)
            self._hide(path)
            self._expand(path)
        elif path in self._change.opaque or entry.kind is not Kind.DIRECTORY:
            self._take_away(path)
            self._hide(path)
        if path in self._change.untouched:
            below = self._lower.lookup(self._origin(path, self._change.untouched[path]))
            if below is None or below.kind is not Kind.FILE:
                raise InvalidError(f"{path!r} has the content of a file that is not there")
            entry = replace(entry, size=below.size, digest=below.digest)
        self._result[path] = entry

    def _hide(self, path: bytes) -> None:
        """What was a folder there is not seen any more."""
        below = self._lower.lookup(path)
        if path != b"/" and below is not None and below.kind is Kind.DIRECTORY:
            self._hidden.add(path)

    def _expand(self, path: bytes) -> None:
        """A folder that was moved has the contents of where it was."""
        origin = self._origin(path, self._change.moved[path])
        links: dict[int, int] = {}
        for entry in self._lower.below(origin):
            if entry.path != origin:
                moved = path + entry.path[len(origin) :]
                link = links.setdefault(entry.link, self._next_link()) if entry.link else 0
                self._result[moved] = replace(entry, path=moved, link=link)

    def _next_link(self) -> int:
        self._links += 1
        return self._links

    def _origin(self, path: bytes, told: bytes) -> bytes:
        """Where a thing lies below: as an absolute path, or as a name in the folder that its own folder comes from."""
        if told.startswith(b"/"):
            return told
        return self._below(path.rpartition(b"/")[0]).rstrip(b"/") + b"/" + told

    def _below(self, folder: bytes) -> bytes:
        """The path that a folder has in the tree below."""
        if not folder or folder == b"/":
            return b"/"
        if folder in self._change.moved:
            return self._origin(folder, self._change.moved[folder])
        parent, _, name = folder.rpartition(b"/")
        return self._below(parent).rstrip(b"/") + b"/" + name

    def _take_away(self, path: bytes) -> None:
        """What came here with a folder that was moved."""
        if any(parent in self._change.moved for parent in _ancestry(path)):
            inside = path + b"/"
            gone = [found for found in self._result if found == path or found.startswith(inside)]
            for found in gone:
                del self._result[found]


def _without_mount_points(lower: Tree, entries: Iterable[Entry], ignored: Collection[bytes]) -> list[Entry]:
    kept = {entry.path: entry for entry in entries}
    for path in sorted({parent for each in ignored for parent in _ancestry(each)}, key=len, reverse=True):
        entry = kept.get(path)
        if entry is None or lower.lookup(path) is not None or any(other.startswith(path + b"/") for other in kept):
            continue
        if entry.kind is Kind.DIRECTORY or (entry.kind is Kind.FILE and not entry.size):
            del kept[path]
    return list(kept.values())


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _path(text: Any) -> bytes:
    if not isinstance(text, str):
        raise CorruptError("not a change", why=f"{text!r} is no path")
    return text.encode("utf-8", "surrogateescape")
