"""COPY: entries of one tree placed in another. No byte of a file is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from jiffy.errors import InvalidError, NotFoundError
from jiffy.image.index import Entry, Kind
from jiffy.image.tree import Tree

_WILDCARD: Final = re.compile(r"[*?\[\\]")
_PIVOT: Final = b"/./"
_SYMBOLIC: Final = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_BITS: Final = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO: Final = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where sources go, and as whose. `target` is an absolute path; with / at its end it is a folder. `owner` of None keeps
    what they have; so does a `mode` that is empty, else octal or as in `u=rwX,go=rX`."""

    target: str
    owner: tuple[int, int] | None = None
    mode: str = ""
    parents: bool = False
    excluded: tuple[str, ...] = ()


def place_entries(source: Tree, patterns: Sequence[str], lower: Tree, placement: Placement) -> list[Entry]:
    """The entries that sources become over a tree; they are still to be grafted on it. NotFoundError when there is no
    source, InvalidError when it cannot be placed."""
    found = [path for pattern in patterns for path in match_paths(source, pattern)]
    into = placement.target.endswith(("/", "/.")) or placement.parents
    target = _clean(placement.target)
    existing = lower.find(target)
    if len(found) > 1 and not into and (existing is None or existing.kind is not Kind.DIRECTORY):
        raise InvalidError(
            f"several sources for {placement.target}", hint="a folder that ends with / can take more than one"
        )
    into = into or (existing is not None and existing.kind is Kind.DIRECTORY)
    change = _Changer(placement)
    placed: dict[bytes, Entry] = {}
    for path, kept in found:
        for entry in _place(source, path, target, into, kept if placement.parents else None):
            if (changed := change(entry, target)) is not None:
                placed[changed.path] = changed
    return list(placed.values())


def read_mode(text: str, mode: int, *, folder: bool) -> int:
    """Permission bits after a --chmod. InvalidError when it makes no sense."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        return int(text, 8)
    for part in text.split(","):
        match = _SYMBOLIC.fullmatch(part)
        if match is None:
            raise InvalidError(f"--chmod={text}", why="it is neither octal nor such as u=rwX,go=rX")
        mode = _apply_symbolic(mode, match[1] or "a", match[2], match[3], folder=folder)
    return mode


def compile_pattern(pattern: str) -> re.Pattern[bytes]:
    """A pattern of paths, with `*`, `?`, `[...]` within one name and `**` over many, as a regular expression."""
    parts = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
                parts.append("(?:.*/)?")
            else:
                parts.append(".*")
            continue
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[" and (end := pattern.find("]", position + 2)) > 0:
            inside = pattern[position + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]")
            position = end
        elif character == "\\" and position + 1 < len(pattern):
            position += 1
            parts.append(re.escape(pattern[position]))
        else:
            parts.append(re.escape(character))
        position += 1
    try:
        return re.compile(f"(?s:{''.join(parts)})\\Z".encode("utf-8", "surrogateescape"))
    except re.error as error:
        raise InvalidError(f"{pattern!r} is no pattern", why=str(error)) from error


class _Changer:
    """Gives a placed entry its owner and mode; None for one that is excluded."""

    def __init__(self, placement: Placement) -> None:
        self._owner = placement.owner
        self._mode = placement.mode
        self._excluded = [compile_pattern(pattern.strip("/")) for pattern in placement.excluded]

    def __call__(self, entry: Entry, target: bytes) -> Entry | None:
        inside = entry.path.removeprefix(target).strip(b"/")
        if any(pattern.match(part) for pattern in self._excluded for part in _prefixes(inside)):
            return None
        if self._owner is not None:
            entry = replace(entry, uid=self._owner[0], gid=self._owner[1])
        if self._mode and entry.kind is not Kind.SYMLINK:
            entry = replace(entry, mode=read_mode(self._mode, entry.mode, folder=entry.kind is Kind.DIRECTORY))
        return entry


def _prefixes(path: bytes) -> Iterator[bytes]:
    parts = path.split(b"/")
    return (b"/".join(parts[: count + 1]) for count in range(len(parts)))


def _place(source: Tree, path: bytes, target: bytes, into: bool, kept: bytes | None) -> Iterator[Entry]:
    """One source. `kept` is the part of its path that stays, with --parents."""
    resolved = source.resolve(path)
    entry = source.lookup(resolved)
    assert entry is not None
    if kept is not None:
        target = _join(target, kept)
        if entry.kind is not Kind.DIRECTORY:
            yield replace(entry, path=target)
            return
    if entry.kind is Kind.DIRECTORY:
        for found in source.below(resolved):
            inside = found.path[len(resolved.rstrip(b"/")) :].lstrip(b"/")
            yield replace(found, path=_join(target, inside))
    else:
        yield replace(entry, path=_join(target, path.rpartition(b"/")[2]) if into else target)


def match_paths(source: Tree, pattern: str) -> list[tuple[bytes, bytes]]:
    """The paths that a pattern means, each with the part after its pivot `/./`."""
    name = "/" + pattern.lstrip("/")
    before, pivot, after = name.partition(_PIVOT.decode())
    cleaned = _clean(name)
    kept = _clean("/" + after).lstrip(b"/") if pivot else cleaned.lstrip(b"/")
    if not _WILDCARD.search(pattern):
        if source.find(cleaned) is None:
            raise NotFoundError(f"{pattern} is not there to be copied")
        return [(cleaned, kept)]
    skipped = len(_clean(before).rstrip(b"/")) + 1 if pivot else 1
    return [(path, path[skipped:]) for path in _glob(source, [b"/"], cleaned.decode().strip("/").split("/"))]


def _glob(source: Tree, found: list[bytes], names: Sequence[str]) -> list[bytes]:
    for name in names:
        matches = compile_pattern(name)
        following = []
        for folder in found:
            resolved = source.resolve(folder)
            for entry in _children(source, resolved):
                base = entry.path.rpartition(b"/")[2]
                if matches.match(base):
                    following.append(_join(folder, base))
        found = following
    return sorted(path for path in found if source.find(path) is not None)


def _children(source: Tree, folder: bytes) -> list[Entry]:
    prefix = folder.rstrip(b"/") + b"/"
    return [entry for entry in source.below(folder) if entry.path != folder and b"/" not in entry.path[len(prefix) :]]


def _join(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name if name else folder


def _clean(path: str) -> bytes:
    """An absolute path without `.`, `..` and doubled slashes; `..` never leaves the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return b"/" + "/".join(parts).encode("utf-8", "surrogateescape")


def _apply_symbolic(mode: int, who: str, operator: str, letters: str, *, folder: bool) -> int:
    mask = 0
    for letter in who:
        mask |= _WHO[letter]
    bits = 0
    for letter in letters:
        if letter == "X":
            bits |= _BITS["x"] if folder or mode & 0o111 else 0
        elif letter == "s":
            bits |= 0o6000
        elif letter == "t":
            bits |= 0o1000
        else:
            bits |= _BITS[letter]
    bits &= mask
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return (mode & ~(mask & 0o777)) | bits
