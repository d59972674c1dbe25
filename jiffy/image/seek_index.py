"""Seek indexes: what lets an ordinary layer be read in parts, found by one pass over it and kept beside it.

A seek index tells the tree of a layer, where each content lies in its tar, and places in its gzip stream where
decompression can begin, each with the 32 KiB of content before it. Its bytes, compressed by zstd, are

    `jiffysek`, u64 length of a header in JSON, the header, the layer as a change (FORMAT), the windows, each
    compressed by zstd

Numbers are little-endian. What is read from one may be hostile: it is checked, and each content is verified when it is had.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import zstandard
from blake3 import blake3

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnsupportedError
from jiffy.image.archive import import_layer
from jiffy.image.change import Change, encode_change, read_change
from jiffy.image.compression import ERRORS
from jiffy.image.pieces import LARGEST_PIECE, Checkpoint, Contents, Piece, Place
from jiffy.objects.base import Digest
from jiffy.objects.chunks import CHUNK, LARGE, ChunkList

LARGEST_INDEX: Final = 512 * 2**20
SPACING: Final = 2 * 2**20
"""Bytes of content from one checkpoint to the next, at least."""

WINDOW_BYTES: Final = 32 * 2**10
_MAGIC: Final = b"jiffysek"
_LENGTH: Final = struct.Struct("<Q")
_GZIP_INDEX: Final = struct.Struct("<5sBBQQIII")
_GZIP_POINT: Final = struct.Struct("<QQBB")
_READ: Final = 2**20


@dataclass(frozen=True, slots=True)
class Point:
    """Byte `start` of the blob is byte `plain` of the content, and decompression can begin there (see Checkpoint)."""

    start: int
    plain: int
    bits: int
    window_size: int


@dataclass(frozen=True, slots=True)
class SeekIndex:
    """`layer` and `content` are the digests (sha256:...) of the blob and of the tar in it, of `layer_size` and
    `content_size` bytes; `offsets`: where each content begins in the tar; `compression` is deflate, none,
    or gzip for a layer so small that it has no point but its beginning; `first` are the objects that a start wants."""

    layer: str
    layer_size: int
    content: str
    content_size: int
    compression: str
    change: Change
    offsets: Mapping[Digest, int]
    chunks: Mapping[Digest, ChunkList]
    points: Sequence[Point]
    windows: bytes
    first: tuple[Digest, ...] = ()

    def encode(self) -> bytes:
        change = encode_change(self.change)
        header = {
            "layer": self.layer,
            "layer_size": self.layer_size,
            "content": self.content,
            "content_size": self.content_size,
            "compression": self.compression,
            "change_size": len(change),
            "offsets": dict(self.offsets),
            "chunks": {digest: chunks.digests.hex() for digest, chunks in self.chunks.items()},
            "first": list(self.first),
            "points": [list(asdict(point).values()) for point in self.points],
        }
        text = json.dumps(header).encode()
        return zstandard.compress(_MAGIC + _LENGTH.pack(len(text)) + text + change + self.windows)

    def contents(self) -> Contents:
        """The same in terms of pieces."""
        sizes = {entry.digest: entry.size for entry in self.change.entries if entry.digest}
        spans = _Spans(self)
        return Contents(
            change=self.change,
            compression=self.compression,
            places={digest: spans.place(offset, sizes[digest]) for digest, offset in self.offsets.items()},
            chunks=self.chunks,
            first=self.first,
            checkpoints=spans.checkpoints if self.compression == "deflate" else {},
            windows=self.windows,
        )


def read_seek_index(data: bytes) -> SeekIndex:
    """CorruptError or InvalidError when the bytes are none that can be used."""
    try:
        plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(LARGEST_INDEX)
        (length,) = _LENGTH.unpack_from(plain, len(_MAGIC))
        start = len(_MAGIC) + _LENGTH.size
        header = json.loads(plain[start : start + length])
        body = start + length
        change = read_change(plain[body : body + int(header["change_size"])])
        sizes = {entry.digest: entry.size for entry in change.entries if entry.digest}
        index = SeekIndex(
            layer=str(header["layer"]),
            layer_size=_number(header["layer_size"]),
            content=str(header["content"]),
            content_size=_number(header["content_size"]),
            compression=str(header["compression"]),
            change=change,
            offsets={digest: _number(offset) for digest, offset in header["offsets"].items()},
            chunks={
                digest: ChunkList(sizes[digest], CHUNK, bytes.fromhex(digests))
                for digest, digests in header["chunks"].items()
            },
            points=[Point(*[_number(number) for number in point]) for point in header["points"]],
            windows=plain[body + int(header["change_size"]) :],
            first=tuple([digest for digest in header["first"] if digest in sizes]),
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        struct.error,
        zstandard.ZstdError,
    ) as error:
        raise CorruptError("not a seek index", why=str(error)[:100]) from error
    if not plain.startswith(_MAGIC):
        raise CorruptError("not a seek index", why="its first bytes are wrong")
    _check(index, sizes)
    return index


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return value


def _check(index: SeekIndex, sizes: Mapping[Digest, int]) -> None:
    """InvalidError when it leads out of the layer, or wants more at once than is had at once."""
    starts = [(point.start, point.plain) for point in index.points]
    ends = [*starts[1:], (index.layer_size, index.content_size)]
    fits = (
        index.compression in ("deflate", "gzip", "none")
        and bool(starts)
        and starts[0][1] == 0
        and all(a < c and b < d for (a, b), (c, d) in zip(starts, ends, strict=True))
        and all(max(c - a, d - b) <= LARGEST_PIECE for (a, b), (c, d) in zip(starts, ends, strict=True))
        and all(point.bits < 8 and point.start >= (1 if point.bits else 0) for point in index.points)
        and sum(point.window_size for point in index.points) == len(index.windows)
        and sizes.keys() == index.offsets.keys()
        and all(0 < sizes[digest] <= index.content_size - offset for digest, offset in index.offsets.items())
        and all(len(chunks.digests) == len(chunks) * 32 for chunks in index.chunks.values())
    )
    if not fits:
        raise InvalidError("a seek index that does not fit its layer")


class _Spans:
    """The spans between the points of an index."""

    def __init__(self, index: SeekIndex) -> None:
        self.checkpoints: dict[int, Checkpoint] = {}
        self._plain = [point.plain for point in index.points]
        self._spans: list[tuple[int, int, int]] = []
        window = 0
        for point, after in zip(index.points, [*index.points[1:], None], strict=True):
            size = (after.plain if after is not None else index.content_size) - point.plain
            end = after.start if after is not None else index.layer_size
            start = point.start - 1 if point.bits else point.start
            self._spans.append((start, end, size))
            self.checkpoints[start] = Checkpoint(size, point.bits, window, point.window_size)
            window += point.window_size

    def place(self, offset: int, size: int) -> Place:
        """Where some bytes of the content are."""
        return tuple(self._pieces(offset, size))

    def _pieces(self, offset: int, size: int) -> Iterator[Piece]:
        number = bisect.bisect_right(self._plain, offset) - 1
        while size:
            start, end, plain_size = self._spans[number]
            inner = offset - self._plain[number]
            taken = min(size, plain_size - inner)
            yield Piece(start, end, taken, inner)
            number, offset, size = number + 1, offset + taken, size - taken


def unpack_window(compressed: bytes) -> bytes:
    """The content before a checkpoint. CorruptError when it is none."""
    try:
        return zstandard.decompress(compressed, max_output_size=WINDOW_BYTES) if compressed else b""
    except zstandard.ZstdError as error:
        raise CorruptError("part of a seek index cannot be read", why=str(error)) from error


def make_seek_index(
    blob: Path,
    layer: str,
    content: str,
    *,
    first: Sequence[Digest] = (),
    progress: Callable[[int], None] | None = None,
    spacing: int = SPACING,
) -> SeekIndex:
    """Read a layer once, which is in a file. `layer` and `content` are the digests (sha256:...) that it should have;
    CorruptError when it has others, UnsupportedError for a layer that cannot be read in parts."""
    with blob.open("rb") as file:
        if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" != layer:
            raise CorruptError(f"layer {layer} has the wrong bytes")
        file.seek(0)
        start = file.read(6)
        file.seek(0)
        stream = _open(file, start, spacing)
        measured = _Measured(cast(BinaryIO, stream))
        change = measured.run(progress)
        points, windows = stream.points()
    if measured.digest != content:
        raise CorruptError(f"layer {layer} has the wrong bytes", why=f"its content has the digest {measured.digest}")
    held = {entry.digest for entry in change.entries if entry.digest}
    if lost := held - measured.offsets.keys():
        raise UnsupportedError(f"layer {layer} cannot be read in parts", why=f"{len(lost)} of its files are sparse")
    return SeekIndex(
        layer=layer,
        layer_size=blob.stat().st_size,
        content=content,
        content_size=measured.size,
        compression=stream.compression,
        change=change,
        offsets={digest: offset for digest, offset in measured.offsets.items() if digest in held},
        chunks={digest: chunks for digest, chunks in measured.chunks.items() if digest in held},
        points=points,
        windows=windows,
        first=tuple([digest for digest in first if digest in held]),
    )


def _open(file: BinaryIO, start: bytes, spacing: int) -> _Gzip | _Plain:
    if start.startswith(b"\x1f\x8b"):
        return _Gzip(file, spacing)
    if start.startswith(b"\x28\xb5\x2f\xfd") or start[1:4] == b"\x2a\x4d\x18":
        raise UnsupportedError(
            "a layer of zstd cannot be read in parts as it is",
            hint="`jiffy image convert --estargz` makes one that can",
        )
    return _Plain(file, spacing)


class _Plain:
    """A tar without compression: one can begin anywhere."""

    compression = "none"

    def __init__(self, file: BinaryIO, spacing: int) -> None:
        self._file = file
        self._spacing = spacing
        self._size = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._size += len(data)
        return data

    def points(self) -> tuple[list[Point], bytes]:
        return [Point(place, place, 0, 0) for place in range(0, max(self._size, 1), self._spacing)], b""


class _Gzip:
    def __init__(self, file: BinaryIO, spacing: int) -> None:
        self.compression = "deflate"
        try:
            from indexed_gzip import IndexedGzipFile
        except ImportError:
            raise NotFoundError(
                "indexed_gzip is not installed", why="seek indexes are made by it", hint="pip install 'jiffy[seek]'"
            ) from None
        self._stream = IndexedGzipFile(fileobj=file, spacing=spacing)

    def read(self, size: int) -> bytes:
        try:
            return cast(bytes, self._stream.read(size))
        except ERRORS as error:
            raise CorruptError("a layer cannot be decompressed", why=str(error)) from error

    def points(self) -> tuple[list[Point], bytes]:
        """As the library exports them: a header, the points, and then the windows of those that have one."""
        target = io.BytesIO()
        self._stream.export_index(fileobj=target)
        exported = target.getvalue()
        _, _, _, _, size, _, window_size, count = _GZIP_INDEX.unpack_from(exported)
        position = _GZIP_INDEX.size + count * _GZIP_POINT.size
        points: list[Point] = []
        windows: list[bytes] = []
        for number in range(count):
            place = _GZIP_INDEX.size + number * _GZIP_POINT.size
            start, plain, bits, has_window = _GZIP_POINT.unpack_from(exported, place)
            window = b""
            if has_window:
                window = zstandard.compress(exported[position : position + window_size])
                position += window_size
            if plain < size:
                points.append(Point(start, plain, bits, len(window)))
                windows.append(window)
        if not points:
            self.compression = "gzip"
            points.append(Point(0, 0, 0, 0))
        return points, b"".join(windows)


class _Measured:
    """The content of a layer as it is read: its digest, and that of each file, with the place where it begins."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0
        self.offsets: dict[Digest, int] = {}
        self.chunks: dict[Digest, ChunkList] = {}

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def run(self, progress: Callable[[int], None] | None) -> Change:
        change = import_layer(cast(BinaryIO, self), self, progress, self._place)
        while self.read(_READ):
            pass
        return change

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def writer(self) -> _Measure:
        return _Measure(self.chunks)

    def _place(self, digest: Digest, offset: int) -> None:
        self.offsets.setdefault(digest, offset)


class _Measure:
    """One file: nothing of it is kept but digests."""

    def __init__(self, lists: dict[Digest, ChunkList]) -> None:
        self._lists = lists
        self._hash = hashlib.sha256()
        self._chunks = bytearray()
        self._rest = b""
        self._size = 0

    def __enter__(self) -> _Measure:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        self._rest += data
        whole = len(self._rest) // CHUNK * CHUNK
        for start in range(0, whole, CHUNK):
            self._chunks += blake3(self._rest[start : start + CHUNK]).digest()
        self._rest = self._rest[whole:]

    def publish(self) -> tuple[Digest, int]:
        digest = self._hash.hexdigest()
        if self._size >= LARGE:
            digests = bytes(self._chunks) + (blake3(self._rest).digest() if self._rest else b"")
            self._lists[digest] = ChunkList(self._size, CHUNK, digests)
        return digest, self._size
