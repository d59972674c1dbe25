"""Which worker runs a container: those that it fits, and of those the one that is best filled by it.

Memory fits by what was asked for or what past runs used, whichever is more; CPU by what was asked for, since what is used
beyond is shared, but fullness is by use. Among the fullest that fit, hosts that hold the container's layers are preferred,
and hosts that run few containers of the same function.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

CANDIDATES: Final = 16
"""Workers that are compared; the fullest of those that fit are looked at first."""

_LAYERS_WEIGHT: Final = 0.5
_SPREAD_WEIGHT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Need:
    """What a container takes of a worker. `gpu_types`: those that will do, the most wanted first; none for any.
    `cpu_expected`: thousandths of a CPU that it is likely to use."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int = 0
    gpus: int = 0
    gpu_types: tuple[str, ...] = ()
    cpu_expected: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker has in all. `labels` are its owner's; `layers` are digests of those that it holds.
    One that is `leaving` takes no more."""

    worker_id: str
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int = 0
    gpus: int = 0
    gpu_type: str = ""
    labels: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What is preferred: hosts that hold these layers, apart from others of the same group (a function's id). `labels` are
    sets like {region=a, region=b}: of each a worker must have one, if any worker has such a label at all."""

    group: str = ""
    layers: tuple[str, ...] = ()
    labels: tuple[frozenset[str], ...] = ()


NO_WISH: Final = Wish()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no worker takes it. `forever`: not even an empty worker could."""

    reason: str
    forever: bool


@dataclass(slots=True)
class _Site:
    """A worker with what is reserved of it."""

    room: Room
    cpu_millis: int = 0
    cpu_expected: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: int = 0
    groups: Counter[str] = field(default_factory=Counter)

    @property
    def memory_free(self) -> int:
        return self.room.memory_bytes - self.memory_bytes

    def take(self, need: Need, group: str, sign: int) -> None:
        self.cpu_millis += sign * need.cpu_millis
        self.cpu_expected += sign * max(need.cpu_millis, need.cpu_expected)
        self.memory_bytes += sign * need.memory_bytes
        self.disk_bytes += sign * need.disk_bytes
        self.gpus += sign * need.gpus
        self.groups[group] += sign
        if not self.groups[group]:
            del self.groups[group]

    def fits(self, need: Need) -> bool:
        room = self.room
        return (
            self.cpu_millis + need.cpu_millis <= room.cpu_millis
            and self.memory_bytes + need.memory_bytes <= room.memory_bytes
            and (not need.disk_bytes or self.disk_bytes + need.disk_bytes <= room.disk_bytes)
            and (not need.gpus or (self.gpus + need.gpus <= room.gpus and _is_type(need, room)))
        )

    def score(self, need: Need, wish: Wish, together: int) -> float:
        """`together`: containers of the wish's group on all workers."""
        room = self.room
        filled = (self.memory_bytes + need.memory_bytes) / (room.memory_bytes or 1)
        busy = (self.cpu_expected + max(need.cpu_millis, need.cpu_expected)) / (room.cpu_millis or 1)
        score = (filled + (busy if busy <= 1 else -busy)) / 2
        if wish.layers:
            score += _LAYERS_WEIGHT * sum(layer in room.layers for layer in wish.layers) / len(wish.layers)
        if together:
            score -= _SPREAD_WEIGHT * self.groups.get(wish.group, 0) / together
        if need.gpu_types:
            score -= need.gpu_types.index(room.gpu_type)
        return score


@dataclass(slots=True)
class _Hold:
    """Room that a group waits for: what is there already will leave, and what comes since must leave enough."""

    worker_id: str
    need: Need
    since: dict[str, Need] = field(default_factory=dict)

    def leaves_room(self, room: Room, need: Need) -> bool:
        site = _Site(room)
        for other in (self.need, *self.since.values()):
            site.take(other, "", 1)
        return site.fits(need)


@dataclass(frozen=True, slots=True)
class _Reservation:
    worker_id: str
    need: Need
    group: str


class Placement:
    """All workers, and what their containers have reserved."""

    def __init__(self) -> None:
        self._sites: dict[str, _Site] = {}
        self._by_free: list[tuple[int, str]] = []
        self._holders: dict[str, dict[str, None]] = {}
        self._reserved: dict[str, _Reservation] = {}
        self._holds: dict[str, _Hold] = {}
        self._total = Need(0, 0)
        self._groups: Counter[str] = Counter()
        self._expected: tuple[Room, ...] = ()
        self._obstacle = ""
        self._label_names: frozenset[str] = frozenset()

    def expect(self, rooms: Sequence[Room], obstacle: str = "") -> None:
        """Workers like these may be had: what one of them could take is not refused for ever. `obstacle`: why none is on its
        way."""
        self._obstacle = obstacle
        if self._expected != tuple(rooms):
            self._expected = tuple(rooms)
            self._add_up()

    def put(self, room: Room) -> None:
        """A worker is there, or has other room than before. What was reserved of it stays reserved."""
        site = self._sites.get(room.worker_id)
        if site is None:
            site = self._sites[room.worker_id] = _Site(room)
            for reservation in self._reserved.values():
                if reservation.worker_id == room.worker_id:
                    site.take(reservation.need, reservation.group, 1)
        elif site.room == room:
            return
        else:
            self._unlist(site)
            site.room = room
        self._list(site)
        self._add_up()

    def remove(self, worker_id: str) -> None:
        """No container is placed there from now on."""
        if (site := self._sites.pop(worker_id, None)) is not None:
            self._unlist(site)
            self._add_up()
        self._holds = {group: hold for group, hold in self._holds.items() if hold.worker_id != worker_id}

    def place(self, need: Need, wish: Wish = NO_WISH) -> str | Refusal:
        """The id of the best worker, or the reason why there is none."""
        candidates = islice(self._fitting(need, wish), CANDIDATES)
        together = self._groups.get(wish.group, 0)
        best = max(candidates, key=lambda site: site.score(need, wish, together), default=None)
        return self._explain(need, wish) if best is None else best.room.worker_id

    def reserve(self, worker_id: str, task_id: str, need: Need, group: str = "") -> None:
        """Take room for a container, also of a worker that is not connected yet."""
        self.free(task_id)
        self._reserved[task_id] = _Reservation(worker_id, need, group)
        for hold in self._holds_on(worker_id):
            hold.since[task_id] = need
        self._groups[group] += 1
        self._take(worker_id, need, group, 1)

    def free(self, task_id: str) -> None:
        if (reservation := self._reserved.pop(task_id, None)) is not None:
            for hold in self._holds_on(reservation.worker_id):
                hold.since.pop(task_id, None)
            self._groups[reservation.group] -= 1
            if not self._groups[reservation.group]:
                del self._groups[reservation.group]
            self._take(reservation.worker_id, reservation.need, reservation.group, -1)

    def hold(self, worker_id: str, group: str, need: Need) -> None:
        """Keep so much of what becomes free there for one group."""
        self._holds[group] = _Hold(worker_id, need)

    def release(self, group: str) -> bool:
        """Hold nothing for a group any more; whether something was."""
        return self._holds.pop(group, None) is not None

    def is_held_for(self, group: str) -> bool:
        return group in self._holds

    def could_fit(self, need: Need, wish: Wish, freed: dict[str, Need]) -> list[str]:
        """Workers that would take it if so much were freed, those that need the least more of it first."""
        found = []
        for worker_id, site in self._sites.items():
            gain = freed.get(worker_id)
            if gain is None or not self._may_use(worker_id, site, need, wish):
                continue
            smaller = replace(
                need,
                cpu_millis=max(0, need.cpu_millis - gain.cpu_millis),
                memory_bytes=max(0, need.memory_bytes - gain.memory_bytes),
                disk_bytes=max(0, need.disk_bytes - gain.disk_bytes),
                gpus=max(0, need.gpus - gain.gpus),
            )
            if site.fits(smaller):
                found.append((-site.memory_free, worker_id))
        return [worker_id for _, worker_id in sorted(found)]

    def emptiest_that_could(self, need: Need, wish: Wish) -> str | None:
        """Of the workers that would take it when empty, and that nobody holds, the one with the most free memory."""
        held = {hold.worker_id for hold in self._holds.values()}
        could = [
            site
            for worker_id, site in self._sites.items()
            if worker_id not in held and self._has_labels(site.room, wish) and _Site(site.room).fits(need)
        ]
        best = max(could, key=lambda site: (site.memory_free, site.room.worker_id), default=None)
        return None if best is None else best.room.worker_id

    def reserved(self) -> Iterator[tuple[str, str, Need]]:
        """Each container's id, worker and need."""
        for task_id, reservation in self._reserved.items():
            yield task_id, reservation.worker_id, reservation.need

    def need_of(self, task_id: str) -> Need | None:
        reservation = self._reserved.get(task_id)
        return None if reservation is None else reservation.need

    def total(self) -> Need:
        """What all workers have together."""
        return self._total

    def left(self) -> Need:
        """What of that is not reserved, but for workers that take no more."""
        sites = [site for site in self._sites.values() if not site.room.leaving]
        return Need(
            sum(max(0, site.room.cpu_millis - site.cpu_millis) for site in sites),
            sum(max(0, site.memory_free) for site in sites),
            gpus=sum(site.room.gpus - site.gpus for site in sites),
        )

    def rooms(self) -> Iterator[tuple[Room, bool]]:
        """All workers, and whether something is reserved of each."""
        busy = {reservation.worker_id for reservation in self._reserved.values()}
        for worker_id, site in self._sites.items():
            yield site.room, worker_id in busy

    def could_ever(self, need: Need, wish: Wish) -> bool:
        """Whether a worker would take it when empty, or one that may be had."""
        rooms = (*(site.room for site in self._sites.values()), *self._expected)
        return any(self._has_labels(room, wish) and fits_empty(room, need) for room in rooms)

    def binding_labels(self, wish: Wish) -> tuple[frozenset[str], ...]:
        """Those of its labels that any worker has, or may have."""
        return tuple(labels for labels in wish.labels if not self._label_names.isdisjoint(map(_name, labels)))

    def _holds_on(self, worker_id: str) -> list[_Hold]:
        return [hold for hold in self._holds.values() if hold.worker_id == worker_id]

    def _add_up(self) -> None:
        rooms = [site.room for site in self._sites.values()]
        known = (*rooms, *self._expected)
        self._total = Need(
            sum(room.cpu_millis for room in rooms),
            sum(room.memory_bytes for room in rooms),
            sum(room.disk_bytes for room in rooms),
            sum(room.gpus for room in rooms),
        )
        self._label_names = frozenset(_name(label) for room in known for label in room.labels)

    def _has_labels(self, room: Room, wish: Wish) -> bool:
        return all(not labels.isdisjoint(room.labels) for labels in self.binding_labels(wish))

    def _fitting(self, need: Need, wish: Wish) -> Iterator[_Site]:
        """Holders of the layers, then the fullest; one may come twice."""
        for layer in wish.layers[-1:]:
            yield from self._usable(islice(self._holders.get(layer, ()), CANDIDATES), need, wish)
        start = bisect_left(self._by_free, (need.memory_bytes, ""))
        names = (self._by_free[place][1] for place in range(start, len(self._by_free)))
        yield from self._usable(names, need, wish)

    def _usable(self, names: Iterable[str], need: Need, wish: Wish) -> Iterator[_Site]:
        for worker_id in names:
            site = self._sites[worker_id]
            if site.fits(need) and self._may_use(worker_id, site, need, wish):
                yield site

    def _may_use(self, worker_id: str, site: _Site, need: Need, wish: Wish) -> bool:
        if not self._has_labels(site.room, wish):
            return False
        return all(
            group == wish.group or hold.worker_id != worker_id or hold.leaves_room(site.room, need)
            for group, hold in self._holds.items()
        )

    def _take(self, worker_id: str, need: Need, group: str, sign: int) -> None:
        if (site := self._sites.get(worker_id)) is None:
            return
        place = bisect_left(self._by_free, (site.memory_free, worker_id))
        del self._by_free[place]
        site.take(need, group, sign)
        insort(self._by_free, (site.memory_free, worker_id))

    def _list(self, site: _Site) -> None:
        insort(self._by_free, (site.memory_free, site.room.worker_id))
        for layer in site.room.layers:
            self._holders.setdefault(layer, {})[site.room.worker_id] = None

    def _unlist(self, site: _Site) -> None:
        self._by_free.remove((site.memory_free, site.room.worker_id))
        for layer in site.room.layers:
            self._holders[layer].pop(site.room.worker_id, None)
            if not self._holders[layer]:
                del self._holders[layer]

    def _explain(self, need: Need, wish: Wish) -> Refusal:
        rooms = [site.room for site in self._sites.values()]
        is_full = any(self._has_labels(room, wish) and fits_empty(room, need) for room in rooms)
        if not is_full and self.could_ever(need, wish):
            reason = f"no machine with {describe_need(need)} is there yet"
            return Refusal(f"{reason}: {self._obstacle}" if self._obstacle else reason, forever=False)
        if not rooms:
            return Refusal("no worker is connected", forever=False)
        if not any(self._has_labels(room, wish) for room in rooms):
            wanted = " and ".join(" or ".join(sorted(labels)) for labels in wish.labels)
            return Refusal(f"no worker has {wanted}", forever=False)
        if need.gpus and not any(_Site(room).fits(_gpu_part(need)) for room in rooms):
            return Refusal(f"no worker has {_describe_gpus(need)}", forever=True)
        if is_full:
            return Refusal(f"every worker is full: it takes {describe_need(need)}", forever=False)
        largest = max(rooms, key=lambda room: (room.memory_bytes, room.cpu_millis))
        return Refusal(
            f"no worker has {describe_need(need)}: "
            f"the largest has {describe_need(Need(largest.cpu_millis, largest.memory_bytes))}",
            forever=True,
        )


def _name(label: str) -> str:
    return label.partition("=")[0]


def fits_empty(room: Room, need: Need) -> bool:
    """Whether it would fit if nothing else were there."""
    return _Site(room).fits(need)


def add_needs(one: Need, other: Need) -> Need:
    """What both take together, whatever the kind of their GPUs."""
    return Need(
        one.cpu_millis + other.cpu_millis,
        one.memory_bytes + other.memory_bytes,
        one.disk_bytes + other.disk_bytes,
        one.gpus + other.gpus,
    )


def describe_need(need: Need) -> str:
    """For a person: `2 CPU and 512 MiB of memory`."""
    words = f"{need.cpu_millis / 1000:g} CPU and {need.memory_bytes / 2**20:.0f} MiB of memory"
    if need.disk_bytes:
        words = f"{need.disk_bytes / 2**30:.0f} GiB of disk, {words}"
    return f"{_describe_gpus(need)}, {words}" if need.gpus else words


def _describe_gpus(need: Need) -> str:
    kinds = " or ".join(need.gpu_types)
    return f"{need.gpus} free {kinds + ' ' if kinds else ''}GPU{'s' if need.gpus > 1 else ''}"


def _gpu_part(need: Need) -> Need:
    return Need(0, 0, gpus=need.gpus, gpu_types=need.gpu_types)


def _is_type(need: Need, room: Room) -> bool:
    return not need.gpu_types or room.gpu_type in need.gpu_types
