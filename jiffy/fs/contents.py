"""What an open file reads from, when the kernel does not read by itself."""

from __future__ import annotations

import itertools
import logging
import mmap
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from jiffy.errors import ExhaustedError
from jiffy.objects.base import Digest
from jiffy.objects.partial import PartialObject, Partials
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

_OPEN_TRIES: Final = 3
_MOST_OPEN: Final = 64


def first_handle() -> int:
    """Handles count from here, so that none is one that an earlier daemon gave out, and which may still be open."""
    return time.monotonic_ns()


class Content(Protocol):
    """Of one object. `share` gives another to be closed by itself."""

    size: int

    def read(self, offset: int, size: int) -> bytes: ...

    def share(self) -> Content: ...

    def close(self) -> None: ...


class FileContent:
    """A file that is whole: in the directory, or in memory. Owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, offset)

    def map(self) -> mmap.mmap:
        """All of it, for as long as it is referred to."""
        return mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_READ)

    def share(self) -> FileContent:
        return FileContent(os.dup(self.descriptor))

    def close(self) -> None:
        os.close(self.descriptor)


class PartialContent:
    """An object that arrives while it is read."""

    def __init__(self, partials: Partials, partial: PartialObject) -> None:
        self._partials = partials
        self._partial = partial
        self.size = partial.size

    def read(self, offset: int, size: int) -> bytes:
        return self._partial.read(offset, size)

    def share(self) -> PartialContent:
        return PartialContent(self._partials, self._partials.hold(self._partial))

    def close(self) -> None:
        self._partials.release(self._partial)


@dataclass(slots=True)
class _Lent:
    content: Content
    borrowers: int = 0


class Contents:
    """Of all objects that can be had."""

    def __init__(self, tiers: Tiers, partials: Partials) -> None:
        self.tiers = tiers
        self.partials = partials

    def open(self, digest: Digest) -> tuple[Content, bool]:
        """What to read an object from, and whether it is a file of the directory. A large object is not waited for, and a
        full disk does not keep any from being read. Raises as Tiers.ensure does."""
        if (partial := self.partials.open(digest)) is not None:
            partial.begin()
            return PartialContent(self.partials, partial), False
        return self.open_whole(digest)

    def open_whole(self, digest: Digest) -> tuple[FileContent, bool]:
        """As `open`, when all of it is there."""
        try:
            return FileContent(self._open_file(digest)), True
        except (ExhaustedError, FileNotFoundError) as error:
            logger.warning("%s: %s is served from memory", error, digest)
        return FileContent(self.tiers.fetch_to_memory(digest)), False

    def _open_file(self, digest: Digest) -> int:
        """An object may be dropped from the cache between being found and being opened, or its disk may fail."""
        for _ in range(_OPEN_TRIES - 1):
            try:
                return os.open(self.tiers.ensure(digest), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                if not self.tiers.local.disks.blame(digest, error):
                    raise
            except ExhaustedError as error:
                if not isinstance(error.__cause__, OSError) or not self.tiers.local.disks.blame(
                    digest, error.__cause__
                ):
                    raise
        return os.open(self.tiers.ensure(digest), os.O_RDONLY | os.O_CLOEXEC)


class RecentContents:
    """Contents that stay open for who reads next, where nobody tells when he has done reading."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._lock = threading.Lock()
        self._opening: dict[Digest, threading.Lock] = {}
        self._lent: OrderedDict[Digest, _Lent] = OrderedDict()

    @contextmanager
    def borrow(self, digest: Digest) -> Iterator[Content]:
        """An object's content, open until the end of the block at least. Raises as Contents.open does."""
        lent = self._borrow(digest) or self._open(digest)
        try:
            yield lent.content
        finally:
            self._give_back(lent)

    def _borrow(self, digest: Digest) -> _Lent | None:
        with self._lock:
            if (lent := self._lent.get(digest)) is not None:
                self._lent.move_to_end(digest)
                lent.borrowers += 1
            return lent

    def _open(self, digest: Digest) -> _Lent:
        """Many that read one object at the same time open it once."""
        with self._lock:
            opening = self._opening.setdefault(digest, threading.Lock())
        try:
            with opening:
                if (known := self._borrow(digest)) is not None:
                    return known
                lent = _Lent(self._contents.open(digest)[0], borrowers=1)
                with self._lock:
                    self._lent[digest] = lent
        finally:
            with self._lock:
                self._opening.pop(digest, None)
        self._drop_oldest()
        return lent

    def _drop_oldest(self) -> None:
        """Not those that are borrowed: they are few."""
        with self._lock:
            idle = (digest for digest, lent in self._lent.items() if not lent.borrowers)
            excess = list(itertools.islice(idle, max(0, len(self._lent) - _MOST_OPEN)))
            dropped = [self._lent.pop(digest) for digest in excess]
        for lent in dropped:
            lent.content.close()

    def _give_back(self, lent: _Lent) -> None:
        with self._lock:
            lent.borrowers -= 1
