"""Chunks of large objects: a list says which bytes each chunk has, so that parts of an object can be fetched, verified
and read before the rest is here.

A list is an object itself. A chunk map tells the list of each large object of an image; who trusts the map's digest can
trust every byte. Both begin with a magic word; numbers are little-endian:

    list: `jiffychk`, u64 size of the object, u32 size of a chunk, u32 hash, then 32 bytes a chunk: its digest
    map:  `jiffymap`, then 64 bytes a large object: its sha256, and that of its list
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from blake3 import blake3

from jiffy.errors import CorruptError
from jiffy.objects.base import DIGEST_BYTES, Digest

LARGE: Final = 4 * 2**20
"""Objects of at least so many bytes have a list."""

CHUNK: Final = 2**20
_LIST_MAGIC: Final = b"jiffychk"
_LIST_HEADER: Final = struct.Struct("<8sQII")
_MAP_MAGIC: Final = b"jiffymap"


class ChunkHash(IntEnum):
    BLAKE3 = 0
    SHA256 = 1

    def digest(self, data: bytes | memoryview) -> bytes:
        return blake3(data).digest() if self is ChunkHash.BLAKE3 else hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class ChunkList:
    """Of an object of `size` bytes; all chunks have `chunk_size` bytes but the last."""

    size: int
    chunk_size: int
    digests: bytes
    hash: ChunkHash = ChunkHash.BLAKE3

    def __len__(self) -> int:
        return -(-self.size // self.chunk_size)

    def span(self, number: int) -> tuple[int, int]:
        """Where a chunk starts, and how many bytes it has."""
        start = number * self.chunk_size
        return start, min(self.chunk_size, self.size - start)

    def numbers(self, start: int, end: int) -> range:
        """The chunks that hold the bytes from `start` to before `end`."""
        return range(start // self.chunk_size, -(-min(end, self.size) // self.chunk_size))

    def verify(self, number: int, data: bytes | memoryview) -> None:
        """CorruptError when these are not the bytes of the chunk."""
        expected = self.digests[number * DIGEST_BYTES :][:DIGEST_BYTES]
        if len(data) != self.span(number)[1] or self.hash.digest(data) != expected:
            raise CorruptError(f"chunk {number} has the wrong bytes")

    def encode(self) -> bytes:
        return _LIST_HEADER.pack(_LIST_MAGIC, self.size, self.chunk_size, self.hash) + self.digests


def read_chunk_list(data: bytes) -> ChunkList:
    """CorruptError when the bytes are no list."""
    if len(data) >= _LIST_HEADER.size:
        magic, size, chunk_size, number = _LIST_HEADER.unpack_from(data)
        if magic == _LIST_MAGIC and chunk_size and number in tuple(ChunkHash):
            found = ChunkList(size, chunk_size, data[_LIST_HEADER.size :], ChunkHash(number))
            if len(found.digests) == len(found) * DIGEST_BYTES:
                return found
    raise CorruptError("not a list of chunks", why=f"{len(data)} bytes that do not fit")


def list_chunks(file: Path, chunk_size: int = CHUNK) -> ChunkList:
    """The list of a file's content."""
    digests = bytearray()
    size = 0
    with file.open("rb", buffering=0) as source:
        while chunk := source.read(chunk_size):
            digests += blake3(chunk).digest()
            size += len(chunk)
    return ChunkList(size, chunk_size, bytes(digests))


def encode_chunk_map(lists: Iterable[tuple[Digest, Digest]]) -> bytes:
    """Pairs of a large object and its list."""
    return _MAP_MAGIC + b"".join(bytes.fromhex(large) + bytes.fromhex(its_list) for large, its_list in lists)


def read_chunk_map(data: bytes) -> Mapping[Digest, Digest]:
    """CorruptError when the bytes are no map."""
    body = data[len(_MAP_MAGIC) :]
    if not data.startswith(_MAP_MAGIC) or len(body) % (2 * DIGEST_BYTES):
        raise CorruptError("not a map of chunks", why=f"{len(data)} bytes that do not fit")
    words = [body[start : start + DIGEST_BYTES].hex() for start in range(0, len(body), DIGEST_BYTES)]
    return dict(zip(words[::2], words[1::2], strict=True))
