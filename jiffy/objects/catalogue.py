"""Catalogues: which small objects lie beside each other in an image. Who reads one of a folder's files will soon read
others.

As an object: `jiffycat`, then 40 bytes for each small object in the order of the paths: its sha256, u32 its size, and u32
the number of its folder, little-endian.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from jiffy.errors import CorruptError
from jiffy.objects.base import DIGEST_BYTES, Digest

SMALL: Final = 2**20
"""Objects of at most so many bytes are in catalogues."""

_MAGIC: Final = b"jiffycat"
_RECORD: Final = struct.Struct(f"<{DIGEST_BYTES}sII")
_BYTES_EACH: Final = 2**17


@dataclass(frozen=True, slots=True)
class Place:
    """An object in a catalogue. Folders are told apart by numbers."""

    digest: Digest
    size: int
    folder: int


def make_catalogue(files: Iterable[tuple[bytes, Digest, int]]) -> Sequence[Place]:
    """Of an image's files, as path, digest and size, in the order of their paths."""
    places: dict[Digest, Place] = {}
    folders: dict[bytes, int] = {}
    for path, digest, size in files:
        if 0 < size <= SMALL:
            folder = folders.setdefault(path.rpartition(b"/")[0], len(folders))
            places.setdefault(digest, Place(digest, size, folder))
    return tuple(places.values())


def encode_catalogue(places: Sequence[Place]) -> bytes:
    records = (_RECORD.pack(bytes.fromhex(place.digest), place.size, place.folder) for place in places)
    return _MAGIC + b"".join(records)


def read_catalogue(data: bytes) -> Sequence[Place]:
    """CorruptError when the bytes are no catalogue."""
    body = memoryview(data)[len(_MAGIC) :]
    if not data.startswith(_MAGIC) or len(body) % _RECORD.size:
        raise CorruptError("not a catalogue", why=f"{len(data)} bytes that do not fit")
    return tuple(Place(raw.hex(), size, folder) for raw, size, folder in _RECORD.iter_unpack(body))


class Neighbours:
    """What catalogues tell of the objects around one. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[Digest, tuple[Sequence[Place], int]] = {}

    def add(self, places: Sequence[Place]) -> None:
        """Learn a catalogue. An object that is in several has its place in the first."""
        with self._lock:
            for number, place in enumerate(places):
                self._positions.setdefault(place.digest, (places, number))

    def beside(self, digest: Digest, most: int) -> Iterator[Digest]:
        """Those that come after an object, then those before it in its folder, the nearest first: of each at most so many,
        and not too many bytes."""
        with self._lock:
            places, number = self._positions.get(digest, ((), -1))
        if number < 0:
            return
        room = most * _BYTES_EACH
        for place in _around(places, number, most):
            room -= place.size
            if room < 0:
                return
            yield place.digest


def _around(places: Sequence[Place], number: int, most: int) -> Iterator[Place]:
    yield from islice(places, number + 1, number + 1 + most)
    for before in range(number - 1, max(-1, number - 1 - most), -1):
        if places[before].folder != places[number].folder:
            return
        yield places[before]
