"""Objects of another jiffy, read from its object server over HTTP."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import urllib3
from urllib3.exceptions import HTTPError

from jiffy.errors import CorruptError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.objects.base import ABSENT, BATCH_LENGTH, Digest

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """Takes the content of an object as it comes."""

    def write(self, chunk: bytes) -> None: ...


Receive = Callable[[Digest, Iterable[bytes]], None]
_CHUNK: Final = 2**18
_CONNECTIONS: Final = 32
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class HttpObjects:
    """`url` is the server's HTTP address, `token` is `id:secret`. `deadline`: seconds in which a fetch may be retried."""

    def __init__(self, url: str, token: str, *, deadline: float = 20.0, stall: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._deadline = deadline
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            headers={"Authorization": f"Bearer {token}"},
            timeout=urllib3.Timeout(connect=min(5.0, stall), read=stall),
            retries=False,
        )

    def fetch(self, digest: Digest, writer: Writer) -> None:
        """Stream an object into a writer, which verifies it. Raises NotFoundError, UnavailableError when the deadline
        has passed, CorruptError when the bytes end too early: then a new writer may try again."""
        deadline = time.monotonic() + self._deadline
        pause = _FIRST_PAUSE
        while True:
            response = None
            try:
                response = self._pool.request("GET", f"{self._url}/objects/{digest}", preload_content=False)
                if response.status == 200:
                    break
                reason = self._explain_status(digest, response)
            except HTTPError as error:
                reason = _describe(error)
            finally:
                if response is not None and response.status != 200:
                    response.drain_conn()
                    response.release_conn()
            if time.monotonic() + pause > deadline:
                raise UnavailableError(f"object {digest} cannot be fetched from {self._url}", why=reason)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(_LONGEST_PAUSE, pause * 2)
        self._stream(digest, response, writer)

    def fetch_many(self, digests: Sequence[Digest], receive: Receive) -> None:
        """Ask for many objects at once; `receive` is called for each that the server has, in order, with its content in
        parts, all of which it must take. Raises UnavailableError or CorruptError when the answer breaks off."""
        body = b"".join(map(bytes.fromhex, digests))
        try:
            response = self._pool.request("POST", f"{self._url}/objects", body=body, preload_content=False)
        except HTTPError as error:
            raise UnavailableError(f"no objects from {self._url}", why=_describe(error)) from error
        try:
            if response.status != 200:
                raise UnavailableError(f"no objects from {self._url}", why=f"it answered {response.status}")
            for digest in digests:
                (length,) = BATCH_LENGTH.unpack(b"".join(_parts(response, BATCH_LENGTH.size)))
                if length != ABSENT:
                    receive(digest, _parts(response, length))
            response.drain_conn()
        except HTTPError as error:
            raise CorruptError("a batch of objects broke off", why=_describe(error)) from error
        finally:
            response.release_conn()

    def _stream(self, digest: Digest, response: urllib3.BaseHTTPResponse, writer: Writer) -> None:
        try:
            for chunk in response.stream(_CHUNK):
                writer.write(chunk)
        except HTTPError as error:
            raise CorruptError(f"object {digest} broke off half-way", why=_describe(error)) from error
        finally:
            response.release_conn()

    def _explain_status(self, digest: Digest, response: urllib3.BaseHTTPResponse) -> str:
        if response.status == 404:
            raise NotFoundError(f"{self._url} has no object {digest}")
        if response.status in (401, 403):
            raise UnauthenticatedError(f"{self._url} refused the token", hint="give the worker the server's token")
        return f"it answered {response.status}"


def _parts(response: urllib3.BaseHTTPResponse, length: int) -> Iterator[bytes]:
    while length:
        part = response.read(min(length, _CHUNK))
        if not part:
            raise CorruptError("a batch of objects broke off", why=f"{length} bytes of one are missing")
        length -= len(part)
        yield part


def _describe(error: HTTPError) -> str:
    return type(error).__name__.removesuffix("Error") + f": {error}"
