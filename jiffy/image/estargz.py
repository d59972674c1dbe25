"""Layers that can be read in parts: eStargz and zstd:chunked. Both are ordinary compressed tars in which each file is a
member of its own, with a table of contents at the end that tells where; so a tree is known from the table alone, and a file
is had by one ranged request.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import zstandard

from jiffy.errors import CorruptError, InvalidError, UnsupportedError
from jiffy.image.archive import as_layer, normal_path
from jiffy.image.change import Change
from jiffy.image.index import MOST_ENTRIES, Entry, Kind
from jiffy.image.pieces import LARGEST_CHUNK, LARGEST_PIECE, Contents, Piece, Place
from jiffy.objects.base import Digest
from jiffy.objects.chunks import LARGE, ChunkHash, ChunkList

TOC_NAME: Final = "stargz.index.json"
PREFETCH_LANDMARK: Final = b"/.prefetch.landmark"
NO_PREFETCH_LANDMARK: Final = b"/.no.prefetch.landmark"
TOC_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
ZSTD_PREFIXES: Final = ("io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.")
"""Of annotations; the second one is of older tools."""

ZSTD_POSITION: Final = "manifest-position"
ZSTD_CHECKSUM: Final = "manifest-checksum"
LARGEST_TOC: Final = 256 * 2**20
FOOTER_BYTES: Final = 51
_FOOTER: Final = re.compile(rb"SG\x16\x00([0-9a-f]{16})STARGZ", re.DOTALL)
_GZIP: Final = 31
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_KINDS: Final = {
    "dir": Kind.DIRECTORY,
    "reg": Kind.FILE,
    "symlink": Kind.SYMLINK,
    "hardlink": Kind.FILE,
    "char": Kind.CHARACTER,
    "block": Kind.BLOCK,
    "fifo": Kind.FIFO,
}


def find_table(footer: bytes) -> int:
    """The offset of the table, from the last FOOTER_BYTES of a blob; 0 when it is no eStargz."""
    match = _FOOTER.search(footer)
    return int(match[1], 16) if match is not None else 0


def read_gzip_table(data: bytes) -> bytes:
    """The text of an eStargz's table, from the bytes between its offset and the end of the blob. CorruptError when it is
    none."""
    member = zlib.decompressobj(_GZIP)
    try:
        plain = member.decompress(data, LARGEST_TOC)
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            found = archive.extractfile(TOC_NAME)
            text = found.read() if found is not None else b""
    except (zlib.error, tarfile.TarError, ArithmeticError, KeyError, ValueError, EOFError, OSError) as error:
        raise CorruptError("the layer's table of contents cannot be read", why=str(error)) from error
    return text


def table_digest(text: bytes) -> str:
    """What the annotation TOC_DIGEST says."""
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def read_zstd_table(data: bytes) -> bytes:
    """The text of a zstd:chunked layer's table: one zstd frame."""
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data))
        return reader.read(LARGEST_TOC)
    except zstandard.ZstdError as error:
        raise CorruptError("the layer's table of contents cannot be read", why=str(error)) from error


def read_contents(text: bytes, end: int, compression: str) -> Contents:
    """What a table says. `end` is where the data ends in the blob. InvalidError when it makes no tree."""
    entries = _parse(text).get("entries")
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise InvalidError("a table of contents without entries, or with too many")
    reader = _Reader([each for each in entries if isinstance(each, dict)], end, compression)
    return reader.run()


def _parse(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError("the layer's table of contents is not JSON", why=str(error)[:100]) from error
    if not isinstance(value, dict):
        raise CorruptError("the layer's table of contents is not JSON")
    return value


class _Reader:
    def __init__(self, entries: list[dict[str, Any]], end: int, compression: str) -> None:
        self._entries = entries
        self._end = end
        self._compression = compression
        self._found: dict[bytes, Entry] = {}
        self._order: list[bytes] = []
        self._places: dict[Digest, Place] = {}
        self._chunks: dict[Digest, ChunkList] = {}
        self._untouched: dict[bytes, bytes] = {}
        self._links = 0

    def run(self) -> Contents:
        pieces = self._gather(self._find_ends())
        for value in self._entries:
            if value.get("type") != "chunk" and _text(value, "name").rstrip("/") != TOC_NAME:
                self._add(value, pieces)
        first = self._first()
        for name in (PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK):
            self._found.pop(name, None)
        change = Change(entries=list(self._found.values()), untouched=self._untouched)
        return Contents(as_layer(change), self._compression, self._places, self._chunks, first)

    def _find_ends(self) -> dict[int, int]:
        """Where each member ends: where the next one begins, or where the table says."""
        starts = sorted({start for value in self._entries if (start := _number(value, "offset"))})
        return dict(zip(starts, [*starts[1:], self._end], strict=False))

    def _gather(self, ends: Mapping[int, int]) -> dict[str, _Parts]:
        """The pieces of each file, in order."""
        found: dict[str, _Parts] = {}
        for value in self._entries:
            kind, start = value.get("type"), _number(value, "offset")
            if not start or kind not in ("reg", "chunk"):
                continue
            name = _text(value, "name")
            if kind == "reg":
                found[name] = _Parts(_number(value, "size"))
            elif name not in found:
                continue
            end = _number(value, "endOffset") or ends[start]
            if not start < end <= self._end:
                raise InvalidError(f"{name[:100]!r} lies where the blob has nothing")
            found[name].add(start, end, value)
        for name, parts in found.items():
            parts.check(name)
        return found

    def _add(self, value: Mapping[str, Any], pieces: Mapping[str, _Parts]) -> None:
        name = _text(value, "name")
        path = normal_path(name.encode("utf-8", "surrogateescape"))
        kind = _KINDS.get(str(value.get("type")))
        if kind is None:
            raise InvalidError(f"{name[:100]!r} is of a kind that is not known")
        self._order.append(path)
        if value.get("type") == "hardlink":
            self._found[path] = self._link(value, path)
            return
        entry = Entry(
            path=path,
            kind=kind,
            mode=_number(value, "mode") & 0o7777,
            uid=_number(value, "uid"),
            gid=_number(value, "gid"),
            mtime_ns=_time(_text(value, "modtime")),
            target=_text(value, "linkName").encode("utf-8", "surrogateescape") if kind is Kind.SYMLINK else b"",
            device=_device(value) if kind in (Kind.CHARACTER, Kind.BLOCK) else 0,
            xattrs=_attributes(value.get("xattrs")),
        )
        if kind is Kind.FILE and (size := _number(value, "size")):
            entry = self._with_content(entry, value, size, pieces.get(name))
        self._found[path] = entry

    def _with_content(self, entry: Entry, value: Mapping[str, Any], size: int, parts: _Parts | None) -> Entry:
        match = _DIGEST.fullmatch(_text(value, "digest"))
        if match is None or parts is None:
            raise InvalidError(f"{entry.path[:100]!r} has no digest or no place")
        self._places.setdefault(match[1], tuple(parts.pieces))
        if size >= LARGE and (chunks := parts.chunks()) is not None:
            self._chunks.setdefault(match[1], chunks)
        return replace(entry, size=size, digest=match[1])

    def _link(self, value: Mapping[str, Any], path: bytes) -> Entry:
        target = normal_path(_text(value, "linkName").encode("utf-8", "surrogateescape"))
        first = self._found.get(target)
        if first is None or first.kind is Kind.DIRECTORY:
            self._untouched[path] = target
            return Entry(path, Kind.FILE, _number(value, "mode") & 0o7777)
        if not first.link:
            self._links += 1
            first = self._found[target] = replace(first, link=self._links)
        return replace(first, path=path)

    def _first(self) -> tuple[Digest, ...]:
        """The files before the landmark are those that a start wants."""
        if PREFETCH_LANDMARK not in self._found:
            return ()
        before = self._order[: self._order.index(PREFETCH_LANDMARK)]
        digests = [self._found[path].digest for path in before if path in self._found]
        return tuple(dict.fromkeys(filter(None, digests)))


class _Parts:
    """A file of `size` bytes, whose pieces come in order."""

    def __init__(self, size: int) -> None:
        self.pieces: list[Piece] = []
        self._size = size
        self._left = size
        self._digests: list[str] = []

    def add(self, start: int, end: int, value: Mapping[str, Any]) -> None:
        """The last chunk of a file says no size: it has the rest."""
        size = _number(value, "chunkSize") or max(0, self._left)
        self.pieces.append(Piece(start, end, size, _number(value, "innerOffset")))
        self._digests.append(_text(value, "chunkDigest"))
        self._left -= size

    def check(self, name: str) -> None:
        last = self.pieces[-1]
        rest = last.size + self._left
        if rest < 0:
            raise InvalidError(f"the pieces of {name[:100]!r} are more than the file")
        if self._left:
            self.pieces[-1] = replace(last, size=rest)
        if any(max(piece.end - piece.start, piece.inner + piece.size) > LARGEST_PIECE for piece in self.pieces):
            raise UnsupportedError(f"{name[:100]!r} cannot be read in parts", why="its pieces are too large")

    def chunks(self) -> ChunkList | None:
        """If all pieces but the last are of one size, and each has a digest."""
        chunk_size = self.pieces[0].size
        is_even = all(piece.size == chunk_size for piece in self.pieces[:-1]) and self.pieces[-1].size <= chunk_size
        matches = [_DIGEST.fullmatch(digest) for digest in self._digests]
        if not is_even or not 0 < chunk_size <= LARGEST_CHUNK or None in matches:
            return None
        digests = b"".join(bytes.fromhex(match[1]) for match in matches if match is not None)
        return ChunkList(self._size, chunk_size, digests, ChunkHash.SHA256)


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name, "")
    return found if isinstance(found, str) else ""


def _number(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name, 0)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**63:
        raise InvalidError(f"a table of contents with {name} {str(found)[:40]!r}")
    return found


def _device(value: Mapping[str, Any]) -> int:
    major, minor = _number(value, "devMajor"), _number(value, "devMinor")
    if major >= 2**32 or minor >= 2**32:
        raise InvalidError("a device with numbers that cannot be")
    return os.makedev(major, minor)


@lru_cache(2**14)
def _time(text: str) -> int:
    """Nanoseconds since the epoch of a time such as 2026-01-02T03:04:05.678Z; 0 for none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    whole, fraction = match[1], (match[2] or "")[:9].ljust(9, "0")
    try:
        moment = datetime.fromisoformat(whole + (match[3] or "Z").replace("Z", "+00:00"))
        return calendar.timegm(moment.utctimetuple()) * 10**9 + int(fraction)
    except (ValueError, OverflowError):
        return 0


def _attributes(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    """Names, with values in base64."""
    if not isinstance(value, dict):
        return ()
    try:
        pairs = {name.encode(): base64.b64decode(str(text), validate=True) for name, text in value.items()}
    except (ValueError, binascii.Error) as error:
        raise InvalidError("a table of contents with an attribute that is not base64") from error
    return tuple(sorted(pairs.items()))
