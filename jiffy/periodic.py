"""Jobs that are done from time to time for as long as a process lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

from jiffy.errors import JiffyError

logger = logging.getLogger(__name__)


async def repeat(seconds: float, job: Callable[[], object], what: str) -> None:
    """Do a job in a thread each so many seconds, until cancelled. When it fails, as on a full disk, that is logged, and it
    is tried again the next time. `what` names it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(job)
        except (JiffyError, OSError) as error:
            logger.error("%s failed: %s", what, error)


async def keep_running(stack: AsyncExitStack, job: Coroutine[None, None, None]) -> None:
    """Until the stack is left."""
    running = asyncio.ensure_future(job)

    async def stop() -> None:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    stack.push_async_callback(stop)
