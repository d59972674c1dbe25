"""Eviction: a cache keeps within its limits by dropping what was used longest ago.

The kernel opens cached objects by itself and tells nobody. What is known is when each layer was last part of a root; an
object was last used when one of its layers was, or when it was fetched. Dropping an object that a mounted root needs is
safe: who has found its file goes on with it, who has not falls through to the lazy layer, which fetches it again.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.files import replace_file
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.partial import remove_partial

logger = logging.getLogger(__name__)

_REDIRECT: Final = re.compile(rb"/([0-9a-f]{2})/([0-9a-f]{62})(?![0-9a-f])")
_FRESH_SECONDS: Final = 60.0
"""What was fetched so recently stays: somebody is about to open it."""

_SLACK: Final = 0.1
"""How much more is dropped than has to be, so that it is not needed again at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`size`: bytes that the cache may hold, 0 for no limit; `free`: bytes that its filesystem must keep free."""

    size: int = 0
    free: int = 0


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Evicted:
    """The number and bytes of the objects that were dropped."""

    objects: int
    size: int


class LayerUse:
    """When each layer was last part of a root, in a file that outlives workers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._times: dict[Digest, float] = {
                key: float(value) for key, value in json.loads(path.read_text()).items()
            }
        except (OSError, ValueError, AttributeError):
            self._times = {}

    def note(self, layers: Iterable[Digest]) -> None:
        """They are part of a root now."""
        with self._lock:
            self._times.update(dict.fromkeys(layers, time.time()))

    def save(self) -> None:
        with self._lock:
            text = json.dumps(self._times)
        replace_file(self._path, text)

    def last_used(self, local: LocalObjects) -> Mapping[Digest, float]:
        """When each object of those layers was last used; layers that are not here any more are forgotten."""
        used: dict[Digest, float] = {}
        with self._lock:
            times = dict(self._times)
        for layer, seconds in times.items():
            try:
                image = local.path(layer).read_bytes()
            except FileNotFoundError:
                with self._lock:
                    self._times.pop(layer, None)
                continue
            for digest in (layer, *_listed(image)):
                used[digest] = max(seconds, used.get(digest, 0.0))
        return used


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    used: float


class Evictor:
    """Of the objects and partial objects of a host that can fetch them again."""

    def __init__(self, local: LocalObjects, partial: Path, use: LayerUse, limits: Limits) -> None:
        self._local = local
        self._partial = partial
        self._use = use
        self._limits = limits

    def run(self) -> Evicted:
        """Drop what has to be dropped. The map of a partial object goes first: without its file it would lie."""
        self._use.save()
        if not self._limits.size and self._lacking_room() <= 0:
            return Evicted(0, 0)
        files = sorted(self._files(), key=lambda file: file.used)
        total = sum(file.size for file in files)
        excess = max(total - self._limits.size if self._limits.size else 0, self._lacking_room())
        dropped = list(_oldest(files, int(excess * (1 + _SLACK)), time.time() - _FRESH_SECONDS)) if excess > 0 else []
        for file in dropped:
            if file.path.parent == self._partial:
                file.path.with_name(f"{file.path.name}.have").unlink(missing_ok=True)
            remove_partial(file.path)
        self._drop_maps()
        size = sum(file.size for file in dropped)
        if dropped:
            logger.info("%d objects dropped from the cache, %d bytes", len(dropped), size)
        return Evicted(len(dropped), size)

    def _drop_maps(self) -> None:
        """Those of objects that became whole, and are not here any more."""
        for path in self._partial.glob("*.have"):
            if not path.with_suffix("").exists() and not self._local.has(path.stem):
                path.unlink(missing_ok=True)

    def _lacking_room(self) -> int:
        """Of all disks together that lack some: objects are spread evenly."""
        disks = self._local.disks.roots or (self._local.root,)
        lacking = [self._limits.free - shutil.disk_usage(disk).free for disk in disks]
        return sum(max(0, each) for each in lacking) * len(disks) or max(lacking)

    def _files(self) -> Iterator[_File]:
        used = self._use.last_used(self._local)
        whole = ((digest, self._local.path(digest)) for digest in self._local)
        partial = ((path.name, path) for path in self._partial.iterdir() if path.suffix != ".have")
        for digest, path in (*whole, *partial):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            changed = max(status.st_mtime, status.st_ctime)
            yield _File(path, status.st_blocks * 512, max(changed, used.get(digest, 0.0)))


def _oldest(files: Iterable[_File], excess: int, until: float) -> Iterator[_File]:
    for file in files:
        if excess <= 0 or file.used > until:
            return
        excess -= file.size
        yield file


def _listed(image: bytes) -> Iterator[Digest]:
    """The objects that an EROFS image redirects to: their paths stand in it as text."""
    return ((match[1] + match[2]).decode() for match in _REDIRECT.finditer(image))
