"""Where the contents of files lie in a layer as its registry has it, and how parts of such a layer are unpacked."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import zstandard

from jiffy.errors import CorruptError
from jiffy.image.change import Change
from jiffy.image.compression import ERRORS
from jiffy.image.seeking import gunzip, inflate_within
from jiffy.objects.base import Digest
from jiffy.objects.chunks import ChunkList

LARGEST_PIECE: Final = 256 * 2**20
"""Bytes of a file, or of a blob, that are had and held at once."""

LARGEST_CHUNK: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a file: the span of the blob whose decompression has it, from the byte `inner` on."""

    start: int
    end: int
    size: int
    inner: int = 0


Place = tuple[Piece, ...]
"""Where a file's content lies in a blob: pieces in order."""


def place_size(place: Place) -> int:
    """Bytes of a file."""
    return sum(piece.size for piece in place)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place within a gzip stream where decompression can begin, and the `size` that the content has up to the next one.
    The byte before it belongs to it by its last `bits`; what came before is a part of the layer's windows, compressed."""

    size: int
    bits: int
    window_start: int
    window_size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known of a layer that was not read: the layer as a change, where each object lies, the chunks of large
    ones, and those that a start wants first. `compression` is gzip or zstd, where the spans are whole streams; none;
    or deflate, where they begin at checkpoints, named by their starts."""

    change: Change
    compression: str
    places: Mapping[Digest, Place]
    chunks: Mapping[Digest, ChunkList]
    first: tuple[Digest, ...] = ()
    checkpoints: Mapping[int, Checkpoint] = field(default_factory=dict)
    windows: bytes = b""


def unpack(data: bytes, size: int, compression: str) -> bytes:
    """The first bytes of what a span has, where it is a stream of its own. CorruptError when there are not so many."""
    try:
        if compression == "gzip":
            plain = gunzip(data, size)
        elif compression == "zstd":
            plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read(size)
        else:
            plain = data[:size]
    except ERRORS as error:
        raise CorruptError("part of a layer cannot be decompressed", why=str(error)) from error
    return _checked(plain, size)


def unpack_from(data: bytes, checkpoint: Checkpoint, window: bytes) -> bytes:
    """All that a gzip stream has between a checkpoint and the next one."""
    try:
        return _checked(inflate_within(data, checkpoint.bits, window, checkpoint.size), checkpoint.size)
    except ERRORS as error:
        raise CorruptError("part of a layer cannot be decompressed", why=str(error)) from error


def _checked(plain: bytes, size: int) -> bytes:
    if len(plain) != size:
        raise CorruptError("part of a layer is shorter than its table says")
    return plain
