"""Sessions of processes: a shell and its jobs, say, which have process groups of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final

from jiffy.runtime import cgroups

_SECONDS: Final = 10.0
_DYING_SECONDS: Final = 0.02


async def kill_session(session: int, group: str) -> None:
    """Kill all of a session that is in a control group. What forks faster than it is found is frozen to be found; so is,
    for a moment, the rest of the group. TimeoutError when something does not die."""
    async with asyncio.timeout(_SECONDS):
        while _kill(session, group):
            await asyncio.sleep(_DYING_SECONDS)
            if _kill(session, group):
                async with cgroups.frozen(group):
                    _kill(session, group)


def _kill(session: int, group: str) -> bool:
    """Whether there was any."""
    is_any = False
    for pid in cgroups.processes(group):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
                is_any = True
    return is_any
