"""The worker: one process a host that runs containers as a server orders."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.events import WorkerConnected, WorkerReported
from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mount import private_mount_namespace
from jiffy.identifiers import random_id
from jiffy.objects.http import HttpObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.tiers import Tiers
from jiffy.runtime import cgroups
from jiffy.runtime.kernel import require_kernel
from jiffy.runtime.network import GATEWAY, ContainerNetwork
from jiffy.runtime.oci import Runtime, adopt_orphans, choose_runtime, hide_empty_hierarchy
from jiffy.worker.connection import Connection, local_server, read_token
from jiffy.worker.container import Container, Host
from jiffy.worker.roots import Roots

logger = logging.getLogger(__name__)

_STOP_GRACE: Final = 10.0
_FLUSH_SECONDS: Final = 2.0
_MEMORY_SHARE: Final = 0.9
_GRPC_PORT: Final = 9900
_HTTP_PORT: Final = 9901


class Agent:
    """`server` is the HTTP address of a server elsewhere, whose objects are fetched as they are read; empty for the server
    that shares the data directory. After `orphan_seconds` without a server the worker stops its containers and ends."""

    def __init__(self, data: DataDirectory, server: str, token_file: Path, orphan_seconds: float) -> None:
        self._data = data
        self._server = server
        self._token_file = token_file
        self._orphan_seconds = orphan_seconds
        self._worker_id = random_id("wo")
        self._memory_bytes = int(_total_memory() * _MEMORY_SHARE)
        self._containers: dict[str, Container] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()
        self._network = ContainerNetwork(data.instance)
        self._connection = Connection(self._find_server, self._hello, self._report, self._obey)
        self._host: Host | None = None
        self._listeners: list[socket.socket] = []

    async def run(self) -> None:
        """From taking the lock until SIGTERM, SIGINT, or too long without a server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ended.set)
        async with AsyncExitStack() as stack:
            stack.enter_context(_hold_lock(self._data.worker_lock))
            self._host = await self._open_host(stack)
            connection = asyncio.ensure_future(self._connection.run())
            watcher = asyncio.ensure_future(self._watch_server())
            logger.info("worker %s runs on %s with %s", self._worker_id, self._data.root, self._host.runtime.name)
            await self._ended.wait()
            watcher.cancel()
            await self._stop_containers()
            await self._flush()
            await self._connection.leave()
            connection.cancel()
            await asyncio.gather(connection, watcher, return_exceptions=True)

    async def _open_host(self, stack: AsyncExitStack) -> Host:
        """The namespaces, the network, the lazy layer: all that containers share, closed in reverse."""
        require_kernel(platform.release())
        private_mount_namespace()
        scratch = self._data.mounts / "cgroup"
        scratch.mkdir(exist_ok=True)
        hide_empty_hierarchy(scratch)
        adopt_orphans()
        runtime = choose_runtime(self._data.runtime)
        await _sweep(self._data, runtime)
        stack.push_async_callback(cgroups.remove_group, cgroups.parent_group(self._data.instance))
        await self._network.open()
        stack.push_async_callback(self._network.close)
        self._listeners = [stack.enter_context(self._network.listen(port)) for port in (_GRPC_PORT, _HTTP_PORT)]
        lazy = self._data.mounts / "lazy"
        lazy.mkdir(exist_ok=True)
        token_file = self._token_file if self._server else None
        mount = LazyMount(lazy, self._data.objects, self._data.incoming, self._server, token_file)
        await mount.start()
        stack.callback(lazy.rmdir)
        stack.push_async_callback(mount.stop)
        local = LocalObjects(self._data.objects, self._data.incoming)
        origin = HttpObjects(self._server, read_token(self._token_file)) if self._server else None
        roots = Roots(self._data, Tiers(local, origin), lazy)
        stack.callback(roots.close)
        outbox = self._connection.outbox
        return Host(
            data=self._data,
            roots=roots,
            network=self._network,
            runtime=runtime,
            memory_bytes=self._memory_bytes,
            server_url=f"http://{GATEWAY}:{_GRPC_PORT}",
            report=outbox.put,
            is_full=outbox.is_full,
        )

    def _find_server(self) -> tuple[str, str]:
        if self._server:
            return self._server, read_token(self._token_file)
        return local_server(self._data.address, self._token_file)

    def _hello(self) -> WorkerConnected:
        return WorkerConnected(
            worker_id=self._worker_id,
            containers=tuple(self._connection.outbox.ended().union(self._containers)),
            process=os.getpid(),
            gateway=GATEWAY,
            grpc_port=_GRPC_PORT,
            grpc_listener=self._listeners[0].fileno(),
            http_port=_HTTP_PORT,
            http_listener=self._listeners[1].fileno(),
            cpu_millis=1000 * (os.cpu_count() or 1),
            memory_bytes=self._memory_bytes,
        )

    def _report(self) -> WorkerReported:
        usage = cgroups.read_usage(cgroups.parent_group(self._data.instance))
        return WorkerReported(
            worker_id=self._worker_id,
            cpu_seconds_used=usage.cpu_seconds,
            memory_bytes_free=max(0, self._memory_bytes - usage.memory_bytes),
            containers=len(self._containers),
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


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    """One worker a data directory; its pid is in the lock file."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another worker runs on {path.parent}", hint="`jiffy stop` ends it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


async def _sweep(data: DataDirectory, runtime: Runtime) -> None:
    """Remove what a killed predecessor left: containers, their groups and their files."""
    for identifier in await runtime.identifiers():
        await runtime.delete(identifier)
    await cgroups.remove_group(cgroups.parent_group(data.instance))
    for folder in data.containers.iterdir():
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    for folder in data.mounts.iterdir():
        with contextlib.suppress(OSError):
            folder.rmdir()
    LocalObjects(data.objects, data.incoming).sweep()


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
