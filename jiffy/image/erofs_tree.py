"""Reads the trees of EROFS images that erofs.py wrote, where the kernel is not to: nodes by number, nothing kept in memory.

A node's number is its place in the image, so whoever knows one finds it again in another process.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jiffy.errors import CorruptError
from jiffy.image.erofs import (
    BLOCK,
    COMPACT,
    DIRENT,
    EXTENDED,
    LAYOUT_INLINE,
    MAGIC,
    METACOPY,
    PREFIXES,
    REDIRECT,
    SLOT,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    XATTR_ENTRY,
    XATTR_HEADER,
)
from jiffy.objects.base import Digest

_PREFIX_NAMES = {number: prefix for prefix, number in PREFIXES}


@dataclass(frozen=True, slots=True)
class Node:
    """One inode. `mode` has the kind's bits too, `device` is in the kernel's 32-bit form, `size` of a file that of its
    content, which is elsewhere."""

    number: int
    mode: int
    links: int
    size: int
    uid: int
    gid: int
    mtime_ns: int
    layout: int
    union: int
    xattrs_start: int
    xattrs_size: int

    @property
    def device(self) -> int:
        return self.union

    @property
    def tail(self) -> int:
        """Where what follows the inode begins."""
        return self.xattrs_start + self.xattrs_size


class ErofsTree:
    """The tree of an image. Reading raises CorruptError where the image is broken."""

    def __init__(self, image: bytes | mmap.mmap) -> None:
        self._image = memoryview(image)
        try:
            fields = SUPERBLOCK.unpack_from(self._image, SUPERBLOCK_OFFSET)
        except struct.error:
            raise CorruptError("not an EROFS image", why="it is too short") from None
        if fields[0] != MAGIC:
            raise CorruptError("not an EROFS image", why="its magic number is wrong")
        self.root = int(fields[5])
        self._time_ns = fields[7] * 10**9 + fields[8]
        self._shared_xattrs = fields[11] * BLOCK

    def node(self, number: int) -> Node:
        start = number * SLOT
        try:
            (form,) = struct.unpack_from("<H", self._image, start)
            if form & 1:
                _, xattrs, mode, _, size, union, _, uid, gid, seconds, nanoseconds, links, _ = EXTENDED.unpack_from(
                    self._image, start
                )
                time = (seconds - 2**64 if seconds >= 2**63 else seconds) * 10**9 + nanoseconds
                head = EXTENDED.size
            else:
                _, xattrs, mode, links, size, _, union, _, uid, gid, _ = COMPACT.unpack_from(self._image, start)
                time, head = self._time_ns, COMPACT.size
        except struct.error:
            raise CorruptError("a broken image", why=f"it has no node {number}") from None
        xattrs_size = XATTR_HEADER.size + 4 * (xattrs - 1) if xattrs else 0
        return Node(number, mode, links, size, uid, gid, time, form >> 1 & 7, union, start + head, xattrs_size)

    def look_up(self, parent: Node, name: bytes) -> int | None:
        """The number of a name's node; None when there is no such name."""
        try:
            which = _last_not_after(name, _block_count(parent), lambda number: _name(self._block(parent, number), 0))
            if which < 0:
                return None
            block = self._block(parent, which)
            place = _last_not_after(name, _count(block), lambda number: _name(block, number))
            return _entry(block, place)[0] if place >= 0 and _name(block, place) == name else None
        except struct.error:
            raise _broken_directory(parent) from None

    def names(self, parent: Node, skip: int = 0) -> Iterator[tuple[bytes, int]]:
        """What is in a directory, in order, but for so many names at its start: names, `.` and `..` too, and the numbers of
        their nodes."""
        try:
            for which in range(_block_count(parent)):
                block = self._block(parent, which)
                count = _count(block)
                for place in range(skip, count):
                    yield _name(block, place), _entry(block, place)[0]
                skip = max(0, skip - count)
        except struct.error:
            raise _broken_directory(parent) from None

    def target(self, node: Node) -> bytes:
        """Of a symbolic link."""
        start = node.tail if node.layout == LAYOUT_INLINE else node.union * BLOCK
        return bytes(self._image[start : start + node.size])

    def xattrs(self, node: Node) -> dict[bytes, bytes]:
        """All of them, overlayfs' own too."""
        if not node.xattrs_size:
            return {}
        try:
            _, shared = XATTR_HEADER.unpack_from(self._image, node.xattrs_start)
            position = node.xattrs_start + XATTR_HEADER.size
            places = struct.unpack_from(f"<{shared}I", self._image, position)
            found = [self._xattr(self._shared_xattrs + 4 * place)[:2] for place in places]
            position += 4 * shared
            while position < node.tail:
                name, value, position = self._xattr(position)
                found.append((name, value))
        except struct.error:
            raise CorruptError("a broken image", why="an attribute ends too early") from None
        return dict(found)

    def digest(self, node: Node) -> Digest:
        """The object that holds a file's content; empty for an empty file."""
        attributes = self.xattrs(node)
        return attributes[REDIRECT].replace(b"/", b"").decode() if METACOPY in attributes else ""

    def _xattr(self, start: int) -> tuple[bytes, bytes, int]:
        """Name, value, and where the next one begins."""
        length, prefix, size = XATTR_ENTRY.unpack_from(self._image, start)
        middle = start + XATTR_ENTRY.size + length
        name = _PREFIX_NAMES[prefix] + bytes(self._image[middle - length : middle])
        return name, bytes(self._image[middle : middle + size]), -(-(middle + size) // 4) * 4

    def _block(self, parent: Node, which: int) -> memoryview:
        """Of a directory; the last may follow the inode."""
        left = parent.size - which * BLOCK
        is_tail = left < BLOCK and parent.layout == LAYOUT_INLINE
        start = parent.tail if is_tail else (parent.union + which) * BLOCK
        return self._image[start : start + min(left, BLOCK)]


def _block_count(parent: Node) -> int:
    return -(-parent.size // BLOCK)


def _entry(block: memoryview, place: int) -> tuple[int, int]:
    """The node's number, and where the name begins."""
    number, start, _, _ = DIRENT.unpack_from(block, DIRENT.size * place)
    return number, start


def _count(block: memoryview) -> int:
    """The first name begins where the entries end."""
    return _entry(block, 0)[1] // DIRENT.size


def _name(block: memoryview, place: int) -> bytes:
    """Names follow one another; after the last there may be zeros."""
    start = _entry(block, place)[1]
    if place + 1 < _count(block):
        return bytes(block[start : _entry(block, place + 1)[1]])
    return bytes(block[start:]).rstrip(b"\0")


def _last_not_after(name: bytes, count: int, name_of: Callable[[int], bytes]) -> int:
    """Which of so many sorted names is the last that does not come after a name; -1 when all do."""
    return bisect_right(range(count), name, key=name_of) - 1


def _broken_directory(parent: Node) -> CorruptError:
    return CorruptError("a broken image", why=f"the directory {parent.number} ends too early")
