"""Which idle container gives way to one that fits nowhere."""

from __future__ import annotations

from collections.abc import Iterable

from jiffy.core.placement import Need, Placement, Wish, add_needs
from jiffy.core.pools import Container


def is_room_coming(need: Need, wish: Wish, leaving: Iterable[Container], placement: Placement) -> bool:
    """Whether it fits once those that are on their way out are gone."""
    return bool(placement.could_fit(need, wish, _freed_by(leaving, placement)))


def choose_to_leave(need: Need, wish: Wish, idle: Iterable[Container], placement: Placement) -> Container | None:
    """Of the host that would have room without its idle containers, the one that has been idle longest; None where that
    would not help."""
    there = list(idle)
    for worker_id in placement.could_fit(need, wish, _freed_by(there, placement))[:1]:
        on_it = [container for container in there if container.worker_id == worker_id]
        return min(on_it, key=lambda container: container.idle_since or 0.0)
    return None


def _freed_by(containers: Iterable[Container], placement: Placement) -> dict[str, Need]:
    freed: dict[str, Need] = {}
    for container in containers:
        if (gain := placement.need_of(container.task_id)) is not None:
            freed[container.worker_id] = add_needs(freed.get(container.worker_id, Need(0, 0)), gain)
    return freed
