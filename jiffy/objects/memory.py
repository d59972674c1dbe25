"""An object in memory, for a host whose disk is full: it is served, and forgotten when nobody has it open."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from jiffy.errors import CorruptError, ExhaustedError
from jiffy.objects.base import Digest

LARGEST: Final = 256 * 2**20


class MemoryObject:
    """Takes an object's bytes as they come; `seal` verifies them and gives a descriptor to read from."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("jiffy-object")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes | memoryview) -> None:
        self._size += len(chunk)
        if self._size > LARGEST:
            raise ExhaustedError("an object is too large to be held in memory", why="the disk has no room for it")
        self._hash.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def seal(self, expected: Digest) -> int:
        if (digest := self._hash.hexdigest()) != expected:
            raise CorruptError(f"object {expected} has the wrong bytes", why=f"their digest is {digest}")
        return self._descriptor

    def discard(self) -> None:
        os.close(self._descriptor)
