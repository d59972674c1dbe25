"""The containers of one function, as the scheduler sees them. Times are seconds of the scheduler's clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from jiffy.core.autoscaler import NO_DEMAND, Demand, Limits, Pace, Supply, containers_to_start
from jiffy.core.placement import Need, Wish

_ASKS_AGAIN: Final = 5.0
"""Seconds in which a container that is done asks for more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function's definition asks for. Times in seconds; limits of 0 mean none. `beats`: its containers give signs of
    life."""

    limits: Limits
    need: Need
    scaledown_window: float
    timeout: float
    startup_timeout: float
    memory_limit_bytes: int = 0
    cpu_limit_millis: int = 0
    beats: bool = True


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
    ended: bool = False
    idle_since: float | None = None
    beat_at: float = 0.0
    running: dict[str, float] = field(default_factory=dict)

    def hangs(self, now: float) -> bool:
        """For one that did not ask since it became idle."""
        return self.is_idle and self.idle_since is not None and now - self.idle_since > _ASKS_AGAIN

    @property
    def is_idle(self) -> bool:
        return self.ready and not self.stopping and not self.running


@dataclass(slots=True)
class Pool:
    """`refusal` says why containers that are wanted could not be launched yet. `counting`: the demand is being counted,
    `stale`: what was counted may have changed meanwhile. `closed`: its app has stopped. `running`: inputs that keep
    containers busy, also those that are not wanted any more; `quiet`: containers that are done and have not asked for
    more; `finishing`: those that end when what they run is done.
    `has_more_waiting`: no more than the pool's containers could take were counted, so what is left of that is no measure."""

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
    ready: int = 0
    starting: int = 0
    ending: int = 0
    running: int = 0
    has_more_waiting: bool = False
    quiet: dict[str, Container] = field(default_factory=dict)
    finishing: dict[str, Container] = field(default_factory=dict)
    peak_cpu_millis: int = 0
    peak_memory_bytes: int = 0

    def add(self, container: Container) -> None:
        self.containers[container.task_id] = container
        if container.ready:
            self.ready += 1
            self.quiet[container.task_id] = container
        else:
            self.starting += 1

    def remove(self, container: Container) -> None:
        self.note_stopping(container)
        self.ending -= 1
        self.running -= len(container.running)
        self.finishing.pop(container.task_id, None)
        del self.containers[container.task_id]

    def note_ready(self, container: Container) -> None:
        container.ready = True
        if not container.stopping:
            self.starting -= 1
            self.ready += 1

    def note_stopping(self, container: Container) -> None:
        if container.stopping:
            return
        container.stopping = True
        self.ending += 1
        self.quiet.pop(container.task_id, None)
        if container.ready:
            self.ready -= 1
        else:
            self.starting -= 1

    def note_finishing(self, container: Container) -> None:
        """It takes no more; what it runs needs nobody else."""
        self.note_stopping(container)
        self.finishing[container.task_id] = container

    def note_asking(self, container: Container) -> None:
        self.quiet.pop(container.task_id, None)

    def note_taken(self, container: Container, deadlines: dict[str, float]) -> None:
        """Between two countings of the demand, what is known is followed."""
        before = len(container.running)
        container.running.update(deadlines)
        taken = len(container.running) - before
        self.running += taken
        self.quiet.pop(container.task_id, None)
        waiting = max(0, self.demand.waiting - taken)
        self.demand = replace(self.demand, waiting=waiting, running=self.demand.running + taken)

    def note_done(self, container: Container, input_ids: Iterable[str]) -> None:
        done = sum(container.running.pop(input_id, None) is not None for input_id in input_ids)
        self.running -= done
        self.demand = replace(self.demand, running=max(0, self.demand.running - done))
        if container.is_idle:
            self.quiet[container.task_id] = container

    def supply(self, now: float) -> Supply:
        """One that has nothing to do and does not ask for more hangs. Until it is found out it does not count."""
        hanging = sum(container.hangs(now) for container in self.quiet.values())
        return Supply(ready=self.ready - hanging, starting=self.starting, ending=self.ending + hanging)

    @property
    def is_full(self) -> bool:
        """Whether more waits than its containers can take, and it may have no more of them."""
        limits = self.settings.limits
        return bool(self.demand.waiting) and self.ready + self.starting >= limits.maximum

    def short_since(self, now: float) -> float:
        """When a container was refused first that is still wanted; now if none was."""
        return now if self.refused_since is None else self.refused_since

    def lacking(self, now: float) -> int:
        """Containers to launch now."""
        if self.closed:
            return 0
        cared_for = sum(len(container.running) for container in self.finishing.values())
        demand = replace(self.demand, running=max(0, self.demand.running - cared_for))
        return containers_to_start(demand, self.supply(now), self.settings.limits, self.pace, now)

    def need(self) -> Need:
        """What a container will take, as far as past ones tell; never more memory than it may have."""
        asked = self.settings.need
        peak = min(self.peak_memory_bytes, self.settings.memory_limit_bytes or self.peak_memory_bytes)
        return replace(
            asked, memory_bytes=max(asked.memory_bytes, peak), cpu_expected=max(asked.cpu_millis, self.peak_cpu_millis)
        )

    def note_usage(self, cpu_millis: int, memory_bytes: int) -> None:
        self.peak_cpu_millis = _follow(self.peak_cpu_millis, cpu_millis)
        self.peak_memory_bytes = _follow(self.peak_memory_bytes, memory_bytes)

    def may_spare_one(self, now: float) -> bool:
        """Whether an idle container can end without going below what is kept."""
        kept = self.settings.limits.minimum
        if self.demand.waiting or self.running:
            kept += self.settings.limits.buffer
        return not self.demand.waiting and self.supply(now).total > kept


def _follow(peak: int, value: int) -> int:
    """Up at once, down slowly: a hundredth of the way with each report."""
    return max(value, peak - (peak - value) // 100)
