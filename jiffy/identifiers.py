"""Ids as the wire API formats them. The same parts give the same id, so a repeated request repeats nothing."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SHORT: Final = 22
_TASK: Final = 26


def _spell(number: int, alphabet: str, length: int) -> str:
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        letters.append(alphabet[digit])
    return "".join(letters)


def random_id(prefix: str) -> str:
    """A fresh id such as `ap-...`: 22 base62 letters, 130 random bits."""
    return f"{prefix}-{_spell(secrets.randbits(131), _BASE62, _SHORT)}"


def derived_id(prefix: str, *parts: str) -> str:
    """The id that these parts always give."""
    digest = hashlib.sha256("\0".join((prefix, *parts)).encode()).digest()
    return f"{prefix}-{_spell(int.from_bytes(digest), _BASE62, _SHORT)}"


def task_id() -> str:
    """A container's id. The client takes one that ends in V for a sandbox, so none does."""
    return f"ta-{_spell(secrets.randbits(130), _BASE32, _TASK - 1)}0"
