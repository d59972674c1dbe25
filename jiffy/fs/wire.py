"""The protocol of /dev/fuse, as far as a read-only tree of objects needs it (linux/fuse.h, version 7.40)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from fcntl import ioctl
from typing import Final

HEADER: Final = struct.Struct("<IIQQIIIHH")
REPLY: Final = struct.Struct("<IiQ")
ATTRIBUTES: Final = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY: Final = struct.Struct("<QQQQII")
ATTRIBUTES_REPLY: Final = struct.Struct("<QII")
OPEN_REPLY: Final = struct.Struct("<QIi")
INIT: Final = struct.Struct("<IIIII")
INIT_REPLY: Final = struct.Struct("<IIIIHHIIHHII24x")
READ: Final = struct.Struct("<QQI")
RELEASE: Final = struct.Struct("<Q")
STATISTICS: Final = struct.Struct("<QQQQQIII28x")

REQUEST_SIZE: Final = (1 << 20) + 8192

_IOC_CLONE: Final = 0x8004E500
_IOC_BACKING_OPEN: Final = 0x4010E501
_IOC_BACKING_CLOSE: Final = 0x4004E502

INIT_EXTENDED: Final = 1 << 30
ASYNC_READ: Final = 1 << 0
PARALLEL_LOOKUPS: Final = 1 << 18
MAX_PAGES: Final = 1 << 22
PASSTHROUGH: Final = 1 << 37
RESEND: Final = 1 << 39
WANTED: Final = INIT_EXTENDED | ASYNC_READ | PARALLEL_LOOKUPS | MAX_PAGES | PASSTHROUGH | RESEND

OPEN_KEEP_CACHE: Final = 1 << 1
OPEN_PASSTHROUGH: Final = 1 << 7
_NOTIFY_RESEND: Final = 7
_NOTIFY_INVAL_INODE: Final = 2
_INVALIDATION: Final = struct.Struct("<Qqq")


class Operation(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the kernel. `body` is what follows the header."""

    operation: int
    unique: int
    node: int
    body: memoryview


def read_request(descriptor: int, buffer: bytearray) -> Request:
    """Wait for a request. OSError: ENODEV when the mount is gone, EINTR and ENOENT when it should be tried again."""
    size = os.readv(descriptor, [buffer])
    _, operation, unique, node, *_ = HEADER.unpack_from(buffer)
    return Request(operation, unique, node, memoryview(buffer)[HEADER.size : size])


def send_reply(descriptor: int, unique: int, *parts: bytes) -> None:
    size = REPLY.size + sum(map(len, parts))
    os.writev(descriptor, (REPLY.pack(size, 0, unique), *parts))


def send_error(descriptor: int, unique: int, number: int) -> None:
    os.write(descriptor, REPLY.pack(REPLY.size, -number, unique))


def send_resend(descriptor: int) -> None:
    """Ask the kernel for the requests again that a dead daemon had taken."""
    os.write(descriptor, REPLY.pack(REPLY.size, _NOTIFY_RESEND, 0))


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


def attributes(node: int, mode: int, size: int, links: int) -> bytes:
    return ATTRIBUTES.pack(node, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)
