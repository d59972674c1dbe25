"""The worker: one process a host that runs containers as a server orders."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.events import WorkerConnected, WorkerReported
from jiffy.datadir import DataDirectory, read_token
from jiffy.identifiers import random_id
from jiffy.locks import hold_lock
from jiffy.objects.eviction import Limits
from jiffy.runtime import cgroups
from jiffy.runtime.network import GATEWAY
from jiffy.worker.connection import Connection, local_server
from jiffy.worker.container import Container
from jiffy.worker.host import GRPC_PORT, HTTP_PORT, Host, Origin, open_host
from jiffy.worker.meter import Meter

logger = logging.getLogger(__name__)

_STOP_GRACE: Final = 10.0
_FLUSH_SECONDS: Final = 2.0


class Agent:
    """`server` is the HTTP address of a server elsewhere, whose objects are fetched as they are read, from `sources` before
    it, and kept within `limits` on `disks`; empty for the server that shares the data directory. After `orphan_seconds`
    without a server the worker stops its containers and ends."""

    def __init__(
        self,
        data: DataDirectory,
        server: str,
        sources: Sequence[str],
        token_file: Path,
        limits: Limits,
        disks: Sequence[Path],
        build_cache: int,
        orphan_seconds: float,
    ) -> None:
        self._data = data
        self._server = server
        self._sources = tuple(sources)
        self._token_file = token_file
        self._limits = limits
        self._disks = tuple(disks)
        self._build_cache = build_cache
        self._orphan_seconds = orphan_seconds
        self._worker_id = random_id("wo")
        self._containers: dict[str, Container] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()
        self._meter = Meter()
        self._connection = Connection(self._find_server, self._hello, self._report, self._obey)
        self._host: Host | None = None

    async def run(self) -> None:
        """From taking the lock until SIGTERM, SIGINT, or too long without a server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ended.set)
        origin = self._origin() if self._server else None
        outbox = self._connection.outbox
        with hold_lock(self._data.worker_lock, "worker"):
            async with open_host(self._data, origin, outbox.put, outbox.is_full, self._build_cache) as self._host:
                logger.info("worker %s runs on %s with %s", self._worker_id, self._data.root, self._host.runtime.name)
                await self._serve()

    def _origin(self) -> Origin:
        return Origin((*self._sources, self._server), self._token_file, self._limits, self._disks)

    async def _serve(self) -> None:
        connection = asyncio.ensure_future(self._connection.run())
        watcher = asyncio.ensure_future(self._watch_server())
        await self._ended.wait()
        watcher.cancel()
        await self._stop_containers()
        await self._flush()
        await self._connection.leave()
        connection.cancel()
        await asyncio.gather(connection, watcher, return_exceptions=True)

    def _find_server(self) -> tuple[str, str]:
        if self._server:
            return self._server, read_token(self._token_file)
        return local_server(self._data.address, self._token_file)

    def _hello(self) -> WorkerConnected:
        assert self._host is not None
        grpc_listener, http_listener = self._host.listeners
        return WorkerConnected(
            worker_id=self._worker_id,
            containers=tuple(self._connection.outbox.ended().union(self._containers)),
            process=os.getpid(),
            gateway=GATEWAY,
            grpc_port=GRPC_PORT,
            grpc_listener=grpc_listener.fileno(),
            http_port=HTTP_PORT,
            http_listener=http_listener.fileno(),
            cpu_millis=1000 * (os.cpu_count() or 1),
            memory_bytes=self._host.memory_bytes,
        )

    def _report(self) -> WorkerReported:
        assert self._host is not None
        usage = cgroups.read_usage(cgroups.parent_group(self._data.instance))
        return WorkerReported(
            worker_id=self._worker_id,
            cpu_seconds_used=usage.cpu_seconds,
            memory_bytes_free=max(0, self._host.memory_bytes - usage.memory_bytes),
            containers=len(self._containers),
            disk_bytes_free=shutil.disk_usage(self._data.root).free,
            usage=self._meter.read({task_id: container.cgroup for task_id, container in self._containers.items()}),
            layers=self._host.roots.known_layers(),
        )

    def _obey(self, action: Action) -> None:
        """Orders may be repeated: a container is launched once. One that comes when this worker ends is left to another."""
        match action:
            case LaunchContainer() if action.task_id not in self._jobs and not self._ended.is_set():
                self._launch(action)
            case StopContainer() if action.task_id in self._containers:
                self._containers[action.task_id].stop(action)

    def _launch(self, order: LaunchContainer) -> None:
        assert self._host is not None
        container = self._containers[order.task_id] = Container(order, self._host)
        job = self._jobs[order.task_id] = asyncio.ensure_future(container.run())
        job.add_done_callback(partial(self._forget, order.task_id))

    def _forget(self, task_id: str, job: asyncio.Task[None]) -> None:
        """The order stays known: a repeated one must not launch it again."""
        self._containers.pop(task_id, None)
        if not job.cancelled() and (error := job.exception()) is not None:
            logger.error("container %s failed", task_id, exc_info=error)

    async def _watch_server(self) -> None:
        while True:
            await asyncio.sleep(1)
            lonely = time.monotonic() - self._connection.lost_at
            if not self._connection.connected and lonely > self._orphan_seconds:
                logger.warning("no server for %.0f s; ending", lonely)
                self._ended.set()

    async def _stop_containers(self) -> None:
        for container in list(self._containers.values()):
            container.stop(StopContainer(container.task_id, "its worker ends", _STOP_GRACE))
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)

    async def _flush(self) -> None:
        """Give the server a moment to hear the last of it."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        while self._connection.connected and not self._connection.outbox.is_empty() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
