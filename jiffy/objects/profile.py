"""Profiles: what a start reads, in the order of its first reading. Of large objects, which bytes.

As an object: `jiffypr2`, then for each object its sha256, u32 the number of ranges, and u64 start and u64 size of each,
little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from jiffy.errors import CorruptError
from jiffy.objects.base import DIGEST_BYTES, Digest

Ranges = Sequence[tuple[int, int]]
"""Pairs of the first byte and the number of bytes, ascending; none for the whole object."""

Profile = Mapping[Digest, Ranges]
MOST_OBJECTS: Final = 20_000
_MAGIC: Final = b"jiffypr2"
_HEAD: Final = struct.Struct(f"<{DIGEST_BYTES}sI")
_RANGE: Final = struct.Struct("<QQ")


def whole(digests: Iterable[Digest]) -> Profile:
    """A profile of whole objects."""
    return dict.fromkeys(digests, ())


def merge(first: Profile, second: Profile) -> Profile:
    """What either reads, as far as a profile may hold it; the order is that of the first."""
    merged = dict(first)
    for digest, ranges in second.items():
        known = merged.get(digest, ranges)
        merged[digest] = join_ranges([*known, *ranges]) if known and ranges else ()
    return dict(list(merged.items())[:MOST_OBJECTS])


def join_ranges(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ascending, without overlaps, and without neighbours that could be one."""
    joined: list[tuple[int, int]] = []
    for start, size in sorted(ranges):
        if joined and start <= sum(joined[-1]):
            first = joined[-1][0]
            joined[-1] = (first, max(sum(joined[-1]), start + size) - first)
        else:
            joined.append((start, size))
    return tuple(joined)


def encode_profile(profile: Profile) -> bytes:
    parts = [_MAGIC]
    for digest, ranges in profile.items():
        parts.append(_HEAD.pack(bytes.fromhex(digest), len(ranges)))
        parts.extend(_RANGE.pack(*each) for each in ranges)
    return b"".join(parts)


def read_profile(data: bytes) -> Profile:
    """CorruptError when the bytes are no profile."""
    if not data.startswith(_MAGIC):
        raise CorruptError("not a profile", why=f"{len(data)} bytes that do not fit")
    profile: dict[Digest, Ranges] = {}
    position = len(_MAGIC)
    try:
        while position < len(data):
            raw, count = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            end = position + count * _RANGE.size
            profile[raw.hex()] = tuple(_RANGE.iter_unpack(memoryview(data)[position:end])) if count else ()
            if len(profile[raw.hex()]) != count:
                raise CorruptError("not a profile", why="it ends too early")
            position = end
    except struct.error as error:
        raise CorruptError("not a profile", why="it ends too early") from error
    return profile
