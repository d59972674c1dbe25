"""Partial objects: large ones that are read while they arrive, chunk by chunk, in whatever order they are wanted.

The chunks that are here lie in a sparse file, `partial/DIGEST`; a byte for each in `partial/DIGEST.have` says so, and
whether somebody has read it. When none is missing the file becomes a whole object; the map stays, to tell what was read.
Each chunk is verified before anyone reads it. One process at a time fetches into a folder of partial objects; its
successor goes on with what it finds there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError
from jiffy.objects.base import NO_ROOM, Digest, Parts, Span, batched, regroup
from jiffy.objects.chunks import ChunkList, read_chunk_list
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import Ranges
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

HERE: Final = 1
READ: Final = 2
_STREAMS: Final = 8
_PREFETCH_STREAMS: Final = 4
_RUN: Final = 4
"""Chunks that one request of a reader asks for at most: several requests are faster than a long one."""

_PREFETCH_RUN: Final = 16
_GAP: Final = 3

_LONGEST_WINDOW: Final = 32
_RECENT: Final = 8
_MAP_SECONDS: Final = 0.5


class PartialObject:
    """One large object that is not whole yet. Thread-safe."""

    def __init__(self, digest: Digest, chunks: ChunkList, store: Partials) -> None:
        self.digest = digest
        self.size = chunks.size
        self._chunks = chunks
        self._store = store
        self._lock = threading.Lock()
        self._arriving: dict[int, Future[bytes]] = {}
        self._recent: list[int] = []
        self._window = 0
        self._is_advised = False
        self._is_unkept = False
        self._path, self._map_path = store.paths(digest)
        store.make_place(digest)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o444)
        os.ftruncate(self._file, chunks.size)
        self._have = _open_map(self._map_path, len(chunks))
        self._missing = self._have[:].count(0)
        self.opens = 0

    def read(self, offset: int, size: int) -> bytes:
        """Wait for the bytes that are asked for, and for no others. Raises as Sources.fetch does."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        numbers = self._chunks.numbers(offset, end)
        arriving = self._request(numbers, self._store.streams)
        self._read_ahead(numbers)
        unkept = {number: data for number, future in arriving.items() if (data := future.result())}
        for number in numbers:
            self._have[number] |= READ if self._have[number] else 0
        if not unkept:
            return os.pread(self._file, end - offset, offset)
        return b"".join(self._piece(number, unkept.get(number), offset, end) for number in numbers)

    def prefetch(self, ranges: Ranges, cancelled: threading.Event) -> None:
        """Fetch these bytes, or all of them when no range is named, as long as it is not cancelled."""
        self._is_advised = True
        numbers = sorted({number for start, size in ranges for number in self._chunks.numbers(start, start + size)})
        for batch in batched(_fill_gaps(numbers) or range(len(self._chunks)), _PREFETCH_RUN):
            if cancelled.is_set():
                return
            for future in self._request(batch, self._store.prefetch_streams, _PREFETCH_RUN).values():
                future.result()

    def close(self) -> None:
        os.close(self._file)
        self._have.close()

    def _piece(self, number: int, data: bytes | None, offset: int, end: int) -> bytes:
        """What of a chunk lies between two places of the object."""
        start, size = self._chunks.span(number)
        first, last = max(offset, start), min(end, start + size)
        if data is not None:
            return data[first - start : last - start]
        return os.pread(self._file, last - first, first)

    def _request(
        self, numbers: Iterable[int], streams: ThreadPoolExecutor, run_length: int = _RUN
    ) -> dict[int, Future[bytes]]:
        """Have the missing ones of some chunks fetched; gives those that are on their way."""
        with self._lock:
            wanted = [number for number in numbers if not self._have[number]]
            new = [number for number in wanted if number not in self._arriving]
            self._arriving.update((number, Future()) for number in new)
            arriving = {number: self._arriving[number] for number in wanted}
        for run in _runs(new, run_length):
            self._store.hold(self)
            streams.submit(self._fetch, run)
        return arriving

    def begin(self) -> None:
        """Who opens a large file reads its beginning and its end, unless a profile knows better."""
        if not self._is_advised:
            last = len(self._chunks)
            self._request(sorted({0, 1, last - 2, last - 1} & set(range(last))), self._store.streams)

    def _read_ahead(self, numbers: range) -> None:
        """Who reads one chunk after the other gets the next ones fetched, the more the longer it goes on; who does not,
        those around, unless a profile told what is read."""
        with self._lock:
            follows = numbers.start - 1 in self._recent
            if numbers.stop - 1 in self._recent and not follows:
                return
            self._recent = [*self._recent, *numbers][-_RECENT:]
            self._window = min(max(2, self._window * 2), _LONGEST_WINDOW) if follows else 0
        group = numbers.start // _RUN * _RUN
        around = range(group, group if self._is_advised else group + _RUN)
        wanted = range(numbers.stop, numbers.stop + self._window) if follows else around
        self._request(range(wanted.start, min(wanted.stop, len(self._chunks))), self._store.streams)

    def _fetch(self, run: range) -> None:
        start = self._chunks.span(run.start)[0]
        end = sum(self._chunks.span(run.stop - 1))
        try:
            self._store.fetch_span(self.digest, (start, end - start), lambda parts: self._take_run(run, parts))
        except BaseException as error:
            with self._lock:
                failed = [future for number in run if (future := self._arriving.pop(number, None)) is not None]
            for future in failed:
                future.set_exception(error)
        finally:
            self._store.release(self)

    def _take_run(self, run: range, parts: Parts) -> None:
        """Each chunk is to be read as soon as it is whole. What came in an earlier try is not taken again."""
        for number, chunk in zip(run, regroup(parts, [self._chunks.span(number)[1] for number in run]), strict=True):
            if number in self._arriving:
                self._chunks.verify(number, chunk)
                self._take(number, chunk)

    def _take(self, number: int, data: memoryview) -> None:
        is_kept = self._write(data, self._chunks.span(number)[0])
        with self._lock:
            if is_kept:
                self._have[number] = HERE
                self._missing -= 1
            future = self._arriving.pop(number)
            is_whole = is_kept and not self._missing
        if is_whole:
            self._publish()
        future.set_result(b"" if is_kept else bytes(data))

    def _write(self, data: memoryview, offset: int) -> bool:
        """A disk that is full, which may take a part of it, or that fails does not keep the bytes from being read."""
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], offset + written)
        except OSError as error:
            if not self._is_unkept:
                logger.warning("parts of %s are not kept: %s", self.digest, error)
            self._is_unkept = True
            return False
        return True

    def _publish(self) -> None:
        if not self._store.trusts_lists and not self._is_right():
            logger.error("a list of chunks is not of object %s: what was fetched by it is dropped", self.digest)
            self._map_path.unlink(missing_ok=True)
            remove_partial(self._path)
            return
        target = self._store.local.path(self.digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # dropped from the cache meanwhile, or a map in memory
            os.utime(self._map_path)
            self._path.resolve().rename(target)
            self._path.unlink(missing_ok=True)

    def _is_right(self) -> bool:
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest() == self.digest


class Partials:
    """The partial objects below `folder`, which is on the filesystem of the tiers' own objects. Where lists of chunks come
    from strangers, what became whole is verified once more."""

    def __init__(self, folder: Path, tiers: Tiers, *, trusts_lists: bool = True) -> None:
        self.local: LocalObjects = tiers.local
        self.trusts_lists = trusts_lists
        self._folder = folder
        self._tiers = tiers
        self._lock = threading.Lock()
        self._lists: dict[Digest, Digest] = {}
        self._maps = threading.Condition()
        self._maps_coming: set[object] = set()
        self._open: dict[Digest, PartialObject] = {}
        self.streams = ThreadPoolExecutor(_STREAMS, thread_name_prefix="chunks")
        self.prefetch_streams = ThreadPoolExecutor(_PREFETCH_STREAMS, thread_name_prefix="prefetch-chunks")

    def learn(self, lists: Mapping[Digest, Digest]) -> None:
        """Which list each large object has."""
        self._lists.update(lists)

    def expect_map(self) -> Callable[[], None]:
        """Opens wait a little, as more is about to be learnt, until the result is called."""
        ticket = object()
        with self._maps:
            self._maps_coming.add(ticket)

        def done() -> None:
            with self._maps:
                self._maps_coming.discard(ticket)
                self._maps.notify_all()

        return done

    def await_maps(self) -> None:
        """Until all that is expected was learnt, or for a little while."""
        with self._maps:
            self._maps.wait_for(lambda: not self._maps_coming, _MAP_SECONDS)

    def knows(self, digest: Digest) -> bool:
        """Whether an object can be had in parts."""
        return digest in self._lists

    def open(self, digest: Digest) -> PartialObject | None:
        """An object to read from, until `release`; None when it is here as a whole, or cannot be had in parts. Raises as
        Tiers.ensure does."""
        if self.local.has(digest):
            return None
        if digest not in self._lists:
            self.await_maps()
        if (its_list := self._lists.get(digest)) is None:
            return None
        chunks = read_chunk_list(self._tiers.read(its_list))
        with self._lock:
            if self.local.has(digest):
                return None
            if (partial := self._open.get(digest)) is None:
                partial = self._open[digest] = PartialObject(digest, chunks, self)
            partial.opens += 1
        return partial

    def hold(self, partial: PartialObject) -> PartialObject:
        """An object that is open, to be released once more."""
        with self._lock:
            partial.opens += 1
        return partial

    def release(self, partial: PartialObject) -> None:
        with self._lock:
            partial.opens -= 1
            if not partial.opens:
                del self._open[partial.digest]
                partial.close()

    def prefetch(self, digest: Digest, ranges: Ranges, cancelled: threading.Event) -> None:
        """Nothing is raised: what did not come is fetched when it is read."""
        partial = None
        try:
            if (partial := self.open(digest)) is not None:
                partial.prefetch(ranges, cancelled)
        except JiffyError as error:
            logger.info("a prefetch ended early: %s", error)
        finally:
            if partial is not None:
                self.release(partial)

    def fetch_span(self, digest: Digest, span: Span, take: Callable[[Parts], None]) -> None:
        self._tiers.fetch_span(digest, self._lists[digest], span, take)

    def paths(self, digest: Digest) -> tuple[Path, Path]:
        """Of a partial object's bytes, and of the map of those that are here."""
        return self._folder / digest, self._folder / f"{digest}.have"

    def make_place(self, digest: Digest) -> None:
        """Have its bytes on the disk of the object that it will be. What is on a disk that was given up is forgotten."""
        path, map_path = self.paths(digest)
        disk = self.local.disks.of(digest)
        target = path if disk is None else disk / "partial" / digest
        if path.resolve() == target.resolve() and path.exists():
            return
        map_path.unlink(missing_ok=True)
        remove_partial(path)
        if disk is not None:
            path.symlink_to(target)


def remove_partial(path: Path) -> None:
    """The bytes of a partial object, wherever they are. Nothing happens when there are none, or when their disk fails."""
    with contextlib.suppress(OSError):
        path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _open_map(path: Path, length: int) -> mmap.mmap:
    """A byte for each chunk, shared with the file, so that it outlives this process. Its room is taken at once: writing to
    a mapping for which a full disk has none would kill the process. Where there is none the map is in memory alone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, length)
        return mmap.mmap(descriptor, length)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        path.unlink()
        return mmap.mmap(-1, length)
    finally:
        os.close(descriptor)


def _runs(numbers: Sequence[int], length: int) -> Iterator[range]:
    """Ascending numbers as ranges without gaps, none longer than `length`."""
    start = 0
    for position in range(1, len(numbers) + 1):
        is_end = position == len(numbers) or numbers[position] != numbers[position - 1] + 1
        if is_end or position - start == length:
            yield range(numbers[start], numbers[position - 1] + 1)
            start = position


def _fill_gaps(numbers: Sequence[int]) -> Sequence[int]:
    """Ascending numbers, with those between when they are so few that another request would cost more."""
    filled: list[int] = []
    for number in numbers:
        if filled and number - filled[-1] <= _GAP:
            filled.extend(range(filled[-1] + 1, number))
        filled.append(number)
    return filled
