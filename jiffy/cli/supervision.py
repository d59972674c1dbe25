"""The processes of one data directory: a lock each says which runs, and `serve` keeps a worker running."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError

logger = logging.getLogger(__name__)

_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


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


async def keep_server(data: DataDirectory, grpc: socket.socket, http: socket.socket) -> None:
    """Run a serving process until cancelled. It accepts on listeners of this process: while none serves, clients wait."""
    descriptors = (grpc.fileno(), http.fileno())
    command = (
        "jiffy.server",
        "--data",
        str(data.root),
        "--grpc-fd",
        str(grpc.fileno()),
        "--http-fd",
        str(http.fileno()),
    )
    await _keep_running(command, lambda: True, None, descriptors)


async def keep_worker(data: DataDirectory) -> None:
    """Run a worker until cancelled. One that outlived an earlier server reconnects, and is replaced when it ends."""
    command = ("jiffy.worker", "--data", str(data.root))
    await _keep_running(command, lambda: lock_holder(data.worker_lock) is None, data.logs / "worker.log", ())


async def _keep_running(
    command: tuple[str, ...], is_wanted: Callable[[], bool], log: Path | None, descriptors: tuple[int, ...]
) -> None:
    """Start a module again when it ends: at once, but later and later when it does not live long."""
    pause = _PAUSE
    while True:
        if is_wanted():
            started = asyncio.get_running_loop().time()
            code = await _run_module(command, log, descriptors)
            lived = asyncio.get_running_loop().time() - started
            logger.warning("%s ended with code %s", command[0], code)
            pause = 0.0 if lived > 10 else min(_LONGEST_PAUSE, max(_PAUSE, pause * 2))
        await asyncio.sleep(pause)
        pause = max(pause, _PAUSE)


async def _run_module(command: tuple[str, ...], log: Path | None, descriptors: tuple[int, ...]) -> int:
    """Run to the end; a process without a log of its own is stopped when this is cancelled."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log is not None else None
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=descriptors,
        )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        if log is None:
            process.terminate()
            await process.wait()
        raise


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
