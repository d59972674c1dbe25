"""Steps of builds: containers that belong to no function, of which what they changed is kept.

Nothing of them is durable. When the server dies its builds are broken off, and the workers are told to stop what it left;
whoever still wants an image has its build begun anew, and finds the steps that were done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from jiffy.core.actions import LaunchContainer, StopContainer
from jiffy.core.events import ChangeCaptured, ContainerExited, Event, ExitReason, LogWritten
from jiffy.core.placement import Need, Refusal
from jiffy.core.sizing import Wanted
from jiffy.errors import UnavailableError, UnsupportedError
from jiffy.identifiers import task_id as fresh_task_id
from jiffy.server.workforce import Workforce

STEP_NEED: Final = Need(cpu_millis=500, memory_bytes=512 * 2**20)
_ROOM_SECONDS: Final = 0.25
_MOST_LOSSES: Final = 3

Hear = Callable[[str], None]
"""Takes text as a container writes it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended. `change` is the digest of what it changed, empty when it failed."""

    reason: ExitReason
    exit_code: int
    detail: str
    change: str


@dataclass(slots=True)
class _Running:
    worker_id: str
    hear: Hear
    ended: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    change: str = ""


class Steps:
    def __init__(self, workforce: Workforce) -> None:
        self._workforce = workforce
        self._running: dict[str, _Running] = {}
        self._waiting = 0

    async def run(self, order: LaunchContainer, hear: Hear, inform: Hear) -> Outcome:
        """Run a container once there is room for it; `inform` is told why it waits. One whose worker is lost runs again on
        another. Cancelled, the container is killed."""
        losses = 0
        while True:
            outcome = await self._run_once(replace(order, task_id=fresh_task_id()), hear, inform)
            losses += outcome.reason is ExitReason.LOST
            if outcome.reason is not ExitReason.LOST or losses >= _MOST_LOSSES:
                return outcome
            inform("the worker that ran this step is gone; it runs again on another")

    def wanted(self) -> list[Wanted]:
        """Those for which no worker has room."""
        return [Wanted(STEP_NEED, self._waiting)] if self._waiting else []

    def knows(self, task_id: str) -> bool:
        return task_id in self._running

    def heard(self, event: Event) -> None:
        """A worker tells something of a container, which may be one of these."""
        running = self._running.get(getattr(event, "task_id", ""))
        if running is None or running.ended.done():
            return
        match event:
            case LogWritten():
                running.hear(event.text)
            case ChangeCaptured():
                running.change = event.change
            case ContainerExited():
                running.ended.set_result(Outcome(event.reason, event.exit_code, event.detail, running.change))

    def worker_lost(self, worker_id: str) -> None:
        for running in self._running.values():
            if running.worker_id == worker_id and not running.ended.done():
                running.ended.set_result(Outcome(ExitReason.LOST, 0, "its worker is gone", ""))

    async def _run_once(self, order: LaunchContainer, hear: Hear, inform: Hear) -> Outcome:
        worker_id = await self._find_room(inform)
        running = self._running[order.task_id] = _Running(worker_id, hear)
        self._workforce.reserve(worker_id, order.task_id, STEP_NEED)
        try:
            self._workforce.send(worker_id, order)
            return await running.ended
        except asyncio.CancelledError:
            self._workforce.send(worker_id, StopContainer(order.task_id, "its build was stopped", 0))
            raise
        finally:
            del self._running[order.task_id]
            self._workforce.free(worker_id, order.task_id)

    async def _find_room(self, inform: Hear) -> str:
        told = ""
        self._waiting += 1
        try:
            while isinstance(placed := self._workforce.place(STEP_NEED), Refusal):
                if placed.forever:
                    raise UnsupportedError("no worker can run steps of builds", why=placed.reason)
                if placed.reason != told:
                    told = placed.reason
                    inform(f"waiting: {told}")
                await asyncio.sleep(_ROOM_SECONDS)
            return placed
        finally:
            self._waiting -= 1


def check_outcome(outcome: Outcome) -> None:
    """Raise for an end that is not the step's own doing."""
    if outcome.reason in (ExitReason.LOST, ExitReason.LAUNCH_FAILED, ExitReason.STOPPED):
        raise UnavailableError("a step of the build could not be run", why=outcome.detail or str(outcome.reason))
