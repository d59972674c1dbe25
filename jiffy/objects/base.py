"""Objects: bytes named by their sha256."""

from __future__ import annotations

import re
import struct
from typing import Final

from jiffy.errors import InvalidError

Digest = str
"""64 lowercase hex digits."""

DIGEST_BYTES: Final = 32
BATCH_LENGTH: Final = struct.Struct("<Q")
"""Before each object of a batch: its length, or ABSENT."""

ABSENT: Final = 2**64 - 1
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def check_digest(text: str) -> Digest:
    """The text, if it is a digest; InvalidError otherwise."""
    if not _DIGEST.fullmatch(text):
        raise InvalidError(f"{text[:80]!r} is not a digest", hint="64 lowercase hex digits of a sha256")
    return text


def object_path(digest: Digest) -> str:
    """Where an object lies below the root of a store: aa/bbcc..."""
    return f"{digest[:2]}/{digest[2:]}"
