"""How many machines a fleet should have, and of which kind: those whose price is least among those on which all fits.

What is wanted and what is there come in, machines to start and to end come out. What to buy is a small integer program,
which fleet/buying.py solves: so many machines of each offer, each group of equal containers divided among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from jiffy.core.placement import Need, Room, fits_empty

HOUR: Final = 3600.0
NOTHING: Final = Need(0, 0)


@dataclass(frozen=True, slots=True)
class Offer:
    """A kind of machine that may be had. `price` is of an hour. `labels` are those of a worker on it."""

    name: str
    cpu_millis: int
    memory_bytes: int
    price: float
    gpus: int = 0
    gpu_type: str = ""
    labels: frozenset[str] = frozenset()

    def suits(self, wanted: Wanted) -> bool:
        """Whether one of them fits on an empty machine."""
        room = Room(self.name, self.cpu_millis, self.memory_bytes, gpus=self.gpus, gpu_type=self.gpu_type)
        has_labels = all(not labels.isdisjoint(self.labels) for labels in wanted.labels)
        return has_labels and fits_empty(room, wanted.need)


Amounts = tuple[int, ...]
"""Of each resource that a machine has: CPU in thousandths, bytes of memory, GPUs."""


def amounts(of: Need | Offer) -> Amounts:
    """What a container takes, or a machine has."""
    return of.cpu_millis, of.memory_bytes, of.gpus


def how_many(room: Amounts, need: Need, most: int) -> int:
    """How many with this need fit, `most` at most."""
    return min([most, *(have // takes for have, takes in zip(room, amounts(need), strict=True) if takes)])


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many containers with the same need, for which no worker has room. Of each set of labels a machine must have one."""

    need: Need
    count: int
    labels: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """One that was started. `joined`: its worker is there. `idle_since` is a time of the clock that the situation's `now` is
    of; None while it has containers or is on its way up."""

    machine_id: str
    offer: Offer
    started_at: float
    joined: bool = False
    idle_since: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Machines at least and at most. `hourly` and `daily` cap what may be spent, in the unit of the offers' prices; 0 for no
    cap. `spare` is room to keep free for the next starts. A machine ends when it was idle for `idle_seconds`, or has not
    joined `join_seconds` after its start."""

    minimum: int = 0
    maximum: int = 10
    hourly: float = 0.0
    daily: float = 0.0
    spare: Need = NOTHING
    idle_seconds: float = 300.0
    join_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known now. `free` is the room that workers have left; `spent` is what machines have cost today."""

    now: float
    wanted: Sequence[Wanted]
    machines: Sequence[Machine]
    free: Need = NOTHING
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Machines to start, by offer, and to end: id -> why. `held_back` says what keeps others from being started."""

    start: dict[str, int]
    end: dict[str, str]
    held_back: str = ""


Buy = Callable[[Sequence[Offer], Sequence[Wanted]], dict[str, int]]
"""Gives how many of each offer take all that is wanted, for the least. Each of what is wanted suits one."""


def plan(situation: Situation, offers: Sequence[Offer], bounds: Bounds, buy: Buy) -> Plan:
    """What to do now, with the offers that can be had. Machines on their way up are counted on before another is started."""
    end = _overdue(situation, bounds)
    staying = [machine for machine in situation.machines if machine.machine_id not in end]
    wanted = _without_coming(_with_spare(situation, bounds), staying)
    possible = [each for each in wanted if any(offer.suits(each) for offer in offers)]
    start = dict(buy(offers, possible)) if possible else {}
    _keep_minimum(start, offers, len(staying), bounds)
    held_back = _cap(start, offers, staying, situation.spent, bounds)
    if not wanted and not start:
        end |= _superfluous(situation, staying, bounds)
    if not held_back and len(possible) < len(wanted):
        held_back = "no offer has room for all that is wanted"
    return Plan(start, end, held_back)


def cost(bills: Sequence[tuple[float, float, float]], since: float, until: float) -> float:
    """What machines (price of an hour, started, ended) cost between two times."""
    return sum(price * max(0.0, min(ended, until) - max(started, since)) / HOUR for price, started, ended in bills)


def _overdue(situation: Situation, bounds: Bounds) -> dict[str, str]:
    late = situation.now - bounds.join_seconds
    return {
        machine.machine_id: f"it did not join within {bounds.join_seconds:g} s"
        for machine in situation.machines
        if not machine.joined and machine.started_at < late
    }


def _with_spare(situation: Situation, bounds: Bounds) -> list[Wanted]:
    """The spare room is a container like others, as far as it is not free."""
    left = _less(amounts(bounds.spare), amounts(situation.free))
    cpu, memory, gpus = (max(0, each) for each in left)
    missing = Need(cpu, memory, gpus=gpus, gpu_types=bounds.spare.gpu_types)
    return [*situation.wanted, Wanted(missing, 1)] if any(amounts(missing)) else list(situation.wanted)


def _without_coming(wanted: list[Wanted], machines: Sequence[Machine]) -> list[Wanted]:
    """What those on their way up will take is not wanted any more: the largest first, on the first that has room."""
    rooms = [_Room(machine.offer) for machine in machines if not machine.joined]
    left = []
    for each in sorted(wanted, key=lambda each: (each.need.memory_bytes, each.need.cpu_millis), reverse=True):
        count = each.count
        for room in rooms:
            count -= room.take(each, count)
        if count:
            left.append(Wanted(each.need, count, each.labels))
    return left


class _Room:
    """What is free of a machine."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._free = amounts(offer)

    def take(self, wanted: Wanted, most: int) -> int:
        """How many of them find room."""
        if not self._offer.suits(wanted):
            return 0
        taken = how_many(self._free, wanted.need, most)
        self._free = _less(self._free, tuple(taken * takes for takes in amounts(wanted.need)))
        return taken


def _less(one: Amounts, other: Amounts) -> Amounts:
    return tuple(have - takes for have, takes in zip(one, other, strict=True))


def _keep_minimum(start: dict[str, int], offers: Sequence[Offer], staying: int, bounds: Bounds) -> None:
    missing = bounds.minimum - staying - sum(start.values())
    if missing > 0 and offers:
        cheapest = min(offers, key=lambda offer: (offer.price, offer.name))
        start[cheapest.name] = start.get(cheapest.name, 0) + missing


def _cap(
    start: dict[str, int], offers: Sequence[Offer], staying: Sequence[Machine], spent: float, bounds: Bounds
) -> str:
    """Drop the dearest until the rest is within the bounds; gives the one that was met. Today's cap leaves room for an hour
    of all that would run."""
    prices = {offer.name: offer.price for offer in offers}
    running = sum(machine.offer.price for machine in staying)
    held_back = ""
    while start:
        rate = running + sum(prices[name] * count for name, count in start.items())
        if len(staying) + sum(start.values()) > bounds.maximum:
            held_back = f"there may be {bounds.maximum} machines"
        elif bounds.hourly and rate > bounds.hourly:
            held_back = f"{bounds.hourly:g} an hour may be spent"
        elif bounds.daily and spent + rate > bounds.daily:
            held_back = f"{bounds.daily:g} a day may be spent, and {spent:.2f} is"
        else:
            break
        dearest = max(start, key=lambda name: (prices[name], name))
        start[dearest] -= 1
        if not start[dearest]:
            del start[dearest]
    return held_back


def _superfluous(situation: Situation, staying: Sequence[Machine], bounds: Bounds) -> dict[str, str]:
    """Those that have been idle for long, the dearest first, as far as the minimum and the spare room allow."""
    free = _less(amounts(situation.free), amounts(bounds.spare))
    end: dict[str, str] = {}
    for machine in sorted(staying, key=lambda machine: (-machine.offer.price, machine.started_at, machine.machine_id)):
        if machine.idle_since is None or situation.now - machine.idle_since < bounds.idle_seconds:
            continue
        if len(staying) - len(end) <= bounds.minimum:
            break
        left = _less(free, amounts(machine.offer))
        if bounds.spare != NOTHING and min(left) < 0:
            continue
        free = left
        end[machine.machine_id] = f"it was idle for {bounds.idle_seconds:g} s"
    return end
