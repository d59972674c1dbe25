"""Which parts of a large object were read: those in the page cache, or, of a partial one, that were asked for."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from jiffy.objects.chunks import CHUNK
from jiffy.objects.partial import READ
from jiffy.objects.profile import Ranges, join_ranges

_libc: Final = ctypes.CDLL(None, use_errno=True)
_SYS_CACHESTAT: Final = 451
_RANGE: Final = struct.Struct("<QQ")
_STATISTICS: Final = struct.Struct("<QQQQQ")


def forget_pages(path: Path) -> None:
    """Have the page cache drop a file's content, but for what is mapped. Nothing happens when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def resident_ranges(path: Path) -> Ranges:
    """The chunks of a file of which the page cache holds something; the whole of it where the kernel cannot tell."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        starts = range(0, size, CHUNK)
        return _join(start for start in starts if _is_resident(descriptor, start))
    finally:
        os.close(descriptor)


def read_ranges(have: Path) -> Ranges:
    """The chunks of a partial object that its map tells to have been read."""
    return _join(number * CHUNK for number, state in enumerate(have.read_bytes()) if state & READ)


def _join(starts: Iterable[int]) -> Ranges:
    return join_ranges((start, CHUNK) for start in starts)


def _is_resident(descriptor: int, start: int) -> bool:
    """cachestat(2), Linux 6.5."""
    statistics = ctypes.create_string_buffer(_STATISTICS.size)
    if _libc.syscall(_SYS_CACHESTAT, descriptor, _RANGE.pack(start, CHUNK), statistics, 0) != 0:
        return True
    return bool(_STATISTICS.unpack(statistics.raw)[0])
