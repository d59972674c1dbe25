from __future__ import annotations

import asyncio

import pytest

from jiffy.jobs import Jobs


async def test_jobs_are_waited_for_or_broken_off() -> None:
    jobs, done = Jobs(), []

    async def work(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        done.append(name)

    jobs.begin(work("short", 0.01))
    await jobs.finish()
    assert done == ["short"]
    endless = jobs.begin(work("endless", 1000))
    await jobs.cancel()
    assert endless.cancelled()
    assert done == ["short"]


async def test_a_job_that_fails_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("a mistake")

    jobs = Jobs()
    jobs.begin(fail())
    await jobs.finish()
    await asyncio.sleep(0)
    assert "a job failed" in caplog.text
    assert "a mistake" in caplog.text
