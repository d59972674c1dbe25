"""A client of OCI registries: manifests and blobs, with the logins that registries ask for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.image.manifest import INDEX_TYPES, LARGEST_MANIFEST, MANIFEST_TYPES, Descriptor
from jiffy.image.reference import Reference

_STALL_SECONDS: Final = 30.0
_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.3
_READ_PAUSES: Final = (0.05, 0.5)
_CHUNK: Final = 2**20
Body = Callable[[], AsyncIterator[bytes]]
"""Gives what is sent, anew for each try."""

_CHALLENGE: Final = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """As a request has it."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as the registry has it; `digest` is sha256:..."""

    data: bytes
    media_type: str
    digest: str


class Registry:
    """One repository of a registry. Use as an async context. `mirrors` are addresses asked in place of a host's."""

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None = None,
        mirrors: Mapping[str, str] | None = None,
        *,
        can_push: bool = False,
    ) -> None:
        self.reference = reference
        self._actions = "pull,push" if can_push else "pull"
        self._credentials = credentials
        mirror = (mirrors or {}).get(reference.host, "")
        scheme = "http" if reference.is_local else "https"
        self._base = f"{(mirror or f'{scheme}://{reference.address}').rstrip('/')}/v2/{reference.repository}"
        self._authorization = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Registry:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STALL_SECONDS, sock_read=_STALL_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def manifest(self, wanted: str) -> Fetched:
        """A manifest by tag or digest; what has another digest than was asked for is refused."""
        accept = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
        async with self._ask("GET", f"manifests/{wanted}", {"Accept": accept}) as answer:
            data = await self._small(answer)
            kind = answer.headers.get("Content-Type", "").partition(";")[0]
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if wanted.startswith("sha256:") and digest != wanted:
            raise CorruptError(f"{self.reference} has the wrong manifest", why=f"its digest is {digest}")
        return Fetched(data, kind, digest)

    async def blob(self, descriptor: Descriptor, most: int) -> bytes:
        """A small blob, whole and verified."""
        if descriptor.size > most:
            raise InvalidError(f"a blob of {descriptor.size} bytes", why=f"the most is {most}")
        parts = [chunk async for chunk in self.stream(descriptor)]
        data = b"".join(parts)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor.digest:
            raise CorruptError(f"{self.reference}: blob {descriptor.digest} has the wrong bytes")
        return data

    async def stream(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The bytes of a blob, not verified. A connection that breaks is taken up where it was."""
        position = 0
        tries = 0
        while position < descriptor.size or not descriptor.size:
            before = position
            try:
                wanted = {"Range": f"bytes={position}-"} if position else {}
                async with self._ask("GET", f"blobs/{descriptor.digest}", wanted) as answer:
                    skipped = position if answer.status == 200 else 0
                    async for chunk in answer.content.iter_chunked(_CHUNK):
                        if skipped >= len(chunk):
                            skipped -= len(chunk)
                            continue
                        piece = chunk[skipped:] if skipped else chunk
                        skipped = 0
                        position += len(piece)
                        if position > descriptor.size:
                            raise CorruptError(f"{self.reference}: blob {descriptor.digest} is longer than announced")
                        yield piece
                if not descriptor.size:
                    return
            except (aiohttp.ClientError, TimeoutError, UnavailableError) as error:
                tries = 1 if position > before else tries + 1
                if tries >= _TRIES:
                    raise self._unavailable(error) from error
                await asyncio.sleep(_FIRST_PAUSE * 2**tries)
                continue
            if position < descriptor.size:
                tries = 1 if position > before else tries + 1
                if tries >= _TRIES:
                    raise UnavailableError(f"{self.reference} ends blob {descriptor.digest} too early")

    async def read(self, digest: str, start: int, size: int) -> bytes:
        """A range of a blob, not verified. One that breaks off is asked for again."""
        for pause in _READ_PAUSES:
            with contextlib.suppress(UnavailableError, CorruptError):
                return await self._read_once(digest, start, size)
            await asyncio.sleep(pause)
        return await self._read_once(digest, start, size)

    async def _read_once(self, digest: str, start: int, size: int) -> bytes:
        span = {"Range": f"bytes={start}-{start + size - 1}"}
        try:
            async with self._ask("GET", f"blobs/{digest}", span) as answer:
                if answer.status != 206:
                    raise UnavailableError(f"{self.reference.host} cannot answer for parts of blobs")
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unavailable(error) from error
        if len(data) != size:
            raise CorruptError(f"an answer of {self.reference.host} broke off")
        return data

    async def has(self, digest: str) -> bool:
        try:
            async with self._ask("HEAD", f"blobs/{digest}", {}):
                return True
        except NotFoundError:
            return False

    async def upload(self, descriptor: Descriptor, content: Callable[[], AsyncIterator[bytes]]) -> None:
        """A blob in one piece; nothing is sent when it is there."""
        if await self.has(descriptor.digest):
            return
        async with self._ask("POST", "blobs/uploads/", {"Content-Length": "0"}) as answer:
            place = URL(urljoin(str(answer.url), answer.headers.get("Location", "")), encoded=True)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        url = str(place.update_query(digest=descriptor.digest))
        async with self._ask("PUT", url, headers, content):
            pass

    async def put(self, descriptor: Descriptor, data: bytes) -> None:
        """A blob that is in memory."""
        await self.upload(descriptor, lambda: _once(data))

    async def publish(self, tag: str, media_type: str, manifest: bytes) -> bool:
        """A manifest, by a name. Gives whether the registry has listed it with its subject."""
        headers = {"Content-Type": media_type}
        async with self._ask("PUT", f"manifests/{tag}", headers, lambda: _once(manifest)) as answer:
            return "OCI-Subject" in answer.headers

    async def referrers(self, digest: str) -> bytes:
        """The list of artifacts whose subject is a manifest. NotFoundError when the registry keeps no such lists."""
        async with self._ask("GET", f"referrers/{digest}", {"Accept": INDEX_TYPES[0]}) as answer:
            return await self._small(answer)

    async def _small(self, answer: aiohttp.ClientResponse) -> bytes:
        data = await answer.content.read(LARGEST_MANIFEST + 1)
        while len(data) <= LARGEST_MANIFEST and (more := await answer.content.read(_CHUNK)):
            data += more
        if len(data) > LARGEST_MANIFEST:
            raise InvalidError(f"{self.reference} has a manifest that is too large")
        return data

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: Body | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A login is asked for when the registry wants one, and again when it has expired."""
        assert self._session is not None
        url = path if path.startswith("http") else f"{self._base}/{path}"
        try:
            for attempt in range(2):
                known = {"Authorization": self._authorization} if self._authorization else {}
                data = None if body is None else body()
                async with self._session.request(method, url, headers={**headers, **known}, data=data) as answer:
                    if answer.status == 401 and not attempt:
                        await self._log_in(answer.headers.get("WWW-Authenticate", ""))
                        continue
                    await self._check(answer, path)
                    yield answer
                    return
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise self._unavailable(error) from error

    async def _check(self, answer: aiohttp.ClientResponse, path: str) -> None:
        if answer.status < 300:
            return
        said = await _explanation(answer)
        what = f"{self.reference} cannot be had"
        if answer.status == 404:
            raise NotFoundError(what, why=said or "the registry does not know it", hint="is its name right?")
        if answer.status in (401, 403):
            hint = "give credentials with a secret, or with --username" if self._credentials is None else ""
            raise UnauthenticatedError(what, why=said or "the registry refuses it", hint=hint)
        raise UnavailableError(what, why=f"{self.reference.host} answered {answer.status} {said}".strip())

    async def _log_in(self, challenge: str) -> None:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if self._credentials is not None:
                self._authorization = self._credentials.header
            return
        if scheme.lower() != "bearer":
            raise UnavailableError(f"{self.reference.host} wants a login of an unknown kind", why=challenge[:80])
        fields = dict(_CHALLENGE.findall(rest))
        self._authorization = f"Bearer {await self._token(fields)}"

    async def _token(self, fields: Mapping[str, str]) -> str:
        assert self._session is not None
        realm = fields.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise UnavailableError(f"{self.reference.host} names no place to log in")
        scope = fields.get("scope") or f"repository:{self.reference.repository}:{self._actions}"
        asked = {"service": fields.get("service", ""), "scope": scope}
        login = {} if self._credentials is None else {"Authorization": self._credentials.header}
        try:
            async with self._session.get(realm, params=asked, headers=login) as answer:
                await self._check(answer, "")
                told = json.loads(await answer.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unavailable(error) from error
        except ValueError as error:
            raise UnavailableError(f"{realm} gives no token", why=str(error)) from error
        token = told.get("token") or told.get("access_token") if isinstance(told, dict) else None
        if not isinstance(token, str):
            raise UnavailableError(f"{realm} gives no token")
        return token

    def _unavailable(self, error: Exception) -> UnavailableError:
        if isinstance(error, UnavailableError):
            return error
        why = str(error) or type(error).__name__
        hint = "is the registry reachable from the server? `jiffy serve --registry-mirror` names another address"
        return UnavailableError(f"{self.reference} cannot be had", why=why, hint=hint)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _explanation(answer: aiohttp.ClientResponse) -> str:
    """The registry's own words."""
    try:
        errors = json.loads(await answer.text())["errors"]
        return "; ".join(str(each.get("message") or each.get("code")) for each in errors)[:200]
    except (ValueError, KeyError, TypeError, AttributeError, aiohttp.ClientError):
        return ""
