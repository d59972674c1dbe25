"""Entry ids of streams: where a client was, so that it goes on from there after a reconnect."""

from __future__ import annotations

import re

from jiffy.errors import InvalidError


def entry_id(position: int) -> str:
    """The id of the entry at a position of the store."""
    return f"{position}-0"


def read_entry_id(text: str) -> int:
    """The position that an id stands for; 0, before the first, for none. InvalidError for what was never given out."""
    if not text:
        return 0
    match = re.fullmatch(r"(\d{1,18})-\d{1,18}", text)
    if match is None:
        raise InvalidError(f"{text[:40]!r} is no entry id of this server")
    return int(match[1])
