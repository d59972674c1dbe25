"""Objects of another jiffy, read from its object server over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from typing import Final, Protocol, cast

import urllib3
from urllib3.exceptions import HTTPError

from jiffy.errors import CorruptError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.objects.base import ABSENT, BATCH_LENGTH, CHUNKS_HEADER, Digest, Receive, RoundTrips, Span, T

_CHUNK: Final = 2**18
_BUFFER: Final = 2**20
_CONNECTIONS: Final = 32
_CONNECT_SECONDS: Final = 5.0


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class HttpObjects:
    """`url` is the server's HTTP address, `token` is `id:secret`. `stall`: seconds without a byte until it is given up."""

    def __init__(self, url: str, token: str, *, stall: float = 10.0) -> None:
        self.name = url.rstrip("/")
        self._answers = RoundTrips()
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            headers={"Authorization": f"Bearer {token}"},
            timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, stall), read=stall),
            retries=False,
        )

    @property
    def round_trip(self) -> float:
        return self._answers.shortest

    def fetch(
        self, digest: Digest, take: Callable[[Iterable[bytes]], T], span: Span | None = None, chunks: Digest = ""
    ) -> T:
        wanted = {} if span is None else {"Range": f"bytes={span[0]}-{sum(span) - 1}"}
        if chunks:
            wanted[CHUNKS_HEADER] = chunks
        with self._request("GET", f"/objects/{digest}", headers=wanted) as response:
            if span is None:
                return take(response.stream(_CHUNK))
            if response.status != 206:
                raise UnavailableError(f"{self.name} cannot answer for parts of objects")
            return take(_parts(response, span[1]))

    def fetch_many(self, digests: Sequence[Digest], receive: Receive) -> None:
        body = b"".join(map(bytes.fromhex, digests))
        with self._request("POST", "/objects", body=body) as response:
            stream = BufferedReader(cast(RawIOBase, response), _BUFFER)
            for digest in digests:
                (length,) = BATCH_LENGTH.unpack(b"".join(_parts(stream, BATCH_LENGTH.size)))
                if length != ABSENT:
                    receive(digest, _parts(stream, length))
            stream.detach()

    @contextmanager
    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        sent = {**self._pool.headers, **(headers or {})}
        started = time.monotonic()
        try:
            response = self._pool.request(method, self.name + path, body=body, headers=sent, preload_content=False)
        except HTTPError as error:
            raise UnavailableError(f"{self.name} does not answer", why=_describe(error)) from error
        self._answers.note(time.monotonic() - started)
        try:
            self._check_status(path, response)
            yield response
            response.drain_conn()
        except HTTPError as error:
            raise CorruptError(f"{path} of {self.name} broke off", why=_describe(error)) from error
        finally:
            response.release_conn()

    def _check_status(self, path: str, response: urllib3.BaseHTTPResponse) -> None:
        if response.status in (200, 206):
            return
        response.drain_conn()
        if response.status == 404:
            raise NotFoundError(f"{self.name} has no {path.removeprefix('/').replace('objects/', 'object ')}")
        if response.status in (401, 403):
            raise UnauthenticatedError(f"{self.name} refused the token", hint="give the worker the server's token")
        raise UnavailableError(f"{self.name} fails", why=f"it answered {response.status}")


def _parts(response: _Readable, length: int) -> Iterator[bytes]:
    while length:
        part = response.read(min(length, _CHUNK))
        if not part:
            raise CorruptError("an answer broke off", why=f"{length} bytes of an object are missing")
        length -= len(part)
        yield part


def _describe(error: HTTPError) -> str:
    return type(error).__name__.removesuffix("Error") + f": {error}"
