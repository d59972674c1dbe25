"""Who goes first when there is not room for all: the app whose largest share of any resource is the smallest."""

from __future__ import annotations

from jiffy.core.placement import Need


class Shares:
    """What the containers of each app have reserved together."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[int, int, int]] = {}

    def take(self, app_id: str, need: Need, sign: int) -> None:
        """Add (1) or give back (-1) one container's part."""
        cpu, memory, gpus = self._taken.get(app_id, (0, 0, 0))
        taken = (cpu + sign * need.cpu_millis, memory + sign * need.memory_bytes, gpus + sign * need.gpus)
        if any(taken):
            self._taken[app_id] = taken
        else:
            self._taken.pop(app_id, None)

    def dominant(self, app_id: str, total: Need) -> float:
        """The largest of an app's shares, from 0 to 1."""
        cpu, memory, gpus = self._taken.get(app_id, (0, 0, 0))
        return max(cpu / (total.cpu_millis or 1), memory / (total.memory_bytes or 1), gpus / (total.gpus or 1))
