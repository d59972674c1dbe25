"""A simulated server: the real nouns, scheduler and workers' connections, on the ground."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, cast

from jiffy.core.actions import LaunchContainer
from jiffy.core.events import Event
from jiffy.errors import JiffyError
from jiffy.server.apps import Apps
from jiffy.server.bells import Bells
from jiffy.server.builds import Builds
from jiffy.server.caller import Caller
from jiffy.server.calls import Calls
from jiffy.server.cancellations import Cancellations
from jiffy.server.channels import Channels
from jiffy.server.containers import Containers
from jiffy.server.deployments import Deployments
from jiffy.server.execs import Execs
from jiffy.server.known_functions import KnownFunction
from jiffy.server.profiles import Profiles
from jiffy.server.restoring import restore
from jiffy.server.scheduler import Scheduler
from jiffy.server.schedules import Schedules
from jiffy.server.steps import Steps
from jiffy.server.volume_mounts import VolumeMounts
from jiffy.server.worker_events import WorkerEvents
from jiffy.server.workers import Workers
from jiffy.store.stores import make_stores
from tests.sim.ground import Ground, ServerDatabase
from tests.sim.network import Socket

PLACE = "server"


class _NoBuilds:
    def app_ended(self, app_id: str) -> None: ...


class _NoProfiles:
    async def record(self, task_id: str, objects: object) -> None: ...
    def forget(self, task_id: str) -> None: ...


class _NoVolumes:
    def task_ended(self, task_id: str) -> None: ...


class SimServer:
    """From its start to its kill; `died` is set then."""

    def __init__(self, ground: Ground, random: Random, failing: Callable[[], bool], speed: float) -> None:
        self._random = random
        self.died = asyncio.Event()
        self.sockets: list[Socket] = []
        stores = make_stores(ServerDatabase(ground, random, lambda: not self.died.is_set(), failing, speed))
        bells, self.workers = Bells(), Workers()
        self.scheduler = Scheduler(stores, self.workers, self._prepare, bells)
        steps, profiles, builds = Steps(self.scheduler), cast(Profiles, _NoProfiles()), cast(Builds, _NoBuilds())
        self.workers.listener = WorkerEvents(
            stores,
            self.scheduler,
            bells,
            profiles,
            steps,
            _ignore,
            _nothing,
            _nothing,
            cast(VolumeMounts, _NoVolumes()),
            Execs(cast(Channels, None)),
        )
        self.apps = Apps(stores, self.scheduler, builds, bells)
        self.nouns: tuple[object, ...] = (
            self.apps,
            Deployments(stores, self.scheduler, Schedules(stores, self.scheduler)),
            Calls(stores, self.scheduler, bells),
            Cancellations(stores, self.scheduler, bells),
            Containers(stores, self.scheduler, bells),
        )
        self.stores = stores
        self.is_ready = False
        self._jobs: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises a JiffyError when what was cannot be restored: a real process ends then, and the next one tries."""
        await restore(self.scheduler, self.stores)
        self._jobs.append(asyncio.get_running_loop().create_task(self.apps.watch_forever()))
        self.is_ready = True

    def kill(self) -> None:
        self.died.set()
        if (timer := self.scheduler._timer) is not None:
            timer.cancel()
        for job in self._jobs:
            job.cancel()
        for socket in self.sockets:
            socket.break_off()

    def is_pausing(self, function_id: str) -> bool:
        """Whether a function's containers failed to start, so that the next one is launched later."""
        pool = self.scheduler._core.find_pool(function_id)
        return pool is not None and pool.not_before + 8 > asyncio.get_running_loop().time()

    def is_held(self, worker_id: str) -> bool:
        """Whether room there is held for somebody, for a while."""
        return bool(self.scheduler._core.placement._holds_on(worker_id))

    async def answer(self, name: str, request: Any, caller: Caller) -> Any:
        """An RPC, by its name in snake case."""
        handler = next(found for noun in self.nouns if (found := getattr(noun, name, None)) is not None)
        return await handler(request, caller)

    async def accept(self, socket: Socket) -> None:
        """A worker's connection."""
        self.sockets.append(socket)
        try:
            await self.workers.talk(socket)
        except (ConnectionError, JiffyError):
            pass
        finally:
            socket.break_off()

    async def _prepare(self, function: KnownFunction, task_id: str) -> LaunchContainer:
        await asyncio.sleep(self._random.expovariate(200))
        return LaunchContainer(task_id, ("layer",), (), environment={"function": function.function_id})


def _ignore(event: Event) -> None: ...


async def _nothing(subject: object) -> None: ...
