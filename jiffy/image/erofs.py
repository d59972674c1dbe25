"""Writes an index as an EROFS image: names and stats for the kernel, each file a pointer to its object.

A file has its size and no data: overlayfs finds the data in its data-only layers by the `redirect` attribute. The layout
on disk is that of the kernel's fs/erofs/erofs_fs.h; docs/FORMAT.md says what of it is used.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from jiffy.image.index import Entry, Index, Kind
from jiffy.objects.base import object_path

BLOCK: Final = 4096
SLOT: Final = 32
SUPERBLOCK_OFFSET: Final = 1024
SUPERBLOCK: Final = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23s")
MAGIC: Final = 0xE0F5E1E2
_COMPAT_MTIME: Final = 0x2
_INCOMPAT_CHUNKED_FILE: Final = 0x4
_LAYOUT_PLAIN: Final = 0
LAYOUT_INLINE: Final = 2
_LAYOUT_CHUNKS: Final = 4
COMPACT: Final = struct.Struct("<HHHHIIIIHHI")
EXTENDED: Final = struct.Struct("<HHHHQIIIIQII16s")
DIRENT: Final = struct.Struct("<QHBB")
XATTR_HEADER: Final = struct.Struct("<IB7x")
XATTR_ENTRY: Final = struct.Struct("<BBH")
_LONGEST_TAIL: Final = 2048
_HOLE: Final = 0xFFFFFFFF

FORMAT_BITS: Final = {
    Kind.FILE: 0o100000,
    Kind.DIRECTORY: 0o040000,
    Kind.SYMLINK: 0o120000,
    Kind.CHARACTER: 0o020000,
    Kind.BLOCK: 0o060000,
    Kind.FIFO: 0o010000,
    Kind.SOCKET: 0o140000,
}
_DIRENT_TYPES: Final = {
    Kind.FILE: 1,
    Kind.DIRECTORY: 2,
    Kind.CHARACTER: 3,
    Kind.BLOCK: 4,
    Kind.FIFO: 5,
    Kind.SOCKET: 6,
    Kind.SYMLINK: 7,
}
PREFIXES: Final = (
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
)
OVERLAY: Final = b"trusted.overlay."
METACOPY: Final = b"trusted.overlay.metacopy"
REDIRECT: Final = b"trusted.overlay.redirect"


class Output(Protocol):
    """What an image is written to, from its start."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(slots=True)
class _Inode:
    """One inode on its way to the image. `blocks` are whole blocks of data, `tail` follows the inode itself."""

    entry: Entry
    children: list[tuple[bytes, _Inode]] = field(default_factory=list)
    parent: _Inode | None = None
    nlink: int = 1
    offset: int = 0
    extended: bool = False
    layout: int = _LAYOUT_PLAIN
    xattrs: bytes = b""
    size: int = 0
    block_count: int = 0
    first_block: int = 0
    tail_size: int = 0

    @property
    def nid(self) -> int:
        return self.offset // SLOT

    @property
    def head_size(self) -> int:
        return (EXTENDED.size if self.extended else COMPACT.size) + len(self.xattrs)


def write_erofs(index: Index, output: Output) -> None:
    """Write the image of an index. The same index gives the same bytes."""
    inodes = _collect(index)
    time, nanoseconds = divmod(_commonest_time(inodes), 10**9)
    for inode in inodes:
        _measure(inode, time * 10**9 + nanoseconds)
    metadata_size = _place(inodes)
    shared_block = -(-metadata_size // BLOCK)
    blocks = _place_blocks(inodes, shared_block + 1)
    metadata = bytearray(shared_block * BLOCK)
    data = bytearray()
    for inode in inodes:
        _write_inode(inode, metadata, data)
    metadata[SUPERBLOCK_OFFSET : SUPERBLOCK_OFFSET + SUPERBLOCK.size] = _superblock(
        root=inodes[0].nid, count=len(inodes), time=time, nanoseconds=nanoseconds, blocks=blocks, shared=shared_block
    )
    output.write(bytes(metadata))
    output.write(_shared_xattrs().ljust(BLOCK, b"\0"))
    output.write(bytes(data))


def _collect(index: Index) -> list[_Inode]:
    """The inodes, the root first; hard links share one."""
    inodes: list[_Inode] = []
    directories: dict[bytes, _Inode] = {}
    linked: dict[int, _Inode] = {}
    for entry in index:
        inode = linked.get(entry.link) if entry.link else None
        if inode is None:
            inode = _Inode(entry)
            inodes.append(inode)
            if entry.link:
                linked[entry.link] = inode
        else:
            inode.nlink += 1
        if entry.path != b"/":
            folder, _, name = entry.path.rpartition(b"/")
            parent = directories[folder or b"/"]
            parent.children.append((name, inode))
        if entry.kind is Kind.DIRECTORY:
            inode.nlink = 2
            inode.parent = inode
            directories[entry.path] = inode
            if entry.path != b"/":
                inode.parent = parent
                parent.nlink += 1
    return inodes


def _commonest_time(inodes: list[_Inode]) -> int:
    """Inodes with the superblock's time can be small. It cannot be before 1970."""
    counts = Counter(inode.entry.mtime_ns for inode in inodes if inode.entry.mtime_ns >= 0)
    return max(counts, key=lambda time: (counts[time], -time), default=0)


def _measure(inode: _Inode, common_time: int) -> None:
    """Decide an inode's form, and the size of all that belongs to it."""
    entry = inode.entry
    inode.xattrs = _encode_xattrs(entry)
    if entry.kind is Kind.DIRECTORY:
        _measure_directory(inode)
    elif entry.kind is Kind.SYMLINK:
        inode.size = len(entry.target)
        if inode.size <= _LONGEST_TAIL:
            inode.layout, inode.tail_size = LAYOUT_INLINE, inode.size
        else:
            inode.block_count = 1
    elif entry.kind is Kind.FILE and entry.size:
        inode.layout, inode.tail_size, inode.size = _LAYOUT_CHUNKS, 4, entry.size
    inode.extended = (
        entry.mtime_ns != common_time or max(entry.uid, entry.gid, inode.nlink) > 0xFFFF or inode.size >= 2**32
    )


def _measure_directory(inode: _Inode) -> None:
    sizes = [_used(group) for group in _group_names(inode)]
    inode.size = (len(sizes) - 1) * BLOCK + sizes[-1]
    if sizes[-1] <= _LONGEST_TAIL:
        inode.layout, inode.tail_size, inode.block_count = LAYOUT_INLINE, sizes[-1], len(sizes) - 1
    else:
        inode.block_count = len(sizes)


def _group_names(inode: _Inode) -> list[list[tuple[bytes, _Inode]]]:
    """A directory's names in order, split into what fits a block."""
    assert inode.parent is not None
    names = sorted([*inode.children, (b".", inode), (b"..", inode.parent)], key=lambda child: child[0])
    groups: list[list[tuple[bytes, _Inode]]] = [[]]
    used = 0
    for child in names:
        need = DIRENT.size + len(child[0])
        if used + need > BLOCK:
            groups.append([])
            used = 0
        groups[-1].append(child)
        used += need
    return groups


def _used(group: list[tuple[bytes, _Inode]]) -> int:
    return sum(DIRENT.size + len(name) for name, _ in group)


def _place(inodes: list[_Inode]) -> int:
    """Give each inode its offset; a tail never crosses a block. Gives the end of the last one."""
    position = SUPERBLOCK_OFFSET + SUPERBLOCK.size
    for inode in inodes:
        position = -(-position // SLOT) * SLOT
        tail_start = position + inode.head_size
        if inode.layout == LAYOUT_INLINE and tail_start % BLOCK + inode.tail_size > BLOCK:
            position = _clear_of_block_end(position, inode)
        inode.offset = position
        position += inode.head_size + inode.tail_size
    return position


def _clear_of_block_end(position: int, inode: _Inode) -> int:
    while (position + inode.head_size) % BLOCK + inode.tail_size > BLOCK:
        position += SLOT
    return position


def _place_blocks(inodes: list[_Inode], first: int) -> int:
    for inode in inodes:
        inode.first_block = first
        first += inode.block_count
    return first


def _write_inode(inode: _Inode, metadata: bytearray, data: bytearray) -> None:
    head = _encode_inode(inode) + inode.xattrs
    blocks, tail = _contents(inode)
    metadata[inode.offset : inode.offset + len(head) + len(tail)] = head + tail
    data += blocks


def _contents(inode: _Inode) -> tuple[bytes, bytes]:
    """What goes to whole blocks, and what follows the inode."""
    if inode.layout == _LAYOUT_CHUNKS:
        return b"", struct.pack("<I", _HOLE)
    if inode.entry.kind is Kind.DIRECTORY:
        groups = [_encode_names(group) for group in _group_names(inode)]
        whole, tail = (groups[:-1], groups[-1]) if inode.tail_size else (groups, b"")
        return b"".join(group.ljust(BLOCK, b"\0") for group in whole), tail
    if inode.entry.kind is Kind.SYMLINK:
        target = inode.entry.target
        return (target.ljust(BLOCK, b"\0"), b"") if inode.block_count else (b"", target)
    return b"", b""


def _encode_names(group: list[tuple[bytes, _Inode]]) -> bytes:
    position = len(group) * DIRENT.size
    entries = bytearray()
    for name, inode in group:
        entries += DIRENT.pack(inode.nid, position, _DIRENT_TYPES[_written_kind(inode.entry)], 0)
        position += len(name)
    return bytes(entries) + b"".join(name for name, _ in group)


def _encode_inode(inode: _Inode) -> bytes:
    entry = inode.entry
    format_version = inode.layout << 1 | inode.extended
    xattr_count = 1 + (len(inode.xattrs) - XATTR_HEADER.size) // 4 if inode.xattrs else 0
    mode = FORMAT_BITS[_written_kind(entry)] | entry.mode
    union = _encode_union(inode)
    if not inode.extended:
        return COMPACT.pack(
            *(format_version, xattr_count, mode, inode.nlink, inode.size, 0, union, inode.nid, entry.uid, entry.gid, 0)
        )
    seconds, nanoseconds = divmod(entry.mtime_ns, 10**9)
    return EXTENDED.pack(
        *(format_version, xattr_count, mode, 0, inode.size, union, inode.nid, entry.uid, entry.gid),
        *(seconds % 2**64, nanoseconds, inode.nlink, bytes(16)),
    )


def _encode_union(inode: _Inode) -> int:
    """The field that means a chunk format, a device or a first block, as the inode's kind has it."""
    entry = inode.entry
    if inode.layout == _LAYOUT_CHUNKS:
        return min(max((entry.size - 1).bit_length(), 12), 43) - 12
    if _written_kind(entry) in (Kind.CHARACTER, Kind.BLOCK):
        major, minor = os.major(entry.device), os.minor(entry.device)
        return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    return inode.first_block if inode.block_count else 0


def _is_whiteout(entry: Entry) -> bool:
    return entry.kind is Kind.CHARACTER and entry.device == 0


def _written_kind(entry: Entry) -> Kind:
    """A device 0:0 would hide what lies below: overlayfs takes an escaped attribute on an empty file instead."""
    return Kind.FILE if _is_whiteout(entry) else entry.kind


def _xattrs(entry: Entry) -> Iterator[tuple[bytes, bytes]]:
    for name, value in entry.xattrs:
        yield (OVERLAY + b"overlay." + name[len(OVERLAY) :] if name.startswith(OVERLAY) else name), value
    if _is_whiteout(entry):
        yield OVERLAY + b"overlay.whiteout", b""
    if entry.digest:
        yield REDIRECT, b"/" + object_path(entry.digest).encode()


def _encode_xattrs(entry: Entry) -> bytes:
    """The attributes of an inode; every file with content shares one entry, the empty metacopy."""
    own = b"".join(_encode_xattr(name, value) for name, value in _xattrs(entry))
    shared = struct.pack("<I", 0) if entry.digest else b""
    if not own and not shared:
        return b""
    return XATTR_HEADER.pack(0, len(shared) // 4) + shared + own


def _encode_xattr(name: bytes, value: bytes) -> bytes:
    for prefix, number in PREFIXES:
        if name.startswith(prefix):
            suffix = name[len(prefix) :]
            encoded = XATTR_ENTRY.pack(len(suffix), number, len(value)) + suffix + value
            return encoded + bytes(-len(encoded) % 4)
    return b""


def _shared_xattrs() -> bytes:
    return _encode_xattr(METACOPY, b"")


def _superblock(*, root: int, count: int, time: int, nanoseconds: int, blocks: int, shared: int) -> bytes:
    return SUPERBLOCK.pack(
        *(MAGIC, 0, _COMPAT_MTIME, 12, 0, root, count, time, nanoseconds, blocks, 0, shared),
        *(bytes(16), bytes(16), _INCOMPAT_CHUNKED_FILE, 0, 0, 0, 0, 0, 0, 0, 0, bytes(23)),
    )
