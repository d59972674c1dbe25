"""Tiers: an object is taken from this host's directory, else fetched from the origin, verified and published there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from jiffy.errors import CorruptError, JiffyError, NotFoundError, UnavailableError
from jiffy.objects.base import Digest
from jiffy.objects.http import HttpObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.memory import MemoryObject

logger = logging.getLogger(__name__)

_TRIES: Final = 3
_STREAMS: Final = 4
"""Requests that one prefetch is spread over, so that no single connection is its limit."""

_PATIENCE: Final = 0.1
"""Seconds to wait for an object that a prefetch is to bring."""


class Tiers:
    """Thread-safe: many that ask for one object at the same time cause one fetch."""

    def __init__(self, local: LocalObjects, origin: HttpObjects | None) -> None:
        self.local = local
        self._origin = origin
        self._lock = threading.Lock()
        self._fetches: dict[Digest, Future[Path]] = {}
        self._expected: dict[Digest, Future[Path]] = {}

    def ensure(self, digest: Digest) -> Path:
        """The object's file on this host. Raises NotFoundError, UnavailableError or CorruptError."""
        path = self.local.path(digest)
        if path.exists() or self._await_prefetch(digest):
            return path
        with self._lock:
            fetch = self._fetches.get(digest)
            mine = fetch is None
            if fetch is None:
                fetch = self._fetches[digest] = Future()
        if mine:
            self._settle(digest, fetch)
        return fetch.result()

    def fetch_to_memory(self, digest: Digest) -> int:
        """A descriptor of the object in memory, for when the disk has no room for it. Raises as `ensure` does."""
        if self._origin is None:
            raise NotFoundError(f"no object {digest}", why="this host has no origin to fetch it from")
        memory = MemoryObject()
        try:
            self._origin.fetch(digest, memory)
            return memory.seal(digest)
        except BaseException:
            memory.discard()
            raise

    def prefetch(self, digests: Sequence[Digest], cancelled: threading.Event) -> None:
        """Fetch what is missing of many objects in few requests, in order. Whoever needs one of them meanwhile waits a
        little for it, then fetches it by itself. Nothing is raised: what did not come is fetched when it is read."""
        origin = self._origin
        if origin is None:
            return
        with self._lock:
            missing = [
                each for each in dict.fromkeys(digests) if each not in self._expected and not self.local.has(each)
            ]
            self._expected.update((digest, Future()) for digest in missing)
        try:
            parts = [part for start in range(_STREAMS) if (part := missing[start::_STREAMS])]
            with ThreadPoolExecutor(_STREAMS, thread_name_prefix="prefetch") as pool:
                for job in [pool.submit(self._prefetch_part, origin, part, cancelled) for part in parts]:
                    job.result()
        finally:
            with self._lock:
                expected = [self._expected.pop(digest) for digest in missing]
            for future in expected:
                future.cancel()

    def _prefetch_part(self, origin: HttpObjects, digests: Sequence[Digest], cancelled: threading.Event) -> None:
        def receive(digest: Digest, parts: Iterable[bytes]) -> None:
            with self.local.writer() as writer:
                for part in parts:
                    writer.write(part)
                if cancelled.is_set():
                    raise UnavailableError("the prefetch was cancelled")
                writer.publish(digest)
            self._expected[digest].set_result(self.local.path(digest))

        try:
            origin.fetch_many(digests, receive)
        except JiffyError as error:
            logger.info("a prefetch ended early: %s", error)

    def _await_prefetch(self, digest: Digest) -> bool:
        """Whether a prefetch brings the object soon."""
        expected = self._expected.get(digest)
        if expected is None:
            return False
        try:
            expected.result(_PATIENCE)
        except (TimeoutError, CancelledError):
            return False
        return True

    def _settle(self, digest: Digest, fetch: Future[Path]) -> None:
        try:
            fetch.set_result(self._fetch(digest))
        except BaseException as error:
            fetch.set_exception(error)
        finally:
            with self._lock:
                del self._fetches[digest]

    def _fetch(self, digest: Digest) -> Path:
        if self.local.has(digest):
            return self.local.path(digest)
        if self._origin is None:
            raise NotFoundError(f"no object {digest}", why="this host has no origin to fetch it from")
        for remaining in reversed(range(_TRIES)):
            try:
                with self.local.writer() as writer:
                    self._origin.fetch(digest, writer)
                    writer.publish(digest)
                return self.local.path(digest)
            except CorruptError as error:
                if not remaining:
                    raise
                logger.warning("fetching again: %s", error)
        raise AssertionError("unreachable")
