"""The processes that `jiffy serve` keeps running: one that serves, and a worker. A lock each says which runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError
from jiffy.locks import lock_holder
from jiffy.server.options import ServerOptions

logger = logging.getLogger(__name__)

_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_LIVED_SECONDS: Final = 3.0
"""One that lived longer was killed; others cannot start."""

_END_SECONDS: Final = 20.0


async def await_end_of_predecessor(data: DataDirectory) -> None:
    """A serving process outlives its killed parent by a moment, and holds its listeners as long."""
    deadline = asyncio.get_running_loop().time() + _END_SECONDS
    while (pid := lock_holder(data.serving_lock)) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise ConflictError(
                f"an earlier server still runs on {data.root}", why=f"process {pid}", hint=f"end it: kill -9 {pid}"
            )
        await asyncio.sleep(0.02)


async def keep_server(data: DataDirectory, grpc: socket.socket, http: socket.socket, options: ServerOptions) -> None:
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
        *options.arguments(),
    )
    await _keep_running(command, _Keeping(descriptors=descriptors, environment=options.environment()))


async def keep_gate(data: DataDirectory, listener: socket.socket) -> None:
    """Run the gate, on a listener of this process, until cancelled."""
    command = ("jiffy.server.gate", "--data", str(data.root), "--fd", str(listener.fileno()))
    await _keep_running(command, _Keeping(descriptors=(listener.fileno(),)))


async def keep_worker(data: DataDirectory) -> None:
    """Run a worker until cancelled, which leaves it running: `stop_worker` finds it by its lock. One that outlived an
    earlier server reconnects, and is replaced when it ends."""
    command = ("jiffy.worker", "--data", str(data.root))
    await _keep_running(command, _Keeping(lock=data.worker_lock, log=data.logs / "worker.log"))


@dataclass(frozen=True, slots=True)
class _Keeping:
    """How a process is kept. With a `lock` it is one of its kind, started while nobody holds the lock, and ended by others
    once it does."""

    lock: Path | None = None
    log: Path | None = None
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


async def _keep_running(command: tuple[str, ...], keeping: _Keeping) -> None:
    """Start a module again when it ends: at once, but later and later when it does not live long."""
    pause = _PAUSE
    while True:
        if keeping.lock is None or lock_holder(keeping.lock) is None:
            started = asyncio.get_running_loop().time()
            code = await _run_module(command, keeping)
            lived = asyncio.get_running_loop().time() - started
            logger.warning("%s ended with code %s", command[0], code)
            pause = 0.0 if lived > _LIVED_SECONDS else min(_LONGEST_PAUSE, max(_PAUSE, pause * 2))
        await asyncio.sleep(pause)
        pause = max(pause, _PAUSE)


async def _run_module(command: tuple[str, ...], keeping: _Keeping) -> int:
    """Run to the end; when this is cancelled, a process that does not hold its lock is stopped."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(keeping.log.open("ab")) if keeping.log is not None else None
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=keeping.descriptors,
            env={**os.environ, **keeping.environment},
        )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        if keeping.lock is None or lock_holder(keeping.lock) != process.pid:
            with contextlib.suppress(ProcessLookupError):
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
