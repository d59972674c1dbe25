"""The protocol of /dev/fuse, as far as a read-only tree of objects needs it (linux/fuse.h, version 7.40)."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from fcntl import ioctl
from typing import Final

from jiffy.fs.tuning import Tuning

HEADER: Final = struct.Struct("<IIQQIIIHH")
REPLY: Final = struct.Struct("<IiQ")
ATTRIBUTES: Final = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY: Final = struct.Struct("<QQQQII")
ATTRIBUTES_REPLY: Final = struct.Struct("<QII")
OPEN_REPLY: Final = struct.Struct("<QIi")
INIT: Final = struct.Struct("<IIIII")
INIT_REPLY: Final = struct.Struct("<IIIIHHIIHHII24x")
READ: Final = struct.Struct("<QQI")
XATTR: Final = struct.Struct("<II")
DIRENT: Final = struct.Struct("<QQII")
RELEASE: Final = struct.Struct("<Q")
STATISTICS: Final = struct.Struct("<QQQQQIII28x")

_IOC_CLONE: Final = 0x8004E500
_IOC_BACKING_OPEN: Final = 0x4010E501
_IOC_BACKING_CLOSE: Final = 0x4004E502

ROOT: Final = 1
FOREVER: Final = 86400 * 365
"""Seconds for which the kernel may keep what it was told."""

INIT_EXTENDED: Final = 1 << 30
ASYNC_READ: Final = 1 << 0
PARALLEL_LOOKUPS: Final = 1 << 18
MAX_PAGES: Final = 1 << 22
PASSTHROUGH: Final = 1 << 37
READDIRPLUS: Final = 1 << 13
READDIRPLUS_AUTO: Final = 1 << 14
CACHE_SYMLINKS: Final = 1 << 23
WANTED: Final = INIT_EXTENDED | ASYNC_READ | PARALLEL_LOOKUPS | MAX_PAGES

_KEEP_CACHE: Final = 1 << 1
_NO_FLUSH: Final = 1 << 5
"""Nobody waits for the daemon when he closes a file: not the process that is to start it, either."""

_PASSTHROUGH: Final = 1 << 7
OPEN_DIRECT: Final = 1 << 0 | _NO_FLUSH
OPEN_CACHED: Final = _KEEP_CACHE | _NO_FLUSH
OPEN_THROUGH: Final = _PASSTHROUGH | _NO_FLUSH
_NOTIFY_INVAL_INODE: Final = 2
_INVALIDATION: Final = struct.Struct("<Qqq")

_LONGEST_WRITE: Final = 4096


class Operation(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the kernel. `body` is what follows the header."""

    operation: int
    unique: int
    node: int
    body: memoryview


def read_request(descriptor: int, buffer: memoryview) -> Request:
    """Wait for a request. OSError: ENODEV when the mount is gone, EINTR and ENOENT when it should be tried again."""
    if not os.readv(descriptor, [buffer]):
        raise OSError(errno.ENODEV, "the connection is closed")
    return parse_request(buffer)


def parse_request(buffer: memoryview) -> Request:
    """The request that stands at the start of a buffer."""
    size, operation, unique, node, *_ = HEADER.unpack_from(buffer)
    return Request(operation, unique, node, buffer[HEADER.size : size])


def agree(body: memoryview, wanted: int, tuning: Tuning) -> tuple[int, bytes]:
    """Of the flags that are wanted those that the kernel offers in its first request, and the answer to that. Kernels before
    5.17 have half of the flags."""
    _, _, read_ahead, flags, flags_high = INIT.unpack_from(bytes(body).ljust(INIT.size, b"\0"))
    offered = flags | flags_high << 32 if flags & INIT_EXTENDED else flags
    agreed = offered & wanted
    reply = INIT_REPLY.pack(
        *(7, 40, read_ahead, agreed & 0xFFFFFFFF, tuning.background, tuning.congestion),
        *(_LONGEST_WRITE, 1, tuning.pages, 0),
        *(agreed >> 32, 1 if agreed & PASSTHROUGH else 0),
    )
    return agreed, reply


def send_reply(descriptor: int, unique: int, *parts: bytes) -> None:
    size = REPLY.size + sum(map(len, parts))
    os.writev(descriptor, (REPLY.pack(size, 0, unique), *parts))


def send_error(descriptor: int, unique: int, number: int) -> None:
    os.write(descriptor, REPLY.pack(REPLY.size, -number, unique))


def send_invalidation(descriptor: int, node: int) -> None:
    """Have the kernel forget a node's attributes, and ask for them again."""
    body = _INVALIDATION.pack(node, -1, 0)
    try:
        os.writev(descriptor, (REPLY.pack(REPLY.size + len(body), _NOTIFY_INVAL_INODE, 0), body))
    except FileNotFoundError:
        return  # the kernel does not know the node any more


def clone_device(descriptor: int) -> int:
    """Another descriptor of the same connection, so that threads do not wait for each other."""
    clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    ioctl(clone, _IOC_CLONE, struct.pack("<I", descriptor))
    return clone


def open_backing(descriptor: int, file: int) -> int:
    """Register a file to which the kernel passes reads through; OSError where it cannot."""
    return int(ioctl(descriptor, _IOC_BACKING_OPEN, bytearray(struct.pack("<iIQ", file, 0, 0)), True))


def close_backing(descriptor: int, backing: int) -> None:
    ioctl(descriptor, _IOC_BACKING_CLOSE, struct.pack("<I", backing))


def attributes(
    node: int, mode: int, size: int, links: int, owner: tuple[int, int] = (0, 0), time_ns: int = 0, device: int = 0
) -> bytes:
    """`mode` with the bits of the kind, `owner` as user and group, `device` in the kernel's form."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    times = (*(seconds % 2**64,) * 3, *(nanoseconds,) * 3)
    return ATTRIBUTES.pack(node, size, -(-size // 512), *times, mode, links, *owner, device, 4096, 0)


def directory_entry(node: int, following: int, kind: int, name: bytes) -> bytes:
    """`following` is where to go on after it, `kind` the upper four bits of a mode."""
    return (DIRENT.pack(node, following, len(name), kind) + name).ljust(-(-(DIRENT.size + len(name)) // 8) * 8, b"\0")
