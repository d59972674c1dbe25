"""Contents of files in volumes, moved by HTTP: blocks on their way in, ranges of files on their way out.

An address is good for one object, and for an hour: it is signed, as whoever holds it shows no token.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnauthenticatedError
from jiffy.objects.base import Digest, check_digest
from jiffy.objects.local import LocalObjects
from jiffy.server.bodies import receive_body
from jiffy.server.caller import Caller

BLOCK_BYTES: Final = 8 * 2**20
_LIFETIME: Final = 3600
_CHUNK: Final = 2**20


class VolumeFiles:
    def __init__(self, objects: LocalObjects, key: bytes) -> None:
        self._objects = objects
        self._key = key

    # Addresses

    def put_address(self, caller: Caller, digest: Digest) -> str:
        """Where a block is to be sent."""
        return caller.url(self._sign("PUT", f"/volumes/blocks/{digest}"))

    def get_addresses(self, caller: Caller, digest: Digest, start: int, length: int) -> list[str]:
        """Where a range of a file is, in pieces that end where its blocks do."""
        addresses, end = [], start + length
        while start < end:
            stop = min(end, (start // BLOCK_BYTES + 1) * BLOCK_BYTES)
            addresses.append(caller.url(self._sign("GET", f"/volumes/files/{digest}/{start}-{stop}")))
            start = stop
        return addresses

    def _sign(self, method: str, path: str) -> str:
        expires = int(time.time()) + _LIFETIME
        return f"{path}?expires={expires}&signature={self._signature(method, path, expires)}"

    def _signature(self, method: str, path: str, expires: int) -> str:
        return hmac.new(self._key, f"{method} {path} {expires}".encode(), hashlib.sha256).hexdigest()

    def _check(self, request: web.Request) -> None:
        expires = int(request.query.get("expires", "0") or 0)
        expected = self._signature(request.method, request.path, expires)
        if not hmac.compare_digest(expected, request.query.get("signature", "")):
            raise UnauthenticatedError("this address was not given out by this server")
        if expires < time.time():
            raise UnauthenticatedError("this address is not good any more", hint="ask for the file again")

    # HTTP

    def add_routes(self, application: web.Application) -> None:
        application.router.add_put("/volumes/blocks/{digest}", self._upload)
        application.router.add_get("/volumes/files/{digest}/{start:\\d+}-{stop:\\d+}", self._download)

    async def _upload(self, request: web.Request) -> web.Response:
        self._check(request)
        digest = check_digest(request.match_info["digest"])
        received = 0
        with self._objects.writer(digest) as writer:
            async for chunk in receive_body(request, "a block of a volume"):
                received += len(chunk)
                if received > BLOCK_BYTES:
                    raise InvalidError(f"a block of more than {BLOCK_BYTES // 2**20} MiB")
                await asyncio.to_thread(writer.write, chunk)
            await asyncio.to_thread(writer.publish)
        return web.Response(text=digest)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        path = self._objects.path(check_digest(request.match_info["digest"]))
        start, stop = int(request.match_info["start"]), int(request.match_info["stop"])
        if not await asyncio.to_thread(path.exists):
            raise NotFoundError("the file is gone")
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = stop - start
        await response.prepare(request)
        with path.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, stop - start))):
                await response.write(chunk)
                start += len(chunk)
        return response

    # Blocks become files

    def missing(self, digests: Sequence[Digest]) -> set[Digest]:
        return set(self._objects.missing(digests))

    def join(self, digests: Sequence[Digest], size: int) -> Digest:
        """A file of blocks, each of which may lack zeros at its end; empty for an empty file. Reads and writes: not for the
        event loop."""
        if size == 0:
            return ""
        if len(digests) != (size + BLOCK_BYTES - 1) // BLOCK_BYTES:
            raise InvalidError(f"a file of {size} bytes in {len(digests)} blocks")
        if len(digests) == 1 and self._objects.size(digests[0]) == size:
            return digests[0]
        with self._objects.writer() as writer:
            for number, digest in enumerate(digests):
                expected = min(BLOCK_BYTES, size - number * BLOCK_BYTES)
                data = self._objects.read(digest)
                if len(data) > expected:
                    raise CorruptError(f"block {number} of a file is larger than it can be")
                writer.write(data)
                writer.write(bytes(expected - len(data)))
            return writer.publish()[0]
