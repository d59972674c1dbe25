"""Objects in a bucket (S3, Google Cloud Storage, Azure) or a folder, by obstore. Keys are PREFIX/aa/bbcc...

obstore takes addresses and credentials of servers from the usual environment variables (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME ...).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from jiffy.errors import (
    CorruptError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from jiffy.objects.base import PART_BYTES, Digest, Parts, Receive, RoundTrips, Span, T, object_path

SCHEMES: Final = ("s3", "gs", "az", "file")
_AT_ONCE: Final = 32
_CONNECT_SECONDS: Final = 5.0
_WIRE_ERRORS: Final = ("PermissionDeniedError", "UnauthenticatedError")


class CloudObjects:
    """`url` is such as s3://bucket/prefix. `stall`: seconds until a request that brings nothing is given up."""

    def __init__(self, url: str, *, stall: float = 10.0) -> None:
        self.name = url.rstrip("/")
        self._answers = RoundTrips()
        self._obstore, self._store = _open_store(self.name, stall)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cloud")

    @property
    def round_trip(self) -> float:
        return self._answers.shortest

    def fetch(self, digest: Digest, take: Callable[[Parts], T], span: Span | None = None, chunks: Digest = "") -> T:
        options = None if span is None else {"range": (span[0], sum(span))}
        with self._explain(digest):
            started = time.monotonic()
            result = self._obstore.get(self._store, object_path(digest), options=options)
        self._answers.note(time.monotonic() - started)
        return take(self._parts(digest, result, result.meta["size"] if span is None else span[1]))

    def fetch_many(self, digests: Sequence[Digest], receive: Receive) -> None:
        """A bucket answers for one object at a time: many requests are under way at once."""

        def fetch(digest: Digest) -> None:
            try:
                self.fetch(digest, lambda parts: receive(digest, parts))
            except NotFoundError:
                return

        self._do_all(fetch, digests)

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        found: dict[Digest, bool] = {}

        def look(digest: Digest) -> None:
            found[digest] = self.has(digest)

        wanted = list(digests)
        self._do_all(look, wanted)
        return [digest for digest in wanted if not found[digest]]

    def has(self, digest: Digest) -> bool:
        try:
            with self._explain(digest):
                self._obstore.head(self._store, object_path(digest))
        except NotFoundError:
            return False
        return True

    def put(self, digest: Digest, file: Path) -> None:
        """Store a file as an object. Durable on return; seen whole or not at all."""
        with self._explain(digest):
            self._obstore.put(self._store, object_path(digest), file)

    def put_many(self, files: Iterable[tuple[Digest, Path]]) -> None:
        self._do_all(lambda item: self.put(*item), files)

    def delete_many(self, digests: Sequence[Digest]) -> None:
        """Nothing happens to those that are not there."""

        def delete(digest: Digest) -> None:
            try:
                with self._explain(digest):
                    self._obstore.delete(self._store, object_path(digest))
            except NotFoundError:
                return

        self._do_all(delete, digests)

    def __iter__(self) -> Iterator[Digest]:
        with self._explain(""):
            for page in self._obstore.list(self._store):
                yield from (each["path"].replace("/", "") for each in page)

    def _parts(self, digest: Digest, result: Any, size: int) -> Iterator[memoryview]:
        left = size
        stream = iter(result.stream(min_chunk_size=PART_BYTES))
        while True:
            with self._explain(digest):
                part = next(stream, None)
            if part is None:
                break
            left -= len(part)
            yield memoryview(part)
        if left:
            raise CorruptError(f"object {digest} broke off half-way", why=f"{left} bytes are missing")

    def _do_all(self, job: Callable[[T], None], items: Iterable[T]) -> None:
        """A few at once; raises the first error when all that began have ended."""
        waiting = iter(items)
        running = {self._pool.submit(job, item) for item in itertools.islice(waiting, _AT_ONCE)}
        failure: BaseException | None = None
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            failure = failure or next(filter(None, map(Future.exception, done)), None)
            if failure is None:
                running |= {self._pool.submit(job, item) for item in itertools.islice(waiting, len(done))}
        if failure is not None:
            raise failure

    @contextmanager
    def _explain(self, digest: Digest) -> Iterator[None]:
        """obstore's errors have a class for each kind, and a long text of which the first line is for people."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.name} has no object {digest}") from error
        except (self._obstore.exceptions.BaseError, OSError) as error:
            why = str(error).partition("\n")[0]
            if type(error).__name__ in _WIRE_ERRORS:
                raise UnauthenticatedError(f"{self.name} refused the credentials", why=why) from error
            raise UnavailableError(f"{self.name} fails", why=why) from error


def _open_store(url: str, stall: float) -> tuple[Any, Any]:
    try:
        import obstore
        from obstore.store import from_url
    except ImportError:
        raise UnsupportedError(
            f"cannot read {url}", why="obstore is not installed", hint="pip install 'jiffy[cloud]'"
        ) from None
    options: dict[str, Any] = {}
    if not url.startswith("file:"):
        options["client_options"] = {
            "timeout": timedelta(seconds=stall * 6),
            "read_timeout": timedelta(seconds=stall),
            "connect_timeout": timedelta(seconds=min(stall, _CONNECT_SECONDS)),
            "allow_http": True,
        }
        options["retry_config"] = {"max_retries": 0}
    try:
        return obstore, from_url(url, **options)
    except (obstore.exceptions.BaseError, ValueError, OSError) as error:
        raise InvalidError(f"{url} is no place for objects", why=str(error).partition("\n")[0]) from error
