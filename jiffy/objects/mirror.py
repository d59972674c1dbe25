"""A mirror: a bucket that has what a server's own directory has, for hosts to fetch from.

The directory stays the truth: what is not in the bucket yet is asked of the server, so hosts name the bucket as a source
before it. Objects are never changed, so there is nothing to compare but names.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from jiffy.objects.base import Digest, batched
from jiffy.objects.cloud import CloudObjects
from jiffy.objects.local import LocalObjects

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 256
"""After so many it is known that they are there: the next run begins behind them when this one fails."""


class Mirror:
    """Of one server: what else is in the bucket's prefix is deleted as if the server had deleted it."""

    def __init__(self, objects: LocalObjects, bucket: CloudObjects) -> None:
        self._objects = objects
        self._bucket = bucket
        self._there: set[Digest] | None = None
        self._seen: dict[Path, float] = {}
        self._cancelled = threading.Event()

    def run(self) -> int:
        """Upload what is missing in the bucket and delete what is here no more; gives how many were uploaded. Raises as
        CloudObjects does; the next run goes on from there."""
        if self._there is None:
            self._there = set(self._bucket)
        there = self._there
        changed = {folder: folder.stat().st_mtime for folder in self._folders()}
        changed = {folder: time for folder, time in changed.items() if self._seen.get(folder) != time}
        here = {folder.name + file.name for folder in changed for file in folder.iterdir()}
        names = {folder.name for folder in changed}
        gone = [digest for digest in there if digest[:2] in names and digest not in here]
        uploaded = sum(map(self._upload, batched(sorted(here - there), _AT_ONCE)))
        self._bucket.delete_many(gone)
        there.difference_update(gone)
        if not self._cancelled.is_set():
            self._seen.update(changed)
        if uploaded or gone:
            logger.info("%d objects put into %s, %d deleted", uploaded, self._bucket.name, len(gone))
        return uploaded

    def cancel(self) -> None:
        """End the run that is under way, and all later ones, soon."""
        self._cancelled.set()

    def _folders(self) -> Iterator[Path]:
        return (folder for folder in self._objects.root.iterdir() if folder.is_dir())

    def _upload(self, digests: Sequence[Digest]) -> int:
        """Those that were not collected meanwhile."""
        if self._cancelled.is_set():
            return 0
        files = [(digest, self._objects.path(digest)) for digest in digests]
        found = [(digest, path) for digest, path in files if path.exists()]
        self._bucket.put_many(found)
        assert self._there is not None
        self._there.update(digest for digest, _ in found)
        return len(found)
