"""A cache after a crash of the machine: what was written since the last sync may be broken, and is dropped if it is.

Objects of a cache are published without a sync of their own. A marker says when all were synced last, and in which boot.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Final

from jiffy.files import replace_file
from jiffy.objects.local import LocalObjects, sync_filesystem
from jiffy.objects.partial import remove_partial

logger = logging.getLogger(__name__)

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_SLACK: Final = 2.0
"""Seconds by which a file's change may seem to be before it happened."""


class Marker:
    """The file at `path`, about a store of objects and a folder of partial ones."""

    def __init__(self, path: Path, objects: LocalObjects, partial: Path) -> None:
        self._path = path
        self._objects = objects
        self._partial = partial

    def recover(self) -> int:
        """Drop objects that are not whole, if the machine was started anew since the marker; gives how many. Partial ones
        are dropped all: nothing tells which of their chunks reached the disk. Otherwise nothing is to be done: a sync would
        hold up the start by what all others write to the same disk."""
        try:
            marked = json.loads(self._path.read_text())
            boot, synced_at = str(marked["boot"]), float(marked["synced_at"])
        except (OSError, ValueError, KeyError, TypeError):
            boot, synced_at = "", 0.0
        if boot == _BOOT.read_text():
            return 0
        dropped = self._drop_broken(synced_at - _SLACK)
        for path in self._partial.iterdir():
            remove_partial(path)
        self.sync()
        return dropped

    def sync(self) -> None:
        """All that is here now is safe."""
        now = time.time()
        for disk in (self._objects.root, *self._objects.disks.roots):
            sync_filesystem(disk)
        replace_file(self._path, json.dumps({"boot": _BOOT.read_text(), "synced_at": now}))

    def _drop_broken(self, since: float) -> int:
        dropped = 0
        for digest in self._objects:
            path = self._objects.path(digest)
            if path.stat().st_ctime >= since and _digest(path) != digest:
                logger.warning("object %s was broken by a crash", digest)
                path.unlink()
                dropped += 1
        return dropped


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
