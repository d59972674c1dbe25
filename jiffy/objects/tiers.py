"""Tiers: an object is taken from this host's directory, else fetched from the origin, verified and published there."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from jiffy.errors import CorruptError, NotFoundError
from jiffy.objects.base import Digest
from jiffy.objects.http import HttpObjects
from jiffy.objects.local import LocalObjects

logger = logging.getLogger(__name__)

_TRIES: Final = 3


class Tiers:
    """Thread-safe: many that ask for one object at the same time cause one fetch."""

    def __init__(self, local: LocalObjects, origin: HttpObjects | None) -> None:
        self.local = local
        self._origin = origin
        self._lock = threading.Lock()
        self._fetches: dict[Digest, Future[Path]] = {}

    def ensure(self, digest: Digest) -> Path:
        """The object's file on this host. Raises NotFoundError, UnavailableError or CorruptError."""
        path = self.local.path(digest)
        if path.exists():
            return path
        with self._lock:
            fetch = self._fetches.get(digest)
            mine = fetch is None
            if fetch is None:
                fetch = self._fetches[digest] = Future()
        if mine:
            self._settle(digest, fetch)
        return fetch.result()

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
