"""Objects of another jiffy, read from its object server over HTTP.

The bytes of large objects go from the socket to a buffer that each thread has, and from there to their file: what is
allocated anew for each part costs more than what is done with it.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast
from urllib.parse import urlsplit

from jiffy.addresses import read_address
from jiffy.errors import CorruptError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.objects.base import (
    ABSENT,
    BATCH_LENGTH,
    CHUNKS_HEADER,
    DIGEST_BYTES,
    PART_BYTES,
    Digest,
    Parts,
    Receive,
    RoundTrips,
    Span,
    T,
    batched,
)

_CONNECTIONS: Final = 32
_CONNECT_SECONDS: Final = 5.0
_MOST_ASKED: Final = 10_000


class _Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class HttpObjects:
    """`url` is the server's HTTP address, with the pin of its certificate if that is its own, `token` is `id:secret`.
    `stall`: seconds without a byte until it is given up."""

    def __init__(self, url: str, token: str, *, stall: float = 10.0) -> None:
        self._address = read_address(url)
        self.name = self._address.url
        self._prefix = urlsplit(self.name).path
        self._tls = self._address.context()
        self._stall = stall
        self._headers = {"Authorization": f"Bearer {token}"}
        self._answers = RoundTrips()
        self._idle: deque[http.client.HTTPConnection] = deque(maxlen=_CONNECTIONS)
        self._buffers = threading.local()

    @property
    def round_trip(self) -> float:
        return self._answers.shortest

    def fetch(self, digest: Digest, take: Callable[[Parts], T], span: Span | None = None, chunks: Digest = "") -> T:
        wanted = {} if span is None else {"Range": f"bytes={span[0]}-{sum(span) - 1}"}
        if chunks:
            wanted[CHUNKS_HEADER] = chunks
        with self._request("GET", f"/objects/{digest}", headers=wanted) as response:
            if span is not None and response.status != 206:
                raise UnavailableError(f"{self.name} cannot answer for parts of objects")
            length = response.length if span is None else span[1]
            if length is None:
                raise UnavailableError(f"{self.name} does not tell how long its objects are")
            return take(self._parts(response, length))

    def fetch_many(self, digests: Sequence[Digest], receive: Receive) -> None:
        body = b"".join(map(bytes.fromhex, digests))
        with self._request("POST", "/objects", body=body) as response:
            stream = BufferedReader(cast(RawIOBase, response), PART_BYTES)
            for digest in digests:
                (length,) = BATCH_LENGTH.unpack(b"".join(self._parts(stream, BATCH_LENGTH.size)))
                if length != ABSENT:
                    receive(digest, self._parts(stream, length))
            stream.detach()
            response.read()

    def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Those that the server lacks."""
        found: list[Digest] = []
        for some in batched(digests, _MOST_ASKED):
            with self._request("POST", "/objects/missing", body=b"".join(map(bytes.fromhex, some))) as response:
                answer = response.read()
            found += [answer[at : at + DIGEST_BYTES].hex() for at in range(0, len(answer), DIGEST_BYTES)]
        return found

    def store(self, digest: Digest, path: Path) -> None:
        """Send an object to the server, which keeps it once it has verified it."""
        with path.open("rb") as file:
            headers = {"Content-Length": str(path.stat().st_size)}
            with self._request("PUT", f"/objects/{digest}", body=file, headers=headers) as response:
                response.read()

    @contextmanager
    def _request(
        self, method: str, path: str, body: bytes | BinaryIO | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection, response = self._ask(method, self._prefix + path, body, {**self._headers, **(headers or {})})
        try:
            self._check_status(path, response)
            yield response
        finally:
            if response.isclosed() and not response.will_close:
                self._idle.append(connection)
            else:
                connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | BinaryIO | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """By a connection that is idle, unless the server has closed it meanwhile, or by a new one."""
        while True:
            connection, is_used = self._connection()
            started = time.monotonic()
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_used and not isinstance(error, TimeoutError):
                    if body is not None and not isinstance(body, bytes):
                        body.seek(0)
                    continue
                raise UnavailableError(f"{self.name} does not answer", why=_describe(error)) from error
            self._answers.note(time.monotonic() - started)
            return connection, response

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        try:
            return self._idle.pop(), True
        except IndexError:
            pass
        host, port = self._address.host, self._address.port
        seconds = min(_CONNECT_SECONDS, self._stall)
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=self._tls)
        try:
            connection.connect()
        except OSError as error:
            raise UnavailableError(f"{self.name} does not answer", why=_describe(error)) from error
        if isinstance(connection.sock, ssl.SSLSocket):
            self._address.check(connection.sock.getpeercert(binary_form=True))
        connection.sock.settimeout(self._stall)
        return connection, False

    def _check_status(self, path: str, response: http.client.HTTPResponse) -> None:
        if response.status in (200, 206):
            return
        response.read()
        if response.status == 404:
            raise NotFoundError(f"{self.name} has no {path.removeprefix('/').replace('objects/', 'object ')}")
        if response.status in (401, 403):
            raise UnauthenticatedError(f"{self.name} refused the token", hint="give the worker the server's token")
        raise UnavailableError(f"{self.name} fails", why=f"it answered {response.status}")

    def _parts(self, source: _Readable, length: int) -> Iterator[memoryview]:
        """Each is good until the next one is asked for."""
        buffer = self._buffer()
        while length:
            wanted = min(length, PART_BYTES)
            filled = 0
            while filled < wanted:
                count = self._read_into(source, buffer[filled:wanted])
                if not count:
                    raise CorruptError(
                        f"an answer of {self.name} broke off", why=f"{length - filled} bytes are missing"
                    )
                filled += count
            length -= wanted
            yield buffer[:wanted]

    def _read_into(self, source: _Readable, buffer: memoryview) -> int:
        try:
            return source.readinto(buffer) or 0
        except (OSError, http.client.HTTPException) as error:
            raise CorruptError(f"an answer of {self.name} broke off", why=_describe(error)) from error

    def _buffer(self) -> memoryview:
        try:
            return cast(memoryview, self._buffers.view)
        except AttributeError:
            self._buffers.view = memoryview(bytearray(PART_BYTES))
            return cast(memoryview, self._buffers.view)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__.removesuffix('Error')}: {error}"
