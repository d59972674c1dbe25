"""Images imported: each layer read once, decompressed, hashed and stored as it comes, never unpacked to disk.

A layer that was imported before, for whatever image, is not read again: what it changes is remembered by its digest. A
broken import goes on with the layers that it lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from jiffy.errors import CorruptError, InvalidError
from jiffy.image.archive import import_layer
from jiffy.image.assembly import Assembly
from jiffy.image.change import Change, encode_change, read_change
from jiffy.image.compression import ERRORS, decompress
from jiffy.image.index import encode_index
from jiffy.image.manifest import Descriptor
from jiffy.image.oci import OciImage
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

_AT_ONCE: Final = 3
_WAITING_CHUNKS: Final = 16
_CHUNK: Final = 2**20
_AHEAD: Final = 4
_FULL_SECONDS: Final = 0.005
_FULL_WAIT_SECONDS: Final = 0.1
_LEAST_UNPACKED: Final = 8 * 2**30
_MOST_EXPANSION: Final = 1100
"""Times that a layer may grow by decompression: what gzip can reach at most."""


@dataclass(slots=True)
class Progress:
    """Bytes of layers: how many there are, were read, and did not need to be. Files that were read."""

    total: int = 0
    read: int = 0
    known: int = 0
    files: int = 0
    tell: Callable[[Progress], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Imported:
    """`index` is the digest of the image's tree, `config` its configuration as the OCI has it. `first` are the objects that
    a start wants, where the image says so."""

    index: Digest
    config: dict[str, Any]
    digest: str
    names: tuple[str, ...]
    files: int
    size: int
    first: tuple[Digest, ...] = ()


class KnownLayers:
    """What layers change, by their digests: each a small file with the digest of an object."""

    def __init__(self, folder: Path, objects: LocalObjects) -> None:
        self._folder = folder
        self._objects = objects

    def find(self, layer: str) -> Change | None:
        """What a layer changes, if that was remembered and all that it lists is here."""
        try:
            digest = self._path(layer).read_text()
        except FileNotFoundError:
            return None
        if not self._objects.keep(digest):
            return None
        change = read_change(self._objects.read(digest))
        if self._objects.missing({entry.digest for entry in change.entries if entry.digest}):
            return None
        os.utime(self._path(layer))
        return change

    def remember(self, layer: str, change: Digest) -> None:
        temporary = self._folder / f"{os.getpid()}-{layer[-64:]}"
        temporary.write_text(change)
        temporary.rename(self._path(layer))

    def objects(self, since: float) -> set[Digest]:
        """All that layers need which were used since a time."""
        found: set[Digest] = set()
        for path in self._folder.iterdir():
            if path.stat().st_mtime >= since and self._objects.has(change := path.read_text()):
                found.add(change)
                found.update(entry.digest for entry in read_change(self._objects.read(change)).entries if entry.digest)
        return found

    def forget(self, before: float) -> None:
        """Drop what was not used since a time."""
        for path in self._folder.iterdir():
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def _path(self, layer: str) -> Path:
        return self._folder / layer.removeprefix("sha256:")


async def import_image(image: OciImage, objects: LocalObjects, known: KnownLayers, progress: Progress) -> Imported:
    """Import all layers that are not known, and put them together. CorruptError when one is not what it is said to be,
    InvalidError for a hostile or broken one."""
    progress.total = sum(layer.size for layer in image.layers)
    progress.tell(progress)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def run(layer: Descriptor, diff_id: str) -> Change:
        async with gate:
            return await _import_one(image, layer, diff_id, objects, known, progress)

    jobs = [asyncio.ensure_future(run(*pair)) for pair in zip(image.layers, image.diff_ids, strict=True)]
    try:
        changes = await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    index, files, size = await asyncio.to_thread(_assemble, changes, objects)
    return Imported(index, dict(image.config), image.digest, image.names, files, size)


def _assemble(changes: Sequence[Change], objects: LocalObjects) -> tuple[Digest, int, int]:
    assembly = Assembly()
    for change in changes:
        assembly.add(change)
    entries = list(assembly.entries())
    return objects.put(encode_index(entries)), len(entries), sum(entry.size for entry in entries)


async def _import_one(
    image: OciImage, layer: Descriptor, diff_id: str, objects: LocalObjects, known: KnownLayers, progress: Progress
) -> Change:
    found = await asyncio.to_thread(known.find, layer.digest)
    if found is not None:
        progress.known += layer.size
        progress.tell(progress)
        return found
    feed = _Feed()
    reader = asyncio.ensure_future(asyncio.to_thread(_read_layer, feed, layer, diff_id, objects, progress))
    try:
        async for chunk in image.blobs.stream(layer):
            progress.read += len(chunk)
            progress.tell(progress)
            if not await _give(feed, chunk, reader):
                break
        await _give(feed, None, reader)
        digest, change = await reader
    finally:
        feed.break_off()
        await asyncio.gather(reader, return_exceptions=True)
    await asyncio.to_thread(known.remember, layer.digest, digest)
    return change


async def _give(feed: _Feed, chunk: bytes | None, reader: asyncio.Future[tuple[Digest, Change]]) -> bool:
    """False when nobody reads any more."""
    while not reader.done():
        if feed.offer(chunk):
            return True
        await asyncio.sleep(_FULL_SECONDS)
    return False


def _read_layer(
    feed: _Feed, layer: Descriptor, diff_id: str, objects: LocalObjects, progress: Progress
) -> tuple[Digest, Change]:
    """In a thread: the blob arrives by the feed. Gives what it changes, and the object that tells so."""
    blob = _Hashing(feed, 2**63)
    start = blob.peek(6)
    plain = _Hashing(decompress(cast(BinaryIO, blob), start), max(_LEAST_UNPACKED, layer.size * _MOST_EXPANSION))
    counted = 0

    def count(files: int) -> None:
        nonlocal counted
        progress.files += files - counted
        counted = files

    with objects.batch() as batch, _Ahead(plain) as ahead:
        change = import_layer(cast(BinaryIO, ahead), batch, count)
        for stream in (ahead, blob):
            while stream.read(_CHUNK):
                pass
        for what, digest, expected in (("blob", blob.digest, layer.digest), ("content", plain.digest, diff_id)):
            if digest != expected:
                raise CorruptError(
                    f"layer {layer.digest} has the wrong bytes", why=f"its {what} has the digest {digest}"
                )
        return batch.put(encode_change(change)), change


class _Feed(io.RawIOBase):
    """Bytes that one thread gives and another reads."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING_CHUNKS)
        self._rest = memoryview(b"")
        self._ended = False
        self._broken = threading.Event()

    def offer(self, chunk: bytes | None) -> bool:
        """None ends it. False when there is no room yet."""
        try:
            self._chunks.put_nowait(chunk)
        except queue.Full:
            return False
        return True

    def break_off(self) -> None:
        """No more will come: who reads gets an error."""
        self._broken.set()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._ended:
            chunk = self._next()
            self._ended = chunk is None
            self._rest = memoryview(chunk or b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes | None:
        while True:
            try:
                return self._chunks.get(timeout=0.1)
            except queue.Empty:
                if self._broken.is_set():
                    raise InvalidError("the import was broken off") from None


class _Ahead:
    """Reads a source in a thread of its own: what decompresses and hashes it runs beside what reads it from here.
    Left early, the thread ends with the piece that it waits for."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._chunk = b""
        self._position = 0
        self._is_at_end = False
        self._is_left = threading.Event()

    def __enter__(self) -> _Ahead:
        threading.Thread(target=self._run, name="read-ahead", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_left.set()

    def read(self, size: int) -> bytes:
        """Some bytes, at most so many; none at the end."""
        if self._position == len(self._chunk) and not self._is_at_end:
            found = self._chunks.get()
            if isinstance(found, BaseException):
                raise found
            self._chunk, self._position, self._is_at_end = found, 0, not found
        data = self._chunk[self._position : self._position + size]
        self._position += len(data)
        return data

    def _run(self) -> None:
        found: bytes | BaseException = b""
        while not self._is_left.is_set():
            try:
                found = self._source.read(_CHUNK) or b""
            except BaseException as error:
                found = error
            self._offer(found)
            if not found or isinstance(found, BaseException):
                return

    def _offer(self, found: bytes | BaseException) -> None:
        while not self._is_left.is_set():
            with contextlib.suppress(queue.Full):
                self._chunks.put(found, timeout=_FULL_WAIT_SECONDS)
                return


class _Hashing(io.RawIOBase):
    """Passes bytes on, and knows their digest. `most` of them may come."""

    def __init__(self, source: BinaryIO | io.RawIOBase, most: int) -> None:
        self._source = source
        self._most = most
        self._hash = hashlib.sha256()
        self._ahead = b""

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def peek(self, size: int) -> bytes:
        """The first bytes, which are still to be read."""
        while len(self._ahead) < size and (more := self._source.read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._ahead or self._source.read(len(buffer)) or b""
        except ERRORS as error:
            raise CorruptError("a layer cannot be decompressed", why=str(error)) from error
        taken = data[: len(buffer)]
        self._ahead = data[len(taken) :] if self._ahead else b""
        self._hash.update(taken)
        self._most -= len(taken)
        if self._most < 0:
            raise InvalidError("a layer grows without end when it is decompressed")
        buffer[: len(taken)] = taken
        return len(taken)
