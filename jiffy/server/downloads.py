"""Files of the web as objects."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from jiffy.errors import CorruptError, NotFoundError, UnavailableError
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

_STALL_SECONDS: Final = 30.0
_CHUNK: Final = 2**20


class Downloads:
    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects

    async def fetch(self, url: str, wanted: Digest = "") -> tuple[Digest, int]:
        """Digest and size. NotFoundError or UnavailableError when it is not to be had, CorruptError when it is not what was
        wanted."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STALL_SECONDS, sock_read=_STALL_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as answer:
                if answer.status != 200:
                    kind = NotFoundError if answer.status == 404 else UnavailableError
                    raise kind(f"cannot fetch {url}", why=f"it answered {answer.status}")
                with self._objects.writer(wanted) as writer:
                    async for chunk in answer.content.iter_chunked(_CHUNK):
                        await asyncio.to_thread(writer.write, chunk)
                    return await asyncio.to_thread(writer.publish)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"cannot fetch {url}", why=str(error) or type(error).__name__) from error
        except CorruptError as error:
            raise CorruptError(f"{url} is not what was expected", why=error.why) from error
