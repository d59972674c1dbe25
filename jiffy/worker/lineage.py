"""Which workers ran on a data directory before the one that runs now. None of them lives: that one holds the lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from jiffy.files import replace_file

_REMEMBERED: Final = 16


def succeed(path: Path, worker_id: str) -> tuple[str, ...]:
    """Those before a worker that begins now, the last one first; of very many the last ones."""
    try:
        before = [str(each) for each in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        before = []
    replace_file(path, json.dumps([worker_id, *before][:_REMEMBERED]))
    return tuple(before)
