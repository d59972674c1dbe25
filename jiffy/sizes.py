"""Sizes as people write them: 20GiB, 512M, 1000000."""

from __future__ import annotations

import re
from typing import Final

from jiffy.errors import InvalidError

_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes; units are of 1024."""
    if (match := _SIZE.fullmatch(text.strip())) is None:
        raise InvalidError(f"{text!r} is no size", hint="such as 20GiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
