"""Many containers launched at once on a host, and what they tell. One runs when the first byte that its process prints is
there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from bench.hosts import PATH
from jiffy.core.actions import LaunchContainer, StopContainer
from jiffy.core.events import ContainerExited, ContainerStarted, Event, LogWritten
from jiffy.errors import JiffyError
from jiffy.worker.container import Container
from jiffy.worker.host import Host

PROGRAM: Final = ("sh", "-c", "echo ready; exec sleep 600")
SECONDS: Final = 120.0


class Launches:
    """What containers that were launched at once tell."""

    def __init__(self) -> None:
        self.host: Host | None = None
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._phases: list[dict[str, float]] = []

    def hear(self, event: Event) -> None:
        waiting = self._waiting.get(getattr(event, "task_id", ""))
        match event:
            case LogWritten() if waiting is not None and not waiting.done():
                waiting.set_result(None)
            case ContainerStarted():
                self._phases.append(event.phases)
            case ContainerExited() if waiting is not None and not waiting.done():
                waiting.set_exception(JiffyError(f"{event.task_id} ended", why=f"{event.reason} {event.detail}"))

    async def measure(self, layer: str, count: int, told: Callable[[], None] | None = None) -> float:
        """Milliseconds until all run; `told` is called then."""
        assert self.host is not None
        stamp, loop = time.monotonic_ns(), asyncio.get_running_loop()
        orders = [
            LaunchContainer(
                task_id=f"bench-{stamp}-{number}", layers=(layer,), argv=PROGRAM, environment={"PATH": PATH}
            )
            for number in range(count)
        ]
        self._waiting = {order.task_id: loop.create_future() for order in orders}
        containers = [Container(order, self.host) for order in orders]
        started = time.perf_counter()
        runs = [asyncio.ensure_future(container.run()) for container in containers]
        try:
            await asyncio.wait_for(asyncio.gather(*self._waiting.values()), SECONDS)
            seconds = time.perf_counter() - started
            if told is not None:
                told()
            return seconds * 1000
        finally:
            for container in containers:
                container.stop(StopContainer(container.task_id, "measured", 0.0))
            await asyncio.gather(*runs)

    def phases(self) -> dict[str, list[float]]:
        """Milliseconds that each container's phases took."""
        names = self._phases[0] if self._phases else {}
        return {name: [phases[name] * 1000 for phases in self._phases] for name in names}
