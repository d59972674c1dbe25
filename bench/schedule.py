"""The scheduler by itself: how many containers it places a second over many simulated workers, how soon an input becomes the
order to launch, how both grow, and how well it fills hosts."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from bench.figures import Figure, Report
from jiffy.core import facts, orders
from jiffy.core.aftermath import Ended
from jiffy.core.autoscaler import Limits
from jiffy.core.events import ExitReason
from jiffy.core.facts import Fact
from jiffy.core.placement import Need, Placement, Refusal, Room, Wish
from jiffy.core.pools import Settings
from jiffy.core.scheduler import Scheduler
from jiffy.datadir import DataDirectory

WORKERS: Final = 1000
FUNCTIONS: Final = 200
_PLACEMENTS: Final = 5000
_SIZES: Final = (1, 10, 100, 1000)
_GIBIBYTE: Final = 2**30
_REACH_A_SECOND: Final = 5000.0
_REACH_MILLISECONDS: Final = 10.0

Choose = Callable[[Need, Sequence[Room], dict[str, list[Need]]], str | None]


def run(data: DataDirectory, samples: int) -> Report:
    """Needs nothing but a processor."""
    placements = _PLACEMENTS if samples > 1 else 200
    rates, reactions = [], []
    for _ in range(samples):
        rate, reaction = _measure(WORKERS, FUNCTIONS, placements)
        rates.append(rate)
        reactions.append(reaction)
    figures = [
        Figure("placements a second, 1,000 workers", "1/s", rates, "the reach", [_REACH_A_SECOND] * samples, 1.0),
        Figure("input to order, 99 of 100", "ms", reactions, "the reach", [_REACH_MILLISECONDS] * samples, 1.0),
    ]
    for size in _SIZES:
        figures.append(_growth("workers", size, _repeat(size, FUNCTIONS, placements, samples)))
        figures.append(_growth("functions", size, _repeat(WORKERS, size, placements, samples)))
    figures += _compare_filling(samples)
    return Report(figures)


def _repeat(workers: int, functions: int, placements: int, samples: int) -> list[float]:
    return [1e6 / _measure(workers, functions, placements)[0] for _ in range(samples)]


def _growth(what: str, size: int, micros: list[float]) -> Figure:
    reach = [1e6 / _REACH_A_SECOND] * len(micros)
    return Figure(f"a placement, {size} {what}", "us", micros, "the reach", reach, 0.0, f"by {what}", size, what)


def _measure(workers: int, functions: int, placements: int) -> tuple[float, float]:
    """Placements a second, and the 99th percentile of milliseconds from an input to its order. Containers end as others
    come, so that half of the room is taken all the time."""
    rng = random.Random(1)
    numbers = count()
    scheduler = Scheduler(lambda: f"ta-{next(numbers)}")
    for number in range(workers):
        room = Room(f"wo-{number}", 16_000, 64 * _GIBIBYTE, layers=frozenset({f"layer-{number % 50}"}))
        scheduler.handle(facts.WorkerJoined(room, ()), 0.0)
    for number in range(functions):
        need = Need(rng.choice((125, 500, 1000)), rng.choice((128, 512, 2048)) * 2**20)
        settings = Settings(Limits(0, 10_000, 1), need, 60.0, 300.0, 60.0)
        layers = (f"layer-{number % 50}",)
        scheduler.handle(facts.FunctionDefined(f"fu-{number}", f"ap-{number % 40}", settings, layers), 0.0)
    live: list[str] = []
    running: Counter[str] = Counter()
    reactions = []
    placed = 0
    began = time.perf_counter()
    for number in range(placements):
        function_id, now = f"fu-{rng.randrange(functions)}", number * 1e-4
        asked = time.perf_counter()
        launched = _tell(scheduler, facts.InputsArrived(function_id, 1), running, now, waiting=1)
        reactions.append(1e3 * (time.perf_counter() - asked))
        for task_id in launched:
            running[function_id] += 1
            _tell(scheduler, facts.InputsTaken(task_id, {f"in-{number}": now + 300}), running, now)
            _tell(scheduler, facts.ContainerAsked(task_id), running, now)
        live += launched
        placed += len(launched)
        if len(live) > workers * 8:
            _end(scheduler, live.pop(0), running, now)
    return placed / (time.perf_counter() - began), statistics.quantiles(reactions, n=100)[98]


def _tell(scheduler: Scheduler, fact: Fact, running: Counter[str], now: float, waiting: int = 0) -> list[str]:
    """With each count of demand answered at once; gives the containers that are launched."""
    launched = []
    decided = scheduler.handle(fact, now)
    for order in decided:
        match order:
            case orders.CountDemand():
                counted = facts.DemandCounted(order.function_id, waiting, running[order.function_id])
                decided += scheduler.handle(counted, now)
            case orders.Launch():
                launched.append(order.task_id)
    return launched


def _end(scheduler: Scheduler, task_id: str, running: Counter[str], now: float) -> None:
    container = scheduler.find_container(task_id)
    assert container is not None
    running[container.function_id] -= 1
    _tell(scheduler, facts.ContainerEnded(task_id, Ended(ExitReason.STOPPED, 0, "", 0)), running, now)
    _tell(scheduler, facts.ContainerSettled(task_id), running, now)


def _compare_filling(samples: int) -> list[Figure]:
    """Of a mixed load that would just fit on 50 hosts, the share that finds a place."""
    ours, first, chance = [], [], []
    for seed in range(samples):
        ours.append(_fill(seed, _placed()))
        first.append(_fill(seed, _first_fit))
        chance.append(_fill(seed, _random_fit(random.Random(seed))))
    name = "of a load as large as all hosts, placed"
    return [Figure(name, "%", ours, "first fit", first), Figure(name, "%", ours, "at random", chance)]


def _load(seed: int) -> tuple[list[Room], list[Need]]:
    """Many small containers, some large, a few that want half a host."""
    rng = random.Random(seed)
    rooms = [Room(f"wo-{number}", 16_000, 64 * _GIBIBYTE) for number in range(50)]
    sizes = (0.125, 0.5, 1, 2, 4, 8, 16, 32)
    weights = (30, 25, 15, 10, 8, 6, 4, 2)
    total, needs = 0.0, []
    while total < 50 * 64:
        size = rng.choices(sizes, weights)[0]
        total += size
        needs.append(Need(int(size * 16_000 / 64 * rng.uniform(0.5, 1.0)), int(size * _GIBIBYTE)))
    return rooms, needs


def _fill(seed: int, choose: Choose) -> float:
    rooms, needs = _load(seed)
    taken: dict[str, list[Need]] = {room.worker_id: [] for room in rooms}
    for need in needs:
        if (worker_id := choose(need, rooms, taken)) is not None:
            taken[worker_id].append(need)
    return 100 * sum(need.memory_bytes for held in taken.values() for need in held) / (50 * 64 * _GIBIBYTE)


def _fits(need: Need, room: Room, held: list[Need]) -> bool:
    return (
        sum(other.cpu_millis for other in held) + need.cpu_millis <= room.cpu_millis
        and sum(other.memory_bytes for other in held) + need.memory_bytes <= room.memory_bytes
    )


def _placed() -> Choose:
    """As the scheduler does."""
    placement = Placement()
    numbers = count()

    def choose(need: Need, rooms: Sequence[Room], taken: dict[str, list[Need]]) -> str | None:
        number = next(numbers)
        if number == 0:
            for room in rooms:
                placement.put(room)
        group = f"fu-{number % 30}"
        placed = placement.place(need, Wish(group))
        if isinstance(placed, Refusal):
            return None
        placement.reserve(placed, f"ta-{number}", need, group)
        return placed

    return choose


def _first_fit(need: Need, rooms: Sequence[Room], taken: dict[str, list[Need]]) -> str | None:
    return next((room.worker_id for room in rooms if _fits(need, room, taken[room.worker_id])), None)


def _random_fit(rng: random.Random) -> Choose:
    def choose(need: Need, rooms: Sequence[Room], taken: dict[str, list[Need]]) -> str | None:
        fitting = [room.worker_id for room in rooms if _fits(need, room, taken[room.worker_id])]
        return rng.choice(fitting) if fitting else None

    return choose
