"""The worker: one process a host that runs containers as a server orders."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from jiffy import failpoints
from jiffy.addresses import read_address
from jiffy.core.actions import (
    Action,
    CommitVolume,
    ExecInContainer,
    LaunchContainer,
    OpenChannel,
    ReloadVolume,
    StopContainer,
)
from jiffy.core.events import PROTOCOL, Listeners, WorkerConnected, WorkerReported
from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import JiffyError
from jiffy.identifiers import random_id
from jiffy.locks import hold_lock
from jiffy.objects.eviction import NO_LIMITS, Limits
from jiffy.runtime import cgroups
from jiffy.runtime.capacity import Capacity
from jiffy.tunnels import BUFFER_BYTES, Stream
from jiffy.unix_sockets import connect_to
from jiffy.version import VERSION
from jiffy.worker.caches import BUILD_CACHE_BYTES
from jiffy.worker.channels import Channels
from jiffy.worker.connection import Connection, local_server
from jiffy.worker.container import Container
from jiffy.worker.execs import Execs
from jiffy.worker.gpus import NO_GPUS, Inventory
from jiffy.worker.host import HTTP_PORT, Host, Origin, open_host
from jiffy.worker.lineage import succeed
from jiffy.worker.meter import Meter
from jiffy.worker.relay import Relay

logger = logging.getLogger(__name__)

_STOP_GRACE: Final = 10.0
_FLUSH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """`servers` are the addresses of the gates of servers elsewhere on one store, with the pin of their certificate: any of
    them leads to all. Objects are fetched from there as they are read, from `sources` before, and kept within `limits` on
    `disks`. None for the server that shares the data directory. `token_file` has the token that it asks for. `capacity` is
    what containers may use, None for all that is found; `labels` are what placements ask for, `gpus` those
    that there are. After `orphan_seconds` without
    a server the worker stops its containers and ends; one that is told to end gives what they run `drain_seconds`."""

    servers: tuple[str, ...] = ()
    token_file: Path | None = None
    sources: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    disks: tuple[Path, ...] = ()
    build_cache: int = BUILD_CACHE_BYTES
    capacity: Capacity | None = None
    labels: tuple[str, ...] = ()
    gpus: Inventory = NO_GPUS
    orphan_seconds: float = 60.0
    drain_seconds: float = 0.0


class Agent:
    def __init__(self, data: DataDirectory, options: WorkerOptions) -> None:
        self._data = data
        self._options = options
        self._token_file = options.token_file or data.token
        self._worker_id = random_id("wo")
        self._servers = itertools.cycle(options.servers)
        self._server = ""
        self._predecessors: tuple[str, ...] = ()
        self._containers: dict[str, Container] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._leaving = False
        self._ended = asyncio.Event()
        self._failure: JiffyError | None = None
        self._meter = Meter()
        self._connection = Connection(self._find_server, self._hello, self._report, self._obey)
        self._host: Host | None = None
        self._channels: Channels | None = None
        self._execs: Execs | None = None

    async def run(self) -> None:
        """From taking the lock until SIGTERM, SIGINT, or too long without a server. Raises what the server says when it
        does not take this worker."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leave)
        options, outbox = self._options, self._connection.outbox
        origin = self._origin() if options.servers else None
        with hold_lock(self._data.worker_lock, "worker"):
            self._predecessors = succeed(self._data.workers, self._worker_id)
            async with open_host(
                self._data, origin, outbox.put, outbox.is_full, options.build_cache, options.capacity, options.gpus
            ) as self._host:
                logger.info("worker %s runs on %s with %s", self._worker_id, self._data.root, self._host.runtime.name)
                await self._serve()
        if self._failure is not None:
            raise self._failure

    def _origin(self) -> Origin:
        options = self._options
        return Origin((*options.sources, *options.servers), self._token_file, options.limits, options.disks)

    async def _serve(self) -> None:
        assert self._host is not None
        relay = Relay(self._worker_id, HTTP_PORT, lambda: read_address(self._server), self._read_token)
        if self._options.servers:
            grpc, http = self._host.listeners
            await relay.open({"grpc": grpc, "http": http})
        dial = partial(relay.dial, "channel") if self._options.servers else self._dial_local_server
        self._channels = Channels(self._host.network, dial)
        self._execs = Execs(self._host.runtime, dial)
        connection = asyncio.ensure_future(self._connection.run())
        watcher = asyncio.ensure_future(self._watch_server())
        await self._ended.wait()
        watcher.cancel()
        await self._stop_containers()
        await self._flush()
        await self._connection.leave()
        connection.cancel()
        await asyncio.gather(connection, watcher, return_exceptions=True)
        await self._channels.close()
        await self._execs.close()
        await relay.close()

    def _leave(self) -> None:
        """Take no more, and end when what runs is done or its time is over; told again: end at once."""
        if self._leaving or not self._containers or not self._connection.connected or not self._options.drain_seconds:
            self._ended.set()
            return
        logger.info("leaving: %d containers may finish what they run", len(self._containers))
        self._leaving = True
        self._connection.report_now()
        asyncio.get_running_loop().call_later(self._options.drain_seconds, self._ended.set)

    def _read_token(self) -> str:
        return read_token(self._token_file)

    def _find_server(self) -> tuple[str, str]:
        if self._options.servers:
            self._server = next(self._servers)
            return self._server, self._read_token()
        return local_server(self._data.address, self._token_file)

    async def _dial_local_server(self, address: str) -> Stream:
        connection = await connect_to(self._data.container_socket("channel"))
        return await asyncio.open_unix_connection(sock=connection, limit=BUFFER_BYTES)

    def _hello(self) -> WorkerConnected:
        assert self._host is not None
        grpc, http = self._host.listeners
        return WorkerConnected(
            worker_id=self._worker_id,
            containers=tuple(self._connection.outbox.ended().union(self._containers)),
            cpu_millis=self._host.capacity.cpu_millis,
            memory_bytes=self._host.capacity.memory_bytes,
            http_port=HTTP_PORT,
            protocol=PROTOCOL,
            version=VERSION,
            listeners=None if self._options.servers else Listeners(os.getpid(), grpc.fileno(), http.fileno()),
            labels=self._options.labels,
            leaving=self._leaving,
            gpus=len(self._options.gpus.devices),
            gpu_type=self._options.gpus.type,
            succeeds=self._predecessors,
        )

    def _report(self) -> WorkerReported:
        assert self._host is not None
        usage = cgroups.read_usage(cgroups.parent_group(self._data.instance))
        return WorkerReported(
            worker_id=self._worker_id,
            cpu_seconds_used=usage.cpu_seconds,
            memory_bytes_free=max(0, self._host.capacity.memory_bytes - usage.memory_bytes),
            containers=len(self._containers),
            disk_bytes_free=shutil.disk_usage(self._data.root).free,
            usage=self._meter.read({task_id: container.cgroup for task_id, container in self._containers.items()}),
            layers=self._host.roots.known_layers(),
            leaving=self._leaving,
        )

    def _obey(self, action: Action) -> None:
        """Orders may be repeated: a container is launched once. One that comes when this worker ends is left to another."""
        match action:
            case LaunchContainer() if action.task_id not in self._jobs and not self._is_ending():
                self._launch(action)
            case StopContainer() if action.task_id in self._containers:
                self._containers[action.task_id].stop(action)
            case OpenChannel() if action.task_id in self._containers and self._channels is not None:
                self._channels.open(action, self._containers[action.task_id].address)
            case ExecInContainer() if action.task_id in self._containers and self._execs is not None:
                self._execs.begin(action, self._containers[action.task_id])
            case CommitVolume() | ReloadVolume() if action.task_id in self._containers:
                self._containers[action.task_id].obey(action)

    def _is_ending(self) -> bool:
        return self._leaving or self._ended.is_set()

    def _launch(self, order: LaunchContainer) -> None:
        assert self._host is not None
        logger.info("%s is launched", order.task_id)
        failpoints.reach("order-received")
        container = self._containers[order.task_id] = Container(order, self._host)
        job = self._jobs[order.task_id] = asyncio.ensure_future(container.run())
        job.add_done_callback(partial(self._forget, order.task_id))

    def _forget(self, task_id: str, job: asyncio.Task[None]) -> None:
        """The order stays known: a repeated one must not launch it again."""
        self._containers.pop(task_id, None)
        if not job.cancelled() and (error := job.exception()) is not None:
            logger.error("container %s failed", task_id, exc_info=error)
        if self._leaving and not self._containers:
            self._ended.set()

    async def _watch_server(self) -> None:
        while True:
            await asyncio.sleep(1)
            if self._connection.refusal is not None:
                self._failure = self._connection.refusal
                self._ended.set()
            lonely = time.monotonic() - self._connection.lost_at
            if not self._connection.connected and lonely > self._options.orphan_seconds:
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
