"""Jobs done from time to time go on when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from jiffy.periodic import repeat


async def test_a_job_that_fails_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    done = 0
    twice = threading.Event()

    def job() -> None:
        nonlocal done
        done += 1
        if done == 1:
            raise OSError("no space left")
        twice.set()

    task = asyncio.ensure_future(repeat(0.001, job, "sweeping the floor"))
    assert await asyncio.to_thread(twice.wait, 10)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert "sweeping the floor failed: no space left" in caplog.text
