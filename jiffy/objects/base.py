"""Objects: bytes named by their sha256."""

from __future__ import annotations

import errno
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from jiffy.errors import InvalidError

T = TypeVar("T")
Digest = str
"""64 lowercase hex digits."""

Parts = Iterable[memoryview]
"""An object as it comes, PART_BYTES at a time; each part is good until the next one is asked for."""

Receive = Callable[[Digest, Parts], None]
"""Takes one object of many: all of its parts."""

Span = tuple[int, int]
"""The first byte and the number of bytes."""

DIGEST_BYTES: Final = 32
PART_BYTES: Final = 2**20
BATCH_LENGTH: Final = struct.Struct("<Q")
"""Before each object of a batch: its length, or ABSENT."""

CHUNKS_HEADER: Final = "X-Jiffy-Chunks"
"""Of a request for a span of a large object: the digest of its chunk list, for a cache that has nothing of it yet."""

ABSENT: Final = 2**64 - 1

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""What the errors of a full disk have as their number."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def check_digest(text: str) -> Digest:
    """The text, if it is a digest; InvalidError otherwise."""
    if not _DIGEST.fullmatch(text):
        raise InvalidError(f"{text[:80]!r} is not a digest", hint="64 lowercase hex digits of a sha256")
    return text


def object_path(digest: Digest) -> str:
    """Where an object lies below the root of a store: aa/bbcc..."""
    return f"{digest[:2]}/{digest[2:]}"


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """In order, as many as `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def regroup(parts: Parts, sizes: Iterable[int]) -> Iterator[memoryview]:
    """The same bytes in pieces of these sizes; a part that fits is passed on as it is."""
    waiting = iter(parts)
    rest = memoryview(b"")
    for size in sizes:
        if not rest:
            rest = next(waiting)
        if len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
            continue
        gathered = bytearray(rest)
        while len(gathered) < size:
            rest = next(waiting)
            taken = size - len(gathered)
            gathered += rest[:taken]
            rest = rest[taken:]
        yield memoryview(gathered)


class RoundTrips:
    """How long answers take to begin: the shortest of the last few, as a busy moment says nothing of the distance."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=16)

    def note(self, seconds: float) -> None:
        self._last.append(seconds)

    @property
    def shortest(self) -> float:
        """Seconds; 0 when nothing was noted yet."""
        return min(tuple(self._last), default=0.0)


class Source(Protocol):
    """A place beyond this host that has objects. It tries once, verifies nothing but lengths, and raises NotFoundError,
    UnauthenticatedError, UnavailableError when it does not answer well, CorruptError when the bytes end too early."""

    name: str

    @property
    def round_trip(self) -> float:
        """Seconds until an answer begins, as measured lately; 0 when nothing was asked yet."""

    def fetch(self, digest: Digest, take: Callable[[Parts], T], span: Span | None = None, chunks: Digest = "") -> T:
        """Hand an object, or a span of it, in parts to `take`, which must take all; gives what that gives. `chunks` names
        the object's chunk list, for sources that are caches."""

    def fetch_many(self, digests: Sequence[Digest], receive: Receive) -> None:
        """`receive` is called for each object that is there, in any order, perhaps in several threads at once."""
