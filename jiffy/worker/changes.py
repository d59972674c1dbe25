"""What containers changed of their roots, kept as objects: for a container that was one step of a build."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from jiffy.core.events import ChangeCaptured
from jiffy.image.change import Change, capture_change, encode_change
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects


class Store(Protocol):
    """The server's store, where it is not this host's."""

    def missing(self, digests: Sequence[Digest]) -> list[Digest]: ...
    def store(self, digest: Digest, path: Path) -> None: ...


class Changes:
    """`store` is None where the server shares this host's objects."""

    def __init__(self, objects: LocalObjects, store: Store | None) -> None:
        self._objects = objects
        self._store = store

    async def capture(self, task_id: str, upper: Path) -> ChangeCaptured:
        """From an upper folder that is mounted no more; its files are moved away."""
        return await asyncio.to_thread(self._capture, task_id, upper)

    async def copy(self, upper: Path) -> Digest:
        """A change of an upper folder that is in use and stays as it is."""
        return await asyncio.to_thread(self._copy, upper)

    def _copy(self, upper: Path) -> Digest:
        with self._objects.batch() as batch:
            change = capture_change(upper, batch.copy)
            digest = batch.put(encode_change(change))
        if self._store is not None:
            self._send(self._store, [*_contents(change), digest])
        return digest

    def _capture(self, task_id: str, upper: Path) -> ChangeCaptured:
        with self._objects.batch() as batch:
            change = capture_change(upper, batch.adopt)
            digest = batch.put(encode_change(change))
        if self._store is not None:
            self._send(self._store, [*_contents(change), digest])
        size = sum(entry.size for entry in change.entries)
        return ChangeCaptured(task_id, digest, len(change.entries), size)

    def _send(self, store: Store, digests: Sequence[Digest]) -> None:
        for digest in store.missing(digests):
            store.store(digest, self._objects.path(digest))


def _contents(change: Change) -> list[Digest]:
    return list(dict.fromkeys(entry.digest for entry in change.entries if entry.digest))
