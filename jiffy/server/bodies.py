"""Bodies of requests, as they come. One that stops coming is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from jiffy.errors import UnavailableError

_CHUNK: Final = 2**20
_STALL_SECONDS: Final = 60.0
_FIRST_SECONDS: Final = 3.0
"""Until the first byte. The client's HTTP library repeats a request whose connection broke by itself, but without its body:
the client sends it as a whole once it is told that nothing came."""


async def receive_body(request: web.Request, what: str) -> AsyncIterator[bytes]:
    """`what` it is, in words. Raises UnavailableError when nothing more comes."""
    seconds = _FIRST_SECONDS
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await request.content.read(_CHUNK)
        except TimeoutError as error:
            raise UnavailableError(f"{what} stopped coming", why=f"nothing came for {seconds:g} s") from error
        if not chunk:
            return
        yield chunk
        seconds = _STALL_SECONDS
