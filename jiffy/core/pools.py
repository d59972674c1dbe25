"""The containers of one function, as the scheduler sees them. Times are seconds of the scheduler's clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from jiffy.core.autoscaler import NO_DEMAND, Demand, Limits, Pace, Supply, containers_to_start
from jiffy.core.placement import Need, Wish

_ASKS_AGAIN: Final = 5.0
"""Seconds in which a container that is done asks for more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function's definition asks for. Times in seconds; limits of 0 mean none."""

    limits: Limits
    need: Need
    scaledown_window: float
    timeout: float
    startup_timeout: float
    memory_limit_bytes: int = 0
    cpu_limit_millis: int = 0


@dataclass(slots=True)
class Container:
    """A container from the order to launch it until its end is recorded. `running`: input id -> when its time is up, in the
    order in which they were taken. `restored`: an earlier server launched it, and may have died before it sent the order.
    `ended`: it is gone, which is being recorded."""

    task_id: str
    function_id: str
    app_id: str
    worker_id: str
    launched_at: float
    restored: bool = False
    started: bool = False
    ready: bool = False
    stopping: bool = False
    broke_down: bool = False
    asks: bool = False
    ended: bool = False
    idle_since: float | None = None
    beat_at: float = 0.0
    running: dict[str, float] = field(default_factory=dict)

    def hangs(self, now: float) -> bool:
        return self.is_idle and not self.asks and self.idle_since is not None and now - self.idle_since > _ASKS_AGAIN

    @property
    def is_idle(self) -> bool:
        return self.ready and not self.stopping and not self.running


@dataclass(slots=True)
class Pool:
    """`refusal` says why containers that are wanted could not be launched yet. `counting`: the demand is being counted,
    `stale`: what was counted may have changed meanwhile. `closed`: its app has stopped."""

    function_id: str
    app_id: str
    settings: Settings
    wish: Wish
    containers: dict[str, Container] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    demand: Demand = NO_DEMAND
    refusal: str = ""
    refused_since: float | None = None
    failed_starts: int = 0
    not_before: float = 0.0
    counting: bool = False
    stale: bool = False
    closed: bool = False
    peak_cpu_millis: int = 0
    peak_memory_bytes: int = 0

    def supply(self, now: float) -> Supply:
        """One that has nothing to do and does not ask for more hangs. Until it is found out it does not count."""
        live = [
            container for container in self.containers.values() if not container.stopping and not container.hangs(now)
        ]
        ready = sum(container.ready for container in live)
        return Supply(ready=ready, starting=len(live) - ready, ending=len(self.containers) - len(live))

    def running(self) -> int:
        """Inputs that keep containers busy, also those that are not wanted any more."""
        return sum(len(container.running) for container in self.containers.values())

    def lacking(self, now: float) -> int:
        """Containers to launch now."""
        if self.closed:
            return 0
        return containers_to_start(self.demand, self.supply(now), self.settings.limits, self.pace, now)

    def need(self) -> Need:
        """What a container will take, as far as past ones tell; never more memory than it may have."""
        asked = self.settings.need
        peak = min(self.peak_memory_bytes, self.settings.memory_limit_bytes or self.peak_memory_bytes)
        return replace(
            asked, memory_bytes=max(asked.memory_bytes, peak), cpu_expected=max(asked.cpu_millis, self.peak_cpu_millis)
        )

    def note_taken(self, count: int) -> None:
        """Between two countings, what is known is followed."""
        self.demand = replace(
            self.demand, waiting=max(0, self.demand.waiting - count), running=self.demand.running + count
        )

    def note_done(self, count: int) -> None:
        self.demand = replace(self.demand, running=max(0, self.demand.running - count))

    def note_usage(self, cpu_millis: int, memory_bytes: int) -> None:
        self.peak_cpu_millis = _follow(self.peak_cpu_millis, cpu_millis)
        self.peak_memory_bytes = _follow(self.peak_memory_bytes, memory_bytes)

    def may_spare_one(self, now: float) -> bool:
        """Whether an idle container can end without going below what is kept."""
        kept = self.settings.limits.minimum
        if self.demand.waiting or any(container.running for container in self.containers.values()):
            kept += self.settings.limits.buffer
        return not self.demand.waiting and self.supply(now).total > kept


def _follow(peak: int, value: int) -> int:
    """Up at once, down slowly: a hundredth of the way with each report."""
    return max(value, peak - (peak - value) // 100)
