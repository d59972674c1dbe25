"""When workers tell something: the store records it, the scheduler acts on it, waiting clients hear of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from jiffy.core.events import ContainerExited, Event, StartRecorded, WorkerConnected
from jiffy.errors import JiffyError
from jiffy.server.bells import Bells
from jiffy.server.profiles import Profiles
from jiffy.server.scheduler import Scheduler
from jiffy.server.steps import Steps
from jiffy.store.stores import Stores
from jiffy.store.tasks import Task

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
    ) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._bells = bells
        self._profiles = profiles
        self._steps = steps
        self._hear = hear
        self._open_bridge = open_bridge
        self._close_bridge = close_bridge

    async def worker_connected(self, event: WorkerConnected) -> None:
        """Containers that the worker does not know are lost, those that were given up are stopped; work that waited
        for room may start."""
        try:
            await self._open_bridge(event)
        except JiffyError as error:
            logger.error("containers of worker %s cannot reach the server: %s", event.worker_id, error)
        known = set(event.containers)
        live = await self._stores.tasks.live()
        unknown = [task for task in live if task.worker_id == event.worker_id and task.task_id not in known]
        await self._scheduler.containers_lost([task.task_id for task in unknown if self._was_ordered(task)])
        strays = {task_id for task_id in known if not self._steps.knows(task_id)} - {task.task_id for task in live}
        self._scheduler.stop_given_up(event.worker_id, strays)
        await self._scheduler.adjust_all()

    def _was_ordered(self, stored: Task) -> bool:
        """Whether the worker ought to know a container; it does not when the order is still to come."""
        task = self._scheduler.peek_task(stored.task_id)
        return stored.started_at is not None or task is None or task.restored

    async def worker_lost(self, worker_id: str) -> None:
        await self._close_bridge(worker_id)
        self._steps.worker_lost(worker_id)
        live = await self._stores.tasks.live()
        await self._scheduler.containers_lost([task.task_id for task in live if task.worker_id == worker_id])

    async def events_arrived(self, worker_id: str, events: Sequence[tuple[int, Event]]) -> None:
        silent = {task_id for _, event in events if self._builds_image(task_id := getattr(event, "task_id", ""))}
        fresh = await self._stores.tasks.apply(worker_id, events, silent)
        tasks = {getattr(event, "task_id", "") for event in fresh}
        for task_id in tasks:
            task = self._scheduler.peek_task(task_id)
            if task is not None:
                self._bells.ring(task.app_id)
        for event in fresh:
            self._steps.heard(event)
            self._hear(event)
            if isinstance(event, StartRecorded):
                await self._profiles.record(event.task_id, event.objects)
        for _, event in events:  # also one that was recorded before: the last server may have died before it acted
            if isinstance(event, ContainerExited):
                self._profiles.forget(event.task_id)
                await self._scheduler.container_exited(event)

    def _builds_image(self, task_id: str) -> bool:
        """Such a container's output is the image's, and may hold secrets that are to be left out."""
        task = self._scheduler.peek_task(task_id)
        pool = self._scheduler.peek_pool(task.function_id) if task is not None else None
        return pool is not None and pool.definition.is_builder_function
