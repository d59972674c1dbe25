"""What the server knows of the containers that live now: one pool per function."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from modal_proto import api_pb2

from jiffy.core.autoscaler import Limits, Supply
from jiffy.core.placement import Need

DEFAULT_TIMEOUT: Final = 300.0
DEFAULT_SCALEDOWN_WINDOW: Final = 60.0
DEFAULT_MAXIMUM: Final = 100
DEFAULT_CPU_MILLIS: Final = 125
DEFAULT_MEMORY_BYTES: Final = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function's definition asks for. Times in seconds; limits of 0 mean none."""

    limits: Limits
    need: Need
    memory_limit_bytes: int
    cpu_limit_millis: int
    scaledown_window: float
    timeout: float
    startup_timeout: float


def read_settings(definition: Any) -> Settings:
    """From a Function message. Newer clients send autoscaler_settings, older ones the fields that preceded it."""
    scaler = definition.autoscaler_settings
    resources = definition.resources
    timeout = float(definition.timeout_secs or DEFAULT_TIMEOUT)
    return Settings(
        limits=Limits(
            minimum=scaler.min_containers or definition.warm_pool_size,
            maximum=scaler.max_containers or definition.concurrency_limit or DEFAULT_MAXIMUM,
            slots=definition.max_concurrent_inputs or 1,
        ),
        need=Need(
            cpu_millis=resources.milli_cpu or DEFAULT_CPU_MILLIS,
            memory_bytes=resources.memory_mb * 2**20 or DEFAULT_MEMORY_BYTES,
        ),
        memory_limit_bytes=resources.memory_mb_max * 2**20,
        cpu_limit_millis=resources.milli_cpu_max,
        scaledown_window=float(
            scaler.scaledown_window or definition.task_idle_timeout_secs or DEFAULT_SCALEDOWN_WINDOW
        ),
        timeout=timeout,
        startup_timeout=float(definition.startup_timeout_secs or timeout),
    )


@dataclass(slots=True)
class LiveTask:
    """A container from the order to launch it until its end. `running`: input id -> its timeout."""

    task_id: str
    function_id: str
    app_id: str
    worker_id: str
    restored: bool = False
    """An earlier server launched it, and may have died before the order was sent."""
    ready: bool = False
    stopping: bool = False
    waiting: int = 0
    failed_to_start: bool = False
    gave_output: bool = False
    running: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    cancelled_inputs: list[str] = field(default_factory=list)
    startup_timer: asyncio.TimerHandle | None = None
    heartbeat_at: float = field(default_factory=time.monotonic)

    def forget_input(self, input_id: str) -> None:
        if (timer := self.running.pop(input_id, None)) is not None:
            timer.cancel()

    def cancel_timers(self) -> None:
        for input_id in list(self.running):
            self.forget_input(input_id)
        if self.startup_timer is not None:
            self.startup_timer.cancel()


@dataclass(slots=True)
class Pool:
    """The containers of one function, and the line of those that wait for an input."""

    function_id: str
    app_id: str
    definition: api_pb2.Function
    settings: Settings
    tasks: dict[str, LiveTask] = field(default_factory=dict)
    line: deque[asyncio.Future[None]] = field(default_factory=deque)
    failed_starts: int = 0
    not_before: float = 0.0
    refusal: str = ""
    adjusting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def supply(self) -> Supply:
        live = [task for task in self.tasks.values() if not task.stopping]
        ready = sum(task.ready for task in live)
        return Supply(ready=ready, starting=len(live) - ready)

    def line_up(self) -> asyncio.Future[None]:
        """A place in the line. Look for an input after taking it, so that none arrives unseen."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.line.append(place)
        return place

    def leave(self, place: asyncio.Future[None]) -> None:
        """Give up a place; a call that came for it goes to the next in line."""
        if place in self.line:
            self.line.remove(place)
        elif place.done() and not place.cancelled():
            self.call(1)

    def call(self, count: int) -> None:
        """Wake the first `count` in line."""
        while count > 0 and self.line:
            place = self.line.popleft()
            if not place.done():
                place.set_result(None)
                count -= 1

    def call_all(self) -> None:
        self.call(len(self.line))

    def may_retire(self, task: LiveTask) -> bool:
        """True when an idle container may end without going below the minimum."""
        supply = self.supply()
        return not task.running and supply.ready + supply.starting > self.settings.limits.minimum
