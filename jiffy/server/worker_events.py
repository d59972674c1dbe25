"""When workers tell something: the store records it, the scheduler acts on it, waiting clients hear of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from jiffy import failpoints
from jiffy.core import facts
from jiffy.core.events import (
    ContainerExited,
    ContainerStarted,
    Event,
    StartRecorded,
    VolumeAnswered,
    VolumeCaptured,
    WorkerConnected,
    WorkerReported,
)
from jiffy.core.placement import Room
from jiffy.errors import JiffyError
from jiffy.server.bells import Bells
from jiffy.server.execs import Execs
from jiffy.server.profiles import Profiles
from jiffy.server.scheduler import Scheduler
from jiffy.server.steps import Steps
from jiffy.server.volume_mounts import VolumeMounts
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

OpenBridge = Callable[[WorkerConnected], Awaitable[None]]
CloseBridge = Callable[[str], Awaitable[None]]


class WorkerEvents:
    """`hear` takes all that is new. `open_bridge` starts to listen where a worker's containers are, `close_bridge` ends
    it."""

    def __init__(
        self,
        stores: Stores,
        scheduler: Scheduler,
        bells: Bells,
        profiles: Profiles,
        steps: Steps,
        hear: Callable[[Event], None],
        open_bridge: OpenBridge,
        close_bridge: CloseBridge,
        volumes: VolumeMounts,
        execs: Execs,
    ) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._bells = bells
        self._profiles = profiles
        self._steps = steps
        self._hear = hear
        self._open_bridge = open_bridge
        self._close_bridge = close_bridge
        self._volumes = volumes
        self._execs = execs

    async def worker_connected(self, event: WorkerConnected, room: Room) -> None:
        try:
            await self._open_bridge(event)
        except JiffyError as error:
            logger.error("containers of worker %s cannot reach the server: %s", event.worker_id, error)
        known = tuple(task_id for task_id in event.containers if not self._steps.knows(task_id))
        self._scheduler.tell(facts.WorkerJoined(room, known, event.succeeds))

    def worker_reported(self, report: WorkerReported, room: Room) -> None:
        self._scheduler.tell(facts.WorkerWasHeard(room, report.usage))

    def worker_disconnected(self, worker_id: str, *, for_good: bool) -> None:
        self._scheduler.tell(facts.WorkerDisconnected(worker_id, for_good))

    async def worker_fenced(self, worker_id: str) -> None:
        self._steps.worker_lost(worker_id)
        self._execs.worker_lost(worker_id)
        await self._close_bridge(worker_id)

    async def events_arrived(self, worker_id: str, events: Sequence[tuple[int, Event]]) -> None:
        silent = {task_id for _, event in events if self._builds_image(task_id := getattr(event, "task_id", ""))}
        fresh = await self._stores.tasks.apply(worker_id, events, silent)
        failpoints.reach("events-recorded")
        tasks = {getattr(event, "task_id", "") for event in fresh}
        for task_id in tasks:
            if (container := self._scheduler.peek_container(task_id)) is not None:
                self._bells.ring(container.app_id)
        for event in fresh:
            self._steps.heard(event)
            self._hear(event)
            if isinstance(event, ContainerStarted):
                self._scheduler.tell(facts.ContainerStarted(event.task_id))
            if isinstance(event, StartRecorded):
                await self._profiles.record(event.task_id, event.objects)
        for _, event in events:  # also one that was recorded before: the last server may have died before it acted
            if isinstance(event, VolumeCaptured):
                await self._volumes.captured(event)
            if isinstance(event, VolumeAnswered):
                self._volumes.answered(event)
            if isinstance(event, ContainerExited):
                self._volumes.task_ended(event.task_id)
                self._profiles.forget(event.task_id)
                self._scheduler.container_exited(event)

    def _builds_image(self, task_id: str) -> bool:
        """Such a container's output is the image's, and may hold secrets that are to be left out."""
        function = self._scheduler.peek_function(task_id)
        return function is not None and function.definition.is_builder_function
