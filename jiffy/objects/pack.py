"""Boot packs: one object that holds the contents of a profile's small objects, one after the other.

A bucket has no requests for many objects, and a server answers sooner from one file than from a thousand. A packed profile,
as an object: `jiffypk1`, the sha256 of the pack, u32 the number of objects in it, for each its sha256 and u64 size,
little-endian; then the profile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from jiffy.errors import CorruptError, NotFoundError
from jiffy.objects.base import DIGEST_BYTES, Digest, Span
from jiffy.objects.chunks import LARGE
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import Profile, read_profile

STREAMS: Final = 4
"""Requests that a pack is fetched by, so that no single connection is the limit."""

LEAST_OBJECTS: Final = 32
"""Fewer are fetched as well one by one."""

_MAGIC: Final = b"jiffypk1"
_HEAD: Final = struct.Struct(f"<{DIGEST_BYTES}sI")
_ENTRY: Final = struct.Struct(f"<{DIGEST_BYTES}sQ")


@dataclass(frozen=True, slots=True)
class Pack:
    """`data` is the object with the contents, `sizes` are those of the objects in it, in order."""

    data: Digest
    sizes: Mapping[Digest, int]

    def split(self, parts: int) -> Iterator[tuple[Span, list[tuple[Digest, int]]]]:
        """About equal spans of the data, each with the objects that it holds, whole."""
        entries = iter(self.sizes.items())
        each = -(-sum(self.sizes.values()) // parts)
        start = 0
        while held := list(_until(each, entries)):
            size = sum(size for _, size in held)
            yield (start, size), held
            start += size


def write_pack(profile: Profile, objects: LocalObjects) -> Pack:
    """Store the pack of a profile, without what is large or lost. As it is fetched from several places at once, what is read
    first lies at the start of each."""
    sizes: dict[Digest, int] = {}
    order = list(profile)
    with objects.writer() as writer:
        for digest in (digest for lane in range(STREAMS) for digest in order[lane::STREAMS]):
            size = objects.size(digest)
            if size is None or not 0 < size < LARGE:
                continue
            try:
                writer.write(objects.read(digest))
            except NotFoundError:
                continue
            sizes[digest] = size
        data, _ = writer.publish()
    return Pack(data, sizes)


def encode_packed_profile(pack: Pack, profile: bytes) -> bytes:
    """`profile` as an object has it."""
    entries = (_ENTRY.pack(bytes.fromhex(digest), size) for digest, size in pack.sizes.items())
    return b"".join((_MAGIC, _HEAD.pack(bytes.fromhex(pack.data), len(pack.sizes)), *entries, profile))


def read_packed_profile(data: bytes) -> tuple[Pack | None, Profile]:
    """The profile, and its pack when it has one. CorruptError when the bytes are neither."""
    if not data.startswith(_MAGIC):
        return None, read_profile(data)
    try:
        raw, count = _HEAD.unpack_from(data, len(_MAGIC))
        start = len(_MAGIC) + _HEAD.size
        end = start + count * _ENTRY.size
        sizes = {digest.hex(): size for digest, size in _ENTRY.iter_unpack(memoryview(data)[start:end])}
    except struct.error:
        raise CorruptError("not a packed profile", why="it ends too early") from None
    return Pack(raw.hex(), sizes), read_profile(data[end:])


def _until(size: int, entries: Iterator[tuple[Digest, int]]) -> Iterator[tuple[Digest, int]]:
    for entry in entries:
        yield entry
        size -= entry[1]
        if size <= 0:
            return
