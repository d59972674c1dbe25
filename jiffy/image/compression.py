"""Compressed streams, known by their first bytes."""

from __future__ import annotations

import bz2
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

ERRORS: Final[tuple[type[Exception], ...]] = (
    EOFError,
    OSError,
    cast(type[Exception], IsalError),
    lzma.LZMAError,
    zstandard.ZstdError,
)
"""What a broken stream raises when it is read."""

_PIECE: Final = 2**18
_GZIP: Final = 31
"""Window bits that make zlib read and check gzip's header and trailer."""


def decompress(stream: BinaryIO, start: bytes) -> BinaryIO:
    """A stream, which begins with `start`, without its compression: gzip, bzip2, xz, zstd or none."""
    if start.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, _Gunzip(stream))
    if start.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if start.startswith(b"\xfd7zXZ\0"):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if start.startswith(b"\x28\xb5\x2f\xfd") or start[1:4] == b"\x2a\x4d\x18":
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(stream, _PIECE, read_across_frames=True))
    return stream


@contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """A file without its compression."""
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        yield decompress(file, start)


class _Gunzip(io.RawIOBase):
    """All members of a gzip stream, one after the other. The standard library's reads in pieces of 8 KiB,
    and takes twice as long."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._member: Any = isal_zlib.decompressobj(_GZIP)
        self._compressed = b""
        self._began = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if not self._compressed:
                self._compressed = self._source.read(_PIECE)
                if not self._compressed:
                    self._check_end()
                    return 0
            self._began = True
            data = self._member.decompress(self._compressed, len(buffer))
            self._compressed = self._member.unconsumed_tail
            if self._member.eof:
                self._compressed = self._member.unused_data.lstrip(b"\0")
                self._member = isal_zlib.decompressobj(_GZIP)
                self._began = bool(self._compressed)
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _check_end(self) -> None:
        if self._began:
            raise EOFError("the gzip stream ends too early")
