"""Images are pulled by a process of its own, of which the next one is there already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.image.pull import Pulls

NOWHERE = "127.0.0.1:9/some/name:1"


@pytest.fixture
async def pulls(tmp_path: Path) -> AsyncIterator[Pulls]:
    data = DataDirectory(tmp_path / "data")
    data.create()
    pulls = Pulls(data)
    yield pulls
    await pulls.close()


async def pull(pulls: Pulls, reference: str = NOWHERE) -> None:
    async for _ in pulls.pull(reference, "linux/amd64", None, {}):
        pass


async def waiting(pulls: Pulls) -> asyncio.subprocess.Process:
    assert pulls._spare is not None
    return await pulls._spare


async def test_a_failure_is_told_as_what_it_is(pulls: Pulls) -> None:
    for _ in range(2):
        with pytest.raises(UnavailableError, match="cannot be had"):
            await pull(pulls)


async def test_one_that_was_killed_while_it_waited_is_replaced(pulls: Pulls) -> None:
    with pytest.raises(UnavailableError):
        await pull(pulls)
    process = await waiting(pulls)
    process.kill()
    await process.wait()
    with pytest.raises(UnavailableError, match="cannot be had"):
        await pull(pulls)


async def test_one_that_waits_ends_with_who_started_it(pulls: Pulls) -> None:
    with pytest.raises(UnavailableError):
        await pull(pulls)
    process = await waiting(pulls)
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_none_is_left_when_all_is_closed(pulls: Pulls) -> None:
    with pytest.raises(UnavailableError):
        await pull(pulls)
    process = await waiting(pulls)
    await pulls.close()
    assert process.returncode is not None
