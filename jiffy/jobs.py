"""Work that goes on beside whoever began it, which is to end with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)

Job = asyncio.Task[None]


class Jobs:
    """Holds jobs until they end: nothing else would. One that fails is logged."""

    def __init__(self) -> None:
        self._running: dict[Job, None] = {}

    def begin(self, work: Coroutine[Any, Any, None]) -> Job:
        job = asyncio.get_running_loop().create_task(work)
        self._running[job] = None
        job.add_done_callback(self._end)
        return job

    async def finish(self) -> None:
        """Wait for all that run now."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def cancel(self) -> None:
        """Break off what runs."""
        for job in list(self._running):
            job.cancel()
        await self.finish()

    def _end(self, job: Job) -> None:
        del self._running[job]
        if not job.cancelled() and (error := job.exception()) is not None:
            logger.error("a job failed", exc_info=error)
