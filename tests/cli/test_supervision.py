"""What `jiffy serve` keeps running, and what it leaves behind when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jiffy.cli import supervision
from jiffy.cli.supervision import keep_worker, stop_worker
from jiffy.datadir import DataDirectory
from jiffy.locks import lock_holder

STANDING = """
import os, pathlib, sys, time
sys.path.insert(0, {jiffy!r})
from jiffy.locks import hold_lock
folder = pathlib.Path(sys.argv[2])
(folder / "pid").write_text(str(os.getpid()))
while not (folder / "go").exists():
    time.sleep(0.01)
with hold_lock(folder / "worker.lock", "worker"):
    time.sleep(600)
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    """Its worker takes the lock once there is a file `go`."""
    data = DataDirectory(tmp_path / "data")
    data.create()
    script = tmp_path / "worker"
    script.write_text(STANDING.format(jiffy=str(Path(supervision.__file__).parents[2])))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return data


@asynccontextmanager
async def kept(data: DataDirectory) -> AsyncIterator[int]:
    """The id of a worker that is kept running; it is not any more at the end."""
    keeper = asyncio.ensure_future(keep_worker(data))
    pid = data.root / "pid"
    async with asyncio.timeout(20):
        while not (pid.exists() and pid.read_text()):
            await asyncio.sleep(0.01)
    yield int(pid.read_text())
    keeper.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeper


def lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_a_worker_that_runs_is_left_to_who_stops_it(data: DataDirectory) -> None:
    async with kept(data) as pid:
        (data.root / "go").touch()
        async with asyncio.timeout(20):
            while lock_holder(data.worker_lock) != pid:
                await asyncio.sleep(0.01)
    assert lives(pid)
    await stop_worker(data, 20)
    assert lock_holder(data.worker_lock) is None


async def test_a_worker_that_is_on_its_way_up_ends_with_its_keeper(data: DataDirectory) -> None:
    """Nobody would find it: it has no lock yet."""
    async with kept(data) as pid:
        pass
    assert not lives(pid)
