"""The processes of one data directory: a lock each says which runs, and `serve` keeps a worker running."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError

logger = logging.getLogger(__name__)

_PAUSE: Final = 0.5


def lock_holder(path: Path) -> int | None:
    """The process that holds a lock file, None when nobody does. The holder writes its pid into the file."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except FileNotFoundError:
        return None
    return None


def server_process(data: DataDirectory) -> int | None:
    return lock_holder(data.server_lock)


@contextmanager
def hold_server_lock(data: DataDirectory) -> Iterator[None]:
    """One server a data directory; ConflictError when another runs."""
    with data.server_lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock_holder(data.server_lock)
            raise ConflictError(
                f"a server runs on {data.root} already", why=f"process {holder}", hint="`jiffy stop` ends it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


async def keep_worker(data: DataDirectory) -> None:
    """Run a worker until cancelled. One that outlived an earlier server reconnects, and is replaced when it ends."""
    pause = _PAUSE
    while True:
        if lock_holder(data.worker_lock) is None:
            started = asyncio.get_running_loop().time()
            code = await _run_worker(data)
            lived = asyncio.get_running_loop().time() - started
            logger.warning("the worker ended with code %s", code)
            pause = _PAUSE if lived > 10 else min(10.0, pause * 2)
        await asyncio.sleep(pause)


async def stop_worker(data: DataDirectory, timeout: float) -> None:
    """End the worker that runs on a data directory, whoever started it."""
    pid = lock_holder(data.worker_lock)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + timeout
    while lock_holder(data.worker_lock) is not None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)


async def _run_worker(data: DataDirectory) -> int:
    with (data.logs / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jiffy.worker", "--data", str(data.root)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return await process.wait()
