"""Volumes in containers: what these write is committed, and what others committed is shown to them.

A worker tells all that a container wrote since the volume was mounted there, each time. What it told before is taken off, so
that a container overwrites only what it wrote since: the last one that writes a file has it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.core.actions import CommitVolume, ReloadVolume
from jiffy.core.events import VolumeAnswered, VolumeCaptured
from jiffy.errors import JiffyError, UnavailableError, UnsupportedError, is_passing
from jiffy.image.change import Applied, apply_change, is_hidden, read_change
from jiffy.image.index import Index
from jiffy.image.tree import Tree
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.server.caller import Caller
from jiffy.server.derivations import Derivations
from jiffy.server.scheduler import Scheduler
from jiffy.server.volume_trees import Entries
from jiffy.server.volumes import Volumes
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 600.0
_NOTHING: Final = Applied([], set())


class VolumeMounts:
    def __init__(
        self, stores: Stores, objects: LocalObjects, volumes: Volumes, derivations: Derivations, scheduler: Scheduler
    ) -> None:
        self._stores = stores
        self._objects = objects
        self._volumes = volumes
        self._derivations = derivations
        self._scheduler = scheduler
        self._waiting: dict[str, tuple[str, asyncio.Future[str]]] = {}

    async def volume_commit(self, request: api_pb2.VolumeCommitRequest, caller: Caller) -> api_pb2.VolumeCommitResponse:
        """What the calling container wrote is what others get from now on. It goes on seeing the rest as it was."""
        task_id = caller.require_task()
        request_id = caller.new_id("vc")
        await self._ask(task_id, CommitVolume(task_id, request.volume_id, request_id))
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def volume_reload(self, request: api_pb2.VolumeReloadRequest, caller: Caller) -> Empty:
        """What the calling container wrote is committed first."""
        task_id = caller.require_task()
        await self._ask(task_id, CommitVolume(task_id, request.volume_id, caller.new_id("vc")))
        head = (await self._stores.volumes.get(request.volume_id)).head
        await self._stores.volumes.note_use(task_id, head)
        layers = (await self._derivations.erofs_image(head),)
        await self._ask(task_id, ReloadVolume(task_id, request.volume_id, head, layers, caller.new_id("vr")))
        return Empty()

    async def _ask(self, task_id: str, order: CommitVolume | ReloadVolume) -> None:
        container = self._scheduler.find_container(task_id)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[order.request_id] = (task_id, answer)
        try:
            self._scheduler.send(container.worker_id, order)
            async with asyncio.timeout(_ANSWER_SECONDS):
                if failure := await answer:
                    raise UnsupportedError(failure)
        except TimeoutError:
            raise UnavailableError("the worker does not answer about a volume") from None
        finally:
            self._waiting.pop(order.request_id, None)

    # What workers tell

    async def captured(self, event: VolumeCaptured) -> None:
        """Also told again: committing it twice is committing it once, unless others wrote the same files meanwhile."""
        try:
            await self._commit(event)
        except (JiffyError, OSError) as error:
            if isinstance(error, JiffyError) and is_passing(error):
                raise
            logger.error("what %s wrote to volume %s is lost: %s", event.task_id, event.volume_id, error)
            self._answer(event.request_id, str(error))

    def answered(self, event: VolumeAnswered) -> None:
        self._answer(event.request_id, event.failure)

    def task_ended(self, task_id: str) -> None:
        for request_id, (waiting, _) in list(self._waiting.items()):
            if waiting == task_id:
                self._answer(request_id, "the container has ended")

    def _answer(self, request_id: str, failure: str) -> None:
        _, answer = self._waiting.get(request_id, ("", None))
        if answer is not None and not answer.done():
            answer.set_result(failure)

    async def _commit(self, event: VolumeCaptured) -> None:
        now, before = await asyncio.to_thread(self._read, event)
        await self._volumes.change(event.volume_id, lambda entries: _apply(entries, now, before))

    def _read(self, event: VolumeCaptured) -> tuple[Applied, Applied]:
        lower = Tree([Index.from_file(self._objects.path(event.head))])
        return self._applied(lower, event.change), self._applied(lower, event.before)

    def _applied(self, lower: Tree, change: Digest) -> Applied:
        return apply_change(lower, read_change(self._objects.read(change))) if change else _NOTHING


def _apply(entries: Entries, now: Applied, before: Applied) -> None:
    """What was written since `before`, on what is committed now."""
    known = {entry.path: entry for entry in before.entries}
    written = [entry for entry in now.entries if known.get(entry.path) != entry]
    kept = {entry.path for entry in now.entries}
    gone = (now.hidden - before.hidden) | {path for path in known if path not in kept}
    if gone:
        for path in [each for each in entries if each != b"/" and is_hidden(each, gone)]:
            del entries[path]
    for entry in written:
        if entry.path != b"/":
            entries[entry.path] = entry
