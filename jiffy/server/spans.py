"""Answers to requests for a span of an object: part by part, the next one under way while one is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from jiffy.errors import InvalidError
from jiffy.objects.base import Span

_PART: Final = 4 * 2**20


async def send_span(
    request: web.Request, size: int, read: Callable[[int, int], Awaitable[bytes]], part: int = _PART
) -> web.StreamResponse:
    """Of an object of `size` bytes, what the request's range names. `read` gives bytes from a start on, as many as
    are asked for. The first part is had before the answer begins, so that most failures are answers."""
    start, length = _span(request, size)
    offsets = range(start, start + length, part)

    def begin(offset: int) -> asyncio.Future[bytes]:
        return asyncio.ensure_future(read(offset, min(part, start + length - offset)))

    coming = begin(start)
    try:
        data = await coming
        headers = {"Content-Range": f"bytes {start}-{start + length - 1}/{size}", "Content-Length": str(length)}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        for after in [*offsets[1:], None]:
            if after is not None:
                coming = begin(after)
            await response.write(data)
            data = await coming
        await response.write_eof()
        return response
    finally:
        coming.cancel()


def _span(request: web.Request, size: int) -> Span:
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError as error:
        raise InvalidError("not a range of bytes", why=str(error)) from error
    if stop <= start:
        raise InvalidError("a range without bytes")
    return start, stop - start
