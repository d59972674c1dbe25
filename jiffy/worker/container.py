"""One container, from the order to launch it until nothing of it is left."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy import failpoints
from jiffy.core.actions import CommitVolume, LaunchContainer, ReloadVolume, StopContainer
from jiffy.core.events import ContainerExited, ContainerStarted, ExitReason, LogWritten, StartRecorded
from jiffy.errors import JiffyError, UnsupportedError
from jiffy.fs.prefetch import Request
from jiffy.runtime import cgroups
from jiffy.runtime.bundle import BindMount, ContainerSpec
from jiffy.runtime.network import Interface
from jiffy.runtime.process import Process
from jiffy.runtime.resolv import hosts_file, resolver_file
from jiffy.worker.buckets import Buckets
from jiffy.worker.gpus import edits_for
from jiffy.worker.host import Host
from jiffy.worker.logs import LogPipe
from jiffy.worker.recording import Recording, begin_recording
from jiffy.worker.roots import Root
from jiffy.worker.volumes import Volumes

logger = logging.getLogger(__name__)

_DRAIN_SECONDS: Final = 2.0
_LEAST_FREE_BYTES: Final = 2**20
_RECORD_SECONDS: Final = 10.0
_KILLED: Final = 128 + signal.SIGKILL


@dataclass(slots=True)
class _Phases:
    """How long each step took, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self.since
        self.since = now


class Container:
    """Call `run` once; it returns when the container is gone. `stop` may come at any time."""

    def __init__(self, order: LaunchContainer, host: Host) -> None:
        self._order = order
        self._host = host
        self._process: Process | None = None
        self._root: Root | None = None
        self._interface: Interface | None = None
        self._stop: StopContainer | None = None
        self._killer: asyncio.TimerHandle | None = None
        self._recording: Recording | None = None
        self._volumes: Volumes | None = None
        self._buckets: Buckets | None = None
        self._devices: list[str] = []
        self._pipes = [LogPipe(order.task_id, stream, host.report, host.is_full) for stream in (1, 2)]

    @property
    def task_id(self) -> str:
        return self._order.task_id

    async def run(self) -> None:
        """Launch, wait, report the end, clean up."""
        try:
            async with self._host.caches.held(self._order.caches) as caches:
                process = await self._launch(caches)
                code = await process.wait()
            if self._volumes is not None:
                await self._volumes.finish()
            if self._order.capture and code == 0 and self._stop is None:
                await self._capture()
            await self._report_exit(code)
        except Exception as error:
            if not isinstance(error, JiffyError):
                logger.exception("launching %s failed", self.task_id)
            await self._drain()
            self._report(0, ExitReason.LAUNCH_FAILED, self._explain(error))
        finally:
            await self._clean_up()

    def obey(self, order: CommitVolume | ReloadVolume) -> None:
        """About a volume of it."""
        if self._volumes is not None:
            self._volumes.obey(order)

    def stop(self, order: StopContainer) -> None:
        """SIGINT or SIGTERM, then SIGKILL after the grace. A repeated order only shortens it."""
        first = self._stop is None
        self._stop = order
        if self._process is None:
            return
        if order.grace_seconds > 0 and first:
            self._process.signal(signal.SIGTERM if self._order.terminates else signal.SIGINT)
        if self._killer is not None:
            self._killer.cancel()
        loop = asyncio.get_running_loop()
        self._killer = loop.call_later(order.grace_seconds, self._process.signal, signal.SIGKILL)

    async def _capture(self) -> None:
        assert self._root is not None
        upper = await self._host.roots.detach(self._root)
        change = await self._host.changes.capture(self.task_id, upper)
        failpoints.reach("change-captured")
        self._host.report(change)

    async def _launch(self, caches: Sequence[BindMount]) -> Process:
        phases = _Phases()
        order = self._order
        self._host.lazy.announce(
            self.task_id, chunk_maps=order.chunk_maps, catalogues=order.catalogues, profile=order.profile
        )
        await self._host.roots.prepare(order.layers)
        phases.end("index")
        try:
            self._root = await self._host.roots.mount(self.task_id, order.layers)
        except BaseException:
            self._host.roots.release(order.layers)
            raise
        failpoints.reach("root-mounted")
        phases.end("mount")
        if order.record:
            await self._begin_recording(self._root)
        if order.network:
            self._interface = await self._host.network.take()
        phases.end("network")
        self.bundle.mkdir()
        self._devices = await self._host.gpus.take(order.resources.gpus)
        volumes = await self._open_volumes(self._root) if order.volumes else []
        buckets = await self._open_buckets(self._root) if order.buckets else []
        spec = self._spec(self._root, [*caches, *volumes, *buckets])
        stdout, stderr = self._pipes
        self._process = await self._host.runtime.start(spec, self.bundle, stdout.writer, stderr.writer)
        failpoints.reach("container-started")
        phases.end("runtime")
        for pipe in self._pipes:
            pipe.close_writer()
        self._host.report(ContainerStarted(self.task_id, self.address, time.time(), phases.seconds))
        if self._stop is not None:
            stop, self._stop = self._stop, None
            self.stop(stop)
        return self._process

    async def _open_volumes(self, root: Root) -> list[BindMount]:
        host = self._host
        self._volumes = Volumes(
            self.task_id, self._order.volumes, root.folder, host.roots, host.changes, host.report, self.cgroup
        )
        return await self._volumes.open()

    async def _open_buckets(self, root: Root) -> list[BindMount]:
        self._buckets = Buckets(self._order.buckets, root.folder, self._tell)
        return await self._buckets.open()

    def _tell(self, text: str) -> None:
        """Say something in the container's log."""
        self._host.report(LogWritten(self.task_id, 2, text, time.time()))

    async def _begin_recording(self, root: Root) -> None:
        layers = self._host.roots.layer_mounts(root)
        try:
            self._recording = await begin_recording(self._host.data, root.path, layers, self._order.chunk_maps)
        except UnsupportedError as error:
            logger.warning("%s", error)
            return
        asyncio.get_running_loop().call_later(_RECORD_SECONDS, self._end_recording)

    def _end_recording(self) -> None:
        if self._recording is not None:
            recording, self._recording = self._recording, None
            objects = {digest: tuple(ranges) for digest, ranges in recording.close().items()}
            self._host.report(StartRecorded(self.task_id, objects))

    @property
    def address(self) -> str:
        """On the bridge."""
        return "127.0.0.1" if self._interface is None else self._interface.address

    def _spec(self, root: Root, caches: Sequence[BindMount]) -> ContainerSpec:
        order = self._order
        hostname = order.task_id[-12:].lower()
        files = {
            "/etc/resolv.conf": resolver_file().encode(),
            "/etc/hosts": hosts_file(hostname, self.address).encode(),
            "/etc/hostname": f"{hostname}\n".encode(),
            **order.files,
        }
        environment = {
            name: value.replace("{server}", self._host.server_url) for name, value in order.environment.items()
        }
        return ContainerSpec(
            identifier=order.task_id,
            root=root.path,
            argv=order.argv,
            environment=environment,
            working_directory=order.working_directory,
            hostname=hostname,
            mounts=(*caches, *_write_files(self.bundle / "files", files)),
            network_namespace="" if self._interface is None else self._interface.namespace,
            cgroup=self.cgroup,
            memory_bytes=order.resources.memory_bytes or self._host.capacity.memory_bytes,
            cpu_millis=order.resources.cpu_millis,
            uid=order.user.uid,
            gid=order.user.gid,
            groups=order.user.groups,
            devices=tuple(edits_for(self._devices)),
            temporary=tuple([(mount.target, mount.size) for mount in order.temporary]),
        )

    @property
    def runs(self) -> bool:
        """Its first process does, or did a moment ago."""
        return self._process is not None

    @property
    def bundle(self) -> Path:
        return self._host.data.runtime / self.task_id

    @property
    def cgroup(self) -> str:
        return f"{cgroups.parent_group(self._host.data.instance)}/{self.task_id}"

    async def _report_exit(self, code: int) -> None:
        failpoints.reach("container-exited")
        self._end_recording()
        await self._drain()
        if self._stop is not None:
            self._report(code, ExitReason.STOPPED, self._stop.reason)
        elif code == _KILLED and cgroups.oom_kills(self.cgroup):
            self._report(code, ExitReason.OUT_OF_MEMORY, "")
        else:
            self._report(code, ExitReason.FINISHED, "")

    def _report(self, code: int, reason: ExitReason, detail: str) -> None:
        self._host.report(ContainerExited(self.task_id, code, reason, detail, time.time()))

    def _explain(self, error: Exception) -> str:
        """Programs that a full disk stops seldom say so."""
        if shutil.disk_usage(self._host.data.root).free < _LEAST_FREE_BYTES:
            return "the disk is full on the host that should run it"
        return str(error) or repr(error)

    async def _drain(self) -> None:
        for pipe in self._pipes:
            await pipe.drain(_DRAIN_SECONDS)

    async def _clean_up(self) -> None:
        """Each step is tried, whatever became of the others."""
        if self._killer is not None:
            self._killer.cancel()
        self._host.lazy.tell(Request.CANCEL, start=self.task_id)
        self._end_recording()
        await self._drain()
        await _try(self._host.runtime.delete(self.task_id))
        await _try(cgroups.remove_group(self.cgroup))
        self._host.gpus.give_back(self._devices)
        shutil.rmtree(self.bundle, ignore_errors=True)
        if self._volumes is not None:
            await _try(self._volumes.close())
        if self._buckets is not None:
            await _try(self._buckets.close())
        if self._interface is not None:
            await _try(self._host.network.release(self._interface))
        if self._root is not None:
            await _try(self._host.roots.remove(self._root))


async def _try(step: Awaitable[None]) -> None:
    try:
        await step
    except Exception:
        logger.exception("a step of cleaning up failed")


def _write_files(folder: Path, files: dict[str, bytes]) -> list[BindMount]:
    folder.mkdir()
    mounts = []
    for number, (target, data) in enumerate(files.items()):
        source = folder / str(number)
        source.write_bytes(data)
        mounts.append(BindMount(source, target))
    return mounts
