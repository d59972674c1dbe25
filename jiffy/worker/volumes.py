"""Volumes of one container: each an overlay on what was committed when it was mounted.

What is mounted over it here later appears in the container too: so a newer state covers the older one while the container
runs, unless a file of it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jiffy.core.actions import CommitVolume, ReloadVolume, VolumeMount
from jiffy.core.events import Event, VolumeAnswered, VolumeCaptured
from jiffy.errors import ConflictError, JiffyError
from jiffy.fs.mount import make_read_only, make_shared, unmount
from jiffy.jobs import Jobs
from jiffy.runtime import cgroups
from jiffy.runtime.bundle import BindMount
from jiffy.runtime.open_files import has_open_files
from jiffy.worker.changes import Changes
from jiffy.worker.roots import Root, Roots

logger = logging.getLogger(__name__)

_BACKGROUND_SECONDS: Final = 5.0
OPEN_FILES: Final = "there are open files preventing the operation"
"""The client looks for these words."""

_Signature = tuple[int, int, int]


class Volume:
    """One volume of a container. Commits, reloads and captures in the background take turns."""

    def __init__(
        self, task_id: str, number: int, order: VolumeMount, folder: Path, roots: Roots, changes: Changes, cgroup: str
    ) -> None:
        self.order = order
        self._cgroup = cgroup
        self._task_id = task_id
        self._name = f"{task_id}.volume{number}"
        self._at = folder / f"volume{number}"
        self._roots = roots
        self._changes = changes
        self._generations = itertools.count()
        self._roots_here: list[Root] = []
        self._head = order.head
        self._reported = ""
        self._seen: _Signature = (0, 0, 0)
        self._turn = asyncio.Lock()

    async def open(self) -> BindMount:
        """Mount it; gives what the container is to have of it."""
        self._at.mkdir()
        await self._mount(self.order.layers)
        make_shared(self._at)
        source = self._at / self.order.sub_path.lstrip("/")
        if self.order.sub_path and not self.order.read_only:
            await asyncio.to_thread(source.mkdir, parents=True, exist_ok=True)
        return BindMount(source, self.order.target, self.order.read_only, follows=True)

    async def capture(self, request_id: str = "") -> VolumeCaptured | None:
        """What was written since it was mounted; None when nothing was since the last time."""
        async with self._turn:
            return await self._capture(request_id)

    async def reload(self, order: ReloadVolume) -> VolumeCaptured | None:
        """Show what is committed now; what was written before is told first. ConflictError while files are open."""
        if self.order.sub_path:
            raise ConflictError("a volume of which only a part is mounted cannot be reloaded")
        async with self._turn:
            if await asyncio.to_thread(self._is_in_use):
                raise ConflictError(OPEN_FILES)
            captured = await self._capture("")
            await self._uncover()
            await self._mount(order.layers)
            self._head = order.head
            return captured

    async def close(self) -> None:
        async with self._turn:
            while self._roots_here:
                await self._uncover(keep=0)

    def _is_in_use(self) -> bool:
        return has_open_files(cgroups.processes(self._cgroup), self.order.target)

    async def _uncover(self, keep: int = 1) -> None:
        """Take the newest state away; the first one is the container's own mount and stays until its end."""
        if len(self._roots_here) > keep:
            root = self._roots_here.pop()
            unmount(self._at)
            await asyncio.to_thread(shutil.rmtree, root.folder, ignore_errors=True)
            self._roots.release(root.layers)

    async def _mount(self, layers: Sequence[str]) -> None:
        await self._roots.prepare(layers)
        name = f"{self._name}.{next(self._generations)}"
        try:
            root = await self._roots.mount(name, layers, self._at)
        except BaseException:
            self._roots.release(layers)
            raise
        self._roots_here.append(root)
        self._reported, self._seen = "", _sign(root.upper)
        if self.order.read_only:
            make_read_only(self._at)

    async def _capture(self, request_id: str) -> VolumeCaptured | None:
        upper = self._roots_here[-1].upper
        signature = await asyncio.to_thread(_sign, upper)
        if signature == self._seen:
            return None
        digest = await self._changes.copy(upper)
        before, self._reported, self._seen = self._reported, digest, signature
        return VolumeCaptured(self._task_id, self.order.volume_id, self._head, digest, before, request_id)


class Volumes:
    """All volumes of a container. `report` takes what is to be told to the server."""

    def __init__(
        self,
        task_id: str,
        orders: Sequence[VolumeMount],
        folder: Path,
        roots: Roots,
        changes: Changes,
        report: Callable[[Event], None],
        cgroup: str,
    ) -> None:
        self._task_id = task_id
        self._volumes = [
            Volume(task_id, number, order, folder, roots, changes, cgroup) for number, order in enumerate(orders)
        ]
        self._opened: list[Volume] = []
        self._report = report
        self._answered: set[str] = set()
        self._background: asyncio.Task[None] | None = None
        self._jobs = Jobs()

    async def open(self) -> list[BindMount]:
        mounts = []
        for volume in self._volumes:
            self._opened.append(volume)
            mounts.append(await volume.open())
        if self._kept():
            self._background = asyncio.ensure_future(self._capture_forever())
        return mounts

    def obey(self, order: CommitVolume | ReloadVolume) -> None:
        """An order may be repeated: it is obeyed once."""
        if order.request_id in self._answered:
            return
        self._answered.add(order.request_id)
        self._jobs.begin(self._obey(order))

    async def finish(self) -> None:
        """The container has ended: what it wrote last is told."""
        if self._background is not None:
            self._background.cancel()
        await self._capture_all()

    async def close(self) -> None:
        if self._background is not None:
            self._background.cancel()
        await self._jobs.finish()
        for volume in reversed(self._opened):
            try:
                await volume.close()
            except (OSError, JiffyError) as error:
                logger.error("volume %s of %s is not unmounted: %s", volume.order.volume_id, self._task_id, error)

    async def _obey(self, order: CommitVolume | ReloadVolume) -> None:
        failure = ""
        for volume in self._volumes:
            if volume.order.volume_id != order.volume_id:
                continue
            try:
                if isinstance(order, ReloadVolume):
                    captured = await volume.reload(order)
                else:
                    captured = None if volume.order.read_only else await volume.capture(order.request_id)
                if captured is not None:
                    self._report(captured)
            except (OSError, JiffyError) as error:
                failure = str(error)
        self._report(VolumeAnswered(self._task_id, order.request_id, failure))

    def _kept(self) -> list[Volume]:
        return [each for each in self._opened if each.order.background and not each.order.read_only]

    async def _capture_forever(self) -> None:
        while True:
            await asyncio.sleep(_BACKGROUND_SECONDS)
            await self._capture_all()

    async def _capture_all(self) -> None:
        for volume in self._kept():
            try:
                if (captured := await volume.capture()) is not None:
                    self._report(captured)
            except (OSError, JiffyError) as error:
                logger.error("volume %s of %s is committed later: %s", volume.order.volume_id, self._task_id, error)


def _sign(upper: Path) -> _Signature:
    """Changes when anything in a folder does."""
    count = latest = total = 0
    for folder, folders, files in os.walk(upper):
        for name in (".", *folders, *files):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118
                count += 1
                latest = max(latest, status.st_ctime_ns)
                total += status.st_size
    return count, latest, total
