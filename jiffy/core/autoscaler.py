"""How many containers a function should have.

An input counts for the part of a start's time that it keeps a slot busy: a queue that the containers of now empty before
another could be ready needs no other. Until it is known how long inputs run, each counts in full; and so it does when one
has waited for much longer than a start takes, whatever was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

STARTING_AT_ONCE: Final = 4
"""Containers of one function that may be on their way up together while it is not known how long its inputs run: a short
burst is over before more could help. As many more as are ready, and twice as many for each start's time that the oldest
input has waited."""

_MOST_DOUBLINGS: Final = 10
_STARTS_TO_WAIT: Final = 4
_LONGEST_WAIT: Final = 5.0
_SECONDS_TO_START: Final = 0.5
_SMOOTHING: Final = 0.2
_RATE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`slots`: inputs that one container runs at the same time. `buffer`: spare containers while there is work."""

    minimum: int
    maximum: int
    slots: int
    buffer: int = 0


@dataclass(frozen=True, slots=True)
class Supply:
    """Containers that take inputs, containers that will, and containers that are on their way out."""

    ready: int
    starting: int
    ending: int = 0

    @property
    def total(self) -> int:
        return self.ready + self.starting


@dataclass(frozen=True, slots=True)
class Demand:
    """Inputs without a container, inputs that run, and for how many seconds the oldest has waited."""

    waiting: int
    running: int = 0
    oldest_seconds: float = 0.0


NO_DEMAND: Final = Demand(0)


@dataclass(slots=True)
class Pace:
    """What was measured of a function: seconds that a start takes, seconds that an input runs, inputs a second that
    arrive. None while nothing is known."""

    start_seconds: float | None = None
    input_seconds: float | None = None
    _rate: float = 0.0
    _counted: int = 0
    _counted_since: float | None = None

    def note_start(self, seconds: float) -> None:
        self.start_seconds = _smooth(self.start_seconds, seconds)

    def note_inputs(self, seconds: float, count: int) -> None:
        """So many finished, which ran for so long on average."""
        for _ in range(min(count, 8)):
            self.input_seconds = _smooth(self.input_seconds, seconds)

    def note_arrivals(self, count: int, now: float) -> None:
        self._fold(now)
        self._counted += count

    def arrivals_per_second(self, now: float) -> float:
        self._fold(now)
        return self._rate

    def _fold(self, now: float) -> None:
        """What was counted becomes part of the rate, which what came before leaves slowly."""
        if self._counted_since is None:
            self._counted_since = now
        elapsed = now - self._counted_since
        if elapsed >= 1.0:
            share = 1 - math.exp(-elapsed / _RATE_SECONDS)
            self._rate += share * (self._counted / elapsed - self._rate)
            self._counted, self._counted_since = 0, now


def containers_wanted(demand: Demand, limits: Limits, pace: Pace, now: float) -> int:
    """Within the limits: for what runs, for what waits, and for what arrives meanwhile."""
    inputs = demand.running + demand.waiting
    busy = inputs * _weight(demand, pace)
    if pace.input_seconds is not None:
        busy = max(busy, min(inputs, pace.arrivals_per_second(now) * pace.input_seconds))
    needed = math.ceil(busy / limits.slots)
    if inputs:
        needed = max(1, needed) + limits.buffer
    return max(limits.minimum, min(limits.maximum, needed))


def containers_to_start(demand: Demand, supply: Supply, limits: Limits, pace: Pace, now: float) -> int:
    """How many to launch now. More follow when these are ready and inputs still wait. Those on their way out count for the
    maximum too."""
    missing = containers_wanted(demand, limits, pace, now) - supply.total
    allowed = limits.maximum - supply.total - supply.ending
    at_once = max(limits.minimum - supply.total, _burst(demand, supply, pace) - supply.starting)
    return max(0, min(missing, allowed, at_once))


def _weight(demand: Demand, pace: Pace) -> float:
    start = pace.start_seconds or _SECONDS_TO_START
    if pace.input_seconds is None or demand.oldest_seconds > min(_STARTS_TO_WAIT * start, _LONGEST_WAIT):
        return 1.0
    return min(1.0, pace.input_seconds / start)


def _burst(demand: Demand, supply: Supply, pace: Pace) -> int:
    start = pace.start_seconds or _SECONDS_TO_START
    if pace.input_seconds is not None and pace.input_seconds >= start:
        return demand.waiting + demand.running
    doublings = min(_MOST_DOUBLINGS, int(demand.oldest_seconds / start))
    return (STARTING_AT_ONCE + supply.ready) << doublings


def _smooth(known: float | None, value: float) -> float:
    return value if known is None else known + _SMOOTHING * (value - known)
