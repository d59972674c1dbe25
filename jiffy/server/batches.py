"""Many objects in one answer, for hosts that know what they will read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from aiohttp import web

from jiffy.errors import InvalidError, JiffyError
from jiffy.objects.base import ABSENT, BATCH_LENGTH, DIGEST_BYTES, Digest, batched
from jiffy.objects.local import LocalObjects

logger = logging.getLogger(__name__)

MOST_OBJECTS: Final = 20_000
_PIECE: Final = 2**20
_TOGETHER: Final = 128


async def serve_batch(
    request: web.Request, objects: LocalObjects, fetch: Callable[[Sequence[Digest]], Awaitable[None]]
) -> web.StreamResponse:
    """POST: the body is raw digests, one after the other. The answer holds for each, in order, a length and the content;
    the length of one that is not here is ABSENT. `fetch` has some of them come here first, as far as it can."""
    digests = await read_digests(request)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)
    groups = list(batched(digests, _TOGETHER))
    coming = asyncio.ensure_future(_fetch(fetch, groups[0] if groups else ()))
    for some, after in zip(groups, [*groups[1:], ()], strict=True):
        await coming
        coming = asyncio.ensure_future(_fetch(fetch, after))
        pieces = _pieces(objects, some)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await response.write(piece)
    await response.write_eof()
    return response


async def _fetch(fetch: Callable[[Sequence[Digest]], Awaitable[None]], digests: Sequence[Digest]) -> None:
    """While those before are sent."""
    try:
        await fetch(digests)
    except JiffyError as error:
        logger.warning("part of a batch is not to be had: %s", error)


async def read_digests(request: web.Request) -> list[Digest]:
    """The body of a request: raw digests, one after the other."""
    body = await _read_body(request)
    if len(body) % DIGEST_BYTES or len(body) > MOST_OBJECTS * DIGEST_BYTES:
        raise InvalidError(
            f"a batch of {len(body)} bytes", why=f"digests have {DIGEST_BYTES}, and at most {MOST_OBJECTS}"
        )
    return [body[start : start + DIGEST_BYTES].hex() for start in range(0, len(body), DIGEST_BYTES)]


def _pieces(objects: LocalObjects, digests: Sequence[Digest]) -> Iterator[bytes]:
    """Small objects together, large ones in parts."""
    gathered = bytearray()
    for digest in digests:
        try:
            file = objects.path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            gathered += BATCH_LENGTH.pack(ABSENT)
            continue
        with file:
            gathered += BATCH_LENGTH.pack(file.seek(0, 2))
            file.seek(0)
            while data := file.read(_PIECE):
                gathered += data
                if len(gathered) >= _PIECE:
                    yield bytes(gathered)
                    gathered.clear()
    if gathered:
        yield bytes(gathered)


async def _read_body(request: web.Request) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MOST_OBJECTS * DIGEST_BYTES:
            break
    return bytes(body)
