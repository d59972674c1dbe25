"""Tiers: an object is taken from this host's directory, else fetched from a source, verified and published there."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from jiffy.errors import ExhaustedError, JiffyError, NotFoundError
from jiffy.objects.base import Digest, Parts, Span, regroup
from jiffy.objects.catalogue import Neighbours
from jiffy.objects.local import LocalObjects
from jiffy.objects.memory import MemoryObject
from jiffy.objects.pack import STREAMS, Pack
from jiffy.objects.sources import Sources

logger = logging.getLogger(__name__)

_ONE_STREAM: Final = 64
"""Objects that are not worth a second request."""

_READERS: Final = 8
_LEAST_AHEAD: Final = 32
_MOST_AHEAD: Final = 4096
_NEAR_SECONDS: Final = 0.003
_READ_AHEAD_SECONDS: Final = 2.0
"""How long an object may take when it is asked for together with others, until it is asked for alone."""

_MOSTLY: Final = 0.5
"""The share of a boot pack that must be here for the rest to be fetched by itself."""

_PATIENCE: Final = 0.1
"""Seconds to wait for an object that a prefetch is to bring."""


class _PrefetchCancelledError(JiffyError):
    """Nobody's fault: no source is to be left alone for it."""


class Tiers:
    """Thread-safe: many that ask for one object at the same time cause one fetch."""

    def __init__(self, local: LocalObjects, sources: Sources | None) -> None:
        self.local = local
        self._sources = sources
        self._lock = threading.Lock()
        self._fetches: dict[Digest, Future[Path]] = {}
        self._expected: dict[Digest, Future[Path]] = {}
        self.neighbours = Neighbours()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read-ahead")

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

    def _fetch_with_neighbours(self, sources: Sources, digest: Digest) -> bool:
        """Ask for an object and those beside it; True as soon as the object is here, while the others still come."""
        with self._lock:
            beside = [
                each
                for each in self.neighbours.beside(digest, _objects_ahead(sources.round_trip))
                if self._is_missing(each)
            ]
            if not beside:
                return False
            futures = {each: Future[Path]() for each in (digest, *beside)}
            self._expected.update((each, futures[each]) for each in beside)
        self._readers.submit(self._read_ahead, sources, futures)
        try:
            futures[digest].result(_READ_AHEAD_SECONDS + 2 * sources.round_trip)
        except (TimeoutError, CancelledError):
            return False
        return True

    def _is_missing(self, digest: Digest) -> bool:
        return digest not in self._expected and digest not in self._fetches and not self.local.has(digest)

    def _read_ahead(self, sources: Sources, futures: dict[Digest, Future[Path]]) -> None:
        try:
            self._receive_many(sources, list(futures), futures, threading.Event())
        finally:
            self._expect_no_more(futures)

    def _expect_no_more(self, futures: Mapping[Digest, Future[Path]]) -> None:
        """Whoever still waits fetches by himself."""
        with self._lock:
            for digest in futures:
                self._expected.pop(digest, None)
        for future in futures.values():
            future.cancel()

    def fetch_span(self, digest: Digest, chunks: Digest, span: Span, take: Callable[[Parts], None]) -> None:
        """A span of an object that is not here, to be verified by who takes it. Raises as `ensure` does."""
        self._beyond(digest).fetch(digest, take, span, chunks)

    def read(self, digest: Digest) -> bytes:
        """The content of a small object, whether or not the disk has room for it. Raises as `ensure` does."""
        try:
            return self.ensure(digest).read_bytes()
        except ExhaustedError:
            with os.fdopen(self.fetch_to_memory(digest), "rb") as memory:
                memory.seek(0)
                return memory.read()

    def fetch_to_memory(self, digest: Digest) -> int:
        """A descriptor of the object in memory, for when the disk has no room for it. Raises as `ensure` does."""
        return self._beyond(digest).fetch(digest, lambda parts: _gather(digest, parts))

    def prefetch(self, digests: Sequence[Digest], cancelled: threading.Event) -> None:
        """Fetch what is missing of many objects in few requests, in order. Whoever needs one of them meanwhile waits a
        little for it, then fetches it by itself. Nothing is raised: what did not come is fetched when it is read."""
        sources = self._sources
        if sources is None:
            return
        with self._expecting(digests) as futures:
            missing = list(futures)
            streams = min(STREAMS, -(-len(missing) // _ONE_STREAM))
            parts = [missing[start::streams] for start in range(streams)]
            self._in_streams([partial(self._receive_many, sources, part, futures, cancelled) for part in parts])

    def prefetch_pack(self, pack: Pack, cancelled: threading.Event) -> None:
        """Fetch the objects of a boot pack, by a few large requests, unless most are here. As `prefetch`, otherwise."""
        sources = self._sources
        here = sum(size for digest, size in pack.sizes.items() if self.local.has(digest))
        if sources is None or here > _MOSTLY * sum(pack.sizes.values()):
            return
        with self._expecting(pack.sizes) as futures:

            def take(parts: Parts, held: Sequence[tuple[Digest, int]]) -> None:
                for (digest, _), data in zip(held, regroup(parts, [size for _, size in held]), strict=True):
                    self._receive(digest, [data], futures, cancelled)

            def fetch(span: Span, held: Sequence[tuple[Digest, int]]) -> None:
                try:
                    sources.fetch(pack.data, lambda parts: take(parts, held), span)
                except JiffyError as error:
                    logger.info("a part of a boot pack did not come: %s", error)

            self._in_streams([partial(fetch, *each) for each in pack.split(STREAMS)])

    def _receive(
        self, digest: Digest, parts: Parts, futures: Mapping[Digest, Future[Path]], cancelled: threading.Event
    ) -> None:
        """Store one that was expected. What somebody fetched meanwhile is passed over."""
        if cancelled.is_set():
            raise _PrefetchCancelledError("the prefetch was cancelled")
        future = futures.get(digest)
        if future is not None and not future.done():
            self._store(digest, parts)
            future.set_result(self.local.path(digest))

    def _in_streams(self, jobs: Sequence[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(STREAMS, thread_name_prefix="prefetch") as pool:
            for job in [pool.submit(job) for job in jobs]:
                job.result()

    @contextmanager
    def _expecting(self, digests: Iterable[Digest]) -> Iterator[dict[Digest, Future[Path]]]:
        """Those that are missing, to be fetched in the block: others wait for them a little."""
        with self._lock:
            futures = {digest: Future[Path]() for digest in dict.fromkeys(digests) if self._is_missing(digest)}
            self._expected.update(futures)
        try:
            yield futures
        finally:
            self._expect_no_more(futures)

    def _receive_many(
        self,
        sources: Sources,
        digests: Sequence[Digest],
        futures: Mapping[Digest, Future[Path]],
        cancelled: threading.Event,
    ) -> None:
        try:
            sources.fetch_many(digests, lambda digest, parts: self._receive(digest, parts, futures, cancelled))
        except JiffyError as error:
            logger.info("a prefetch ended early: %s", error)

    def _await_prefetch(self, digest: Digest) -> bool:
        """Whether a prefetch brings the object soon."""
        expected = self._expected.get(digest)
        if expected is None:
            return False
        patience = _PATIENCE + 2 * (self._sources.round_trip if self._sources is not None else 0)
        try:
            expected.result(patience)
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
        sources = self._beyond(digest)
        if not self._fetch_with_neighbours(sources, digest):
            sources.fetch(digest, lambda parts: self._store(digest, parts))
        return self.local.path(digest)

    def _beyond(self, digest: Digest) -> Sources:
        if self._sources is None:
            raise NotFoundError(f"no object {digest}", why="this host has no origin to fetch it from")
        return self._sources

    def _store(self, digest: Digest, parts: Parts) -> None:
        """What a server that shares the directory has stored meanwhile is not written again."""
        if self.local.has(digest):
            for _ in parts:
                pass
            return
        with self.local.writer(digest) as writer:
            for part in parts:
                writer.write(part)
            writer.publish()


def _objects_ahead(round_trip: float) -> int:
    """The farther a source, the more objects it pays to ask for at once."""
    return min(_MOST_AHEAD, int(_LEAST_AHEAD * max(1.0, round_trip / _NEAR_SECONDS)))


def _gather(digest: Digest, parts: Parts) -> int:
    memory = MemoryObject()
    try:
        for part in parts:
            memory.write(part)
        return memory.seal(digest)
    except BaseException:
        memory.discard()
        raise
