"""Which objects lie beside each other in a tree: who reads one of a folder's files will soon read others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from jiffy.objects.base import Digest

_AHEAD: Final = 32


class Neighbours:
    """Lists of objects in the order of their paths. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Digest, tuple[Sequence[Digest], int]] = {}

    def add(self, digests: Sequence[Digest]) -> None:
        """Learn a list. An object that is in several lists has its place in the first."""
        with self._lock:
            for number, digest in enumerate(digests):
                self._places.setdefault(digest, (digests, number))

    def following(self, digest: Digest) -> Sequence[Digest]:
        """Those that come after an object; none when it is in no list."""
        with self._lock:
            digests, number = self._places.get(digest, ((), 0))
        return digests[number + 1 : number + 1 + _AHEAD]
