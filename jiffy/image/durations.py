"""Durations as Dockerfiles write them: 30s, 1m30s, 1.5h."""

from __future__ import annotations

import re
from typing import Final

from jiffy.errors import InvalidError

_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_ALL: Final = re.compile(rf"0|(?:{_PART.pattern})+")


def parse_duration(text: str) -> int:
    """Nanoseconds. InvalidError when it is none."""
    if not _ALL.fullmatch(text):
        raise InvalidError(f"{text[:40]!r} is no time", hint="such as 30s or 1m30s")
    return int(sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text)))
