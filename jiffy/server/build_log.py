"""The lines of one build: kept in the store, so that who joins late, or after a restart, sees them too."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from jiffy.errors import JiffyError
from jiffy.server.bells import Bells
from jiffy.store.logs import Logs

logger = logging.getLogger(__name__)

_STDOUT: Final = 1


class BuildLog:
    """Of an image. Lines that come while others are written are written together."""

    def __init__(self, image_id: str, logs: Logs, bells: Bells) -> None:
        self._image_id = image_id
        self._logs = logs
        self._bells = bells
        self._waiting: list[tuple[float, str]] = []
        self._writing: asyncio.Task[None] | None = None

    def report(self, line: str) -> None:
        self._waiting.append((time.time(), f"{line}\n"))
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())

    async def settle(self) -> None:
        """Until all that was reported is kept."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        """A disk that is full takes lines, not the build."""
        try:
            while self._waiting:
                some, self._waiting = self._waiting, []
                await self._logs.write_all(self._image_id, _STDOUT, some)
                self._bells.ring(self._image_id)
        except JiffyError as error:
            logger.error("lines of the build of %s are lost: %s", self._image_id, error)
        finally:
            self._writing = None
