"""The index: a filesystem tree as paths, stats and digests of contents. docs/FORMAT.md describes the bytes.

It is columnar: opening one maps the file and checks the header; entries are made only when they are asked for.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from jiffy.errors import CorruptError, InvalidError

MAGIC: Final = b"jiffyidx"
VERSION: Final = 1
LONGEST_NAME: Final = 255
LONGEST_PATH: Final = 4096
LONGEST_TARGET: Final = 4095
MOST_ENTRIES: Final = 10_000_000

_HEADER: Final = struct.Struct("<8sIIIIIIQQQ")
_RECORD: Final = struct.Struct("<IIIIIqIIIQ")
_NONE: Final = 0xFFFFFFFF
_UNUSUAL: Final = re.compile(rb"/(/|\.|$)")


class Kind(IntEnum):
    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    CHARACTER = 3
    BLOCK = 4
    FIFO = 5
    SOCKET = 6


_KINDS: Final = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Entry:
    """One path. `mode` is permission bits (0o7777), `size` and `digest` describe a file's content (no digest for an
    empty file), `target` a link's, `device` is an os.makedev number. Entries with equal `link` other than 0 are one
    inode. `xattrs` are sorted by name."""

    path: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    digest: str = ""
    target: bytes = b""
    device: int = 0
    link: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def sort_key(path: bytes) -> bytes:
    """The order of an index: by components, so that a directory is followed by all that is in it."""
    return path[1:].replace(b"/", b"\0")


def encode_index(entries: Iterable[Entry]) -> bytes:
    """The bytes of an index; the same tree always gives the same. InvalidError when the entries make no tree."""
    ordered = sorted(entries, key=lambda entry: sort_key(entry.path))
    _check_tree(ordered)
    strings = _Table()
    digests = _Table()
    xattrs = _Table()
    links: dict[int, int] = {}
    records = bytearray()
    for entry in ordered:
        records += _RECORD.pack(
            strings.add(entry.path[1:]),
            entry.kind << 12 | entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns % 10**9,
            entry.mtime_ns // 10**9,
            digests.add(bytes.fromhex(entry.digest)) if entry.digest else _target(strings, entry),
            links.setdefault(entry.link, len(links) + 1) if entry.link else 0,
            xattrs.add(_encode_xattrs(entry.xattrs)) if entry.xattrs else _NONE,
            entry.device if entry.kind in (Kind.CHARACTER, Kind.BLOCK) else entry.size,
        )
    columns = [bytes(records), strings.offsets(), b"".join(strings.values), b"".join(digests.values)]
    columns += [xattrs.offsets(), b"".join(xattrs.values)]
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        len(ordered),
        len(strings.values),
        len(digests.values),
        len(xattrs.values),
        0,
        len(columns[2]),
        len(columns[5]),
        sum(entry.size for entry in ordered),
    )
    return header + b"".join(columns)


class Index:
    """An index that was opened. Iteration and look-ups read it where it lies."""

    def __init__(self, data: bytes | memoryview | mmap.mmap) -> None:
        self._data = memoryview(data)
        if len(self._data) < _HEADER.size:
            raise CorruptError("not an index", why="it is too short")
        fields = _HEADER.unpack_from(self._data)
        if fields[0] != MAGIC:
            raise CorruptError("not an index", why="its first bytes are wrong")
        if fields[1] != VERSION:
            raise InvalidError(f"an index of version {fields[1]}", why=f"this jiffy reads version {VERSION}")
        _, _, self._count, strings, digests, xattrs, _, string_bytes, xattr_bytes, self._size = fields
        self._lay_out((strings, digests, xattrs), string_bytes, xattr_bytes)

    def _lay_out(self, counts: tuple[int, int, int], string_bytes: int, xattr_bytes: int) -> None:
        strings, digests, xattrs = counts
        offset = _HEADER.size
        columns = []
        for size in (
            self._count * _RECORD.size,
            4 * (strings + 1),
            string_bytes,
            32 * digests,
            4 * (xattrs + 1),
            xattr_bytes,
        ):
            columns.append(self._data[offset : offset + size])
            offset += size
        if offset != len(self._data):
            raise CorruptError("a broken index", why=f"it has {len(self._data)} bytes where {offset} belong")
        self._records, starts, self._strings, self._digests, xattr_starts, self._xattrs = columns
        self._starts = _Offsets(starts, len(self._strings))
        self._xattr_starts = _Offsets(xattr_starts, len(self._xattrs))

    @classmethod
    def load(cls, data: bytes | memoryview) -> Index:
        """From bytes. CorruptError or InvalidError when they are no index of this version."""
        return cls(data)

    @classmethod
    def from_file(cls, path: Path) -> Index:
        """Mapped, not read."""
        with path.open("rb") as file:
            try:
                return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except ValueError as error:
                raise CorruptError("not an index", why="it is empty") from error

    def __len__(self) -> int:
        return int(self._count)

    def __iter__(self) -> Iterator[Entry]:
        """Entries in order: each directory before what is in it."""
        return (self._entry(number) for number in range(self._count))

    def lookup(self, path: bytes) -> Entry | None:
        number = self._position(path)
        return self._entry(number) if number < self._count and self._path(number) == path else None

    def below(self, path: bytes) -> Iterator[Entry]:
        """The entry at a path, if there is one, and all that is in it."""
        prefix = path.rstrip(b"/") + b"/"
        for number in range(self._position(path), self._count):
            found = self._path(number)
            if found != path and not found.startswith(prefix):
                return
            yield self._entry(number)

    def _position(self, path: bytes) -> int:
        """Of the first entry that does not come before a path."""
        wanted = sort_key(path)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if sort_key(self._path(middle)) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def digests(self) -> Iterator[tuple[str, int]]:
        """Every object that the tree needs, once, with its size."""
        seen: set[int] = set()
        for number in range(self._count):
            record = _RECORD.unpack_from(self._records, number * _RECORD.size)
            if record[1] >> 12 == Kind.FILE and record[9] and record[6] not in seen:
                seen.add(record[6])
                yield self._digest(record[6]), record[9]

    def files(self) -> Iterator[tuple[bytes, str, int]]:
        """Path, digest and size of every file that has content, in the order of the paths."""
        return ((entry.path, entry.digest, entry.size) for entry in self if entry.kind == Kind.FILE and entry.digest)

    def total_size(self) -> int:
        """Bytes of all files, as a person who lists them would add them up."""
        return int(self._size)

    def _path(self, number: int) -> bytes:
        (string,) = struct.unpack_from("<I", self._records, number * _RECORD.size)
        return b"/" + self._string(string)

    def _entry(self, number: int) -> Entry:
        path, kind_mode, uid, gid, nanoseconds, seconds, content, link, xattrs, size = _RECORD.unpack_from(
            self._records, number * _RECORD.size
        )
        kind = _KINDS.get(kind_mode >> 12)
        if kind is None:
            raise CorruptError("a broken index", why=f"entry {number} is of no known kind")
        device = kind in (Kind.CHARACTER, Kind.BLOCK)
        return Entry(
            path=b"/" + self._string(path),
            kind=kind,
            mode=kind_mode & 0o7777,
            uid=uid,
            gid=gid,
            mtime_ns=seconds * 10**9 + nanoseconds,
            size=0 if device else size,
            digest=self._digest(content) if kind is Kind.FILE and size else "",
            target=self._string(content) if kind is Kind.SYMLINK else b"",
            device=size if device else 0,
            link=link,
            xattrs=() if xattrs == _NONE else self._xattr_set(xattrs),
        )

    def _string(self, number: int) -> bytes:
        start, end = self._starts.span(number)
        return bytes(self._strings[start:end])

    def _digest(self, number: int) -> str:
        raw = self._digests[32 * number : 32 * number + 32]
        if len(raw) != 32:
            raise CorruptError("a broken index", why=f"it has no digest {number}")
        return raw.hex()

    def _xattr_set(self, number: int) -> tuple[tuple[bytes, bytes], ...]:
        start, end = self._xattr_starts.span(number)
        return _decode_xattrs(bytes(self._xattrs[start:end]))


class _Table:
    """Values, each kept once and numbered in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self.values: list[bytes] = []

    def add(self, value: bytes) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number

    def offsets(self) -> bytes:
        """Where each value starts, and where the last one ends."""
        position = 0
        positions = [0]
        for value in self.values:
            position += len(value)
            positions.append(position)
        return struct.pack(f"<{len(positions)}I", *positions)


class _Offsets:
    """The starts of values in a column of `length` bytes."""

    def __init__(self, data: memoryview, length: int) -> None:
        self._data = data
        self._length = length

    def span(self, number: int) -> tuple[int, int]:
        if (number + 2) * 4 > len(self._data):
            raise CorruptError("a broken index", why=f"it has no value {number}")
        start, end = struct.unpack_from("<II", self._data, number * 4)
        if not start <= end <= self._length:
            raise CorruptError("a broken index", why=f"value {number} is not inside its column")
        return start, end


def _target(strings: _Table, entry: Entry) -> int:
    return strings.add(entry.target) if entry.kind is Kind.SYMLINK else _NONE


def _encode_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(struct.pack("<HI", len(name), len(value)) + name + value for name, value in xattrs)


def _decode_xattrs(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    pairs = []
    position = 0
    while position < len(data):
        try:
            name_length, value_length = struct.unpack_from("<HI", data, position)
        except struct.error:
            raise CorruptError("a broken index", why="an attribute ends too early") from None
        middle = position + 6 + name_length
        position = middle + value_length
        if position > len(data):
            raise CorruptError("a broken index", why="an attribute ends too early")
        pairs.append((data[middle - name_length : middle], data[middle:position]))
    return tuple(pairs)


def _check_tree(ordered: list[Entry]) -> None:
    if not ordered or ordered[0].path != b"/":
        raise InvalidError("a tree without a root")
    if len(ordered) > MOST_ENTRIES:
        raise InvalidError(f"a tree of {len(ordered)} entries", why=f"the most is {MOST_ENTRIES}")
    if sum(entry.size for entry in ordered) >= 2**64:
        raise InvalidError("a tree of more bytes than can be counted")
    directories = {entry.path for entry in ordered if entry.kind is Kind.DIRECTORY}
    previous = None
    for entry in ordered:
        if entry.path == previous:
            raise InvalidError(f"{entry.path!r} is there twice")
        previous = entry.path
        _check_entry(entry)
        parent = entry.path.rpartition(b"/")[0] or b"/"
        if parent not in directories:
            raise InvalidError(f"{entry.path!r} is in no directory")


def _check_entry(entry: Entry) -> None:
    path = entry.path
    if not path.startswith(b"/") or len(path) > LONGEST_PATH or b"\0" in path:
        raise InvalidError(f"{path[:100]!r} is not a path")
    if path != b"/" and (len(path) > LONGEST_NAME or _UNUSUAL.search(path)):
        _check_names(path)
    if bool(entry.digest) != (entry.kind is Kind.FILE and entry.size > 0) or entry.size < 0:
        raise InvalidError(f"{path!r}: a file has a digest exactly when it has content")
    if entry.kind is Kind.SYMLINK and not 0 < len(entry.target) <= LONGEST_TARGET:
        raise InvalidError(f"{path!r}: a link of {len(entry.target)} bytes")
    if not 0 <= entry.mode <= 0o7777 or not -(2**33) <= entry.mtime_ns // 10**9 < 2**34:
        raise InvalidError(f"{path!r} has a mode or time that cannot be")
    if not (0 <= entry.uid < 2**32 and 0 <= entry.gid < 2**32 and 0 <= entry.device < 2**64):
        raise InvalidError(f"{path!r} has an owner or device that cannot be")
    if entry.xattrs and list(entry.xattrs) != sorted(dict(entry.xattrs).items()):
        raise InvalidError(f"{path!r}: its attributes are not sorted, or one is there twice")


def _check_names(path: bytes) -> None:
    if any(name in (b"", b".", b"..") or len(name) > LONGEST_NAME for name in path[1:].split(b"/")):
        raise InvalidError(f"{path[:100]!r} has a component that cannot be")
