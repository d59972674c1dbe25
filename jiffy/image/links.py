"""Paths that lead through links, followed as a kernel would whose root is the tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jiffy.errors import InvalidError

MOST_LINKS: Final = 40


def follow(path: bytes, target_of: Callable[[bytes], bytes | None]) -> bytes:
    """Where a path leads once all links on it are followed, the last one too. `target_of` tells the target of a link, None
    for what is none or does not exist. `..` never leaves the root. InvalidError for links in a circle."""
    pending = [name for name in path.split(b"/") if name][::-1]
    trail: list[bytes] = []
    links = 0
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            del trail[-1:]
            continue
        target = target_of(b"/" + b"/".join([*trail, name]))
        if target is None:
            trail.append(name)
            continue
        links += 1
        if links > MOST_LINKS:
            raise InvalidError(f"{path[:100]!r} leads through a loop of links")
        if target.startswith(b"/"):
            trail.clear()
        pending.extend(target.split(b"/")[::-1])
    return b"/" + b"/".join(trail)
