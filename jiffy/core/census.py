"""Which workers live: each has a lease that its reports renew. One that is silent for longer is dead to the platform, even
if it runs: what it did is given to others, and it must introduce itself again."""

from __future__ import annotations

from typing import Final

LEASE_SECONDS: Final = 8.0
"""A worker reports every two seconds."""

RECONNECT_SECONDS: Final = 3.0
"""What a worker has to come back when its connection broke."""


class Census:
    """Times are seconds of the scheduler's clock."""

    def __init__(self) -> None:
        self._leases: dict[str, float] = {}

    def knows(self, worker_id: str) -> bool:
        return worker_id in self._leases

    def hear(self, worker_id: str, now: float) -> None:
        self._leases[worker_id] = now + LEASE_SECONDS

    def miss(self, worker_id: str, now: float) -> None:
        """Its connection is closed, or it is yet to come back."""
        self._leases[worker_id] = now + RECONNECT_SECONDS

    def lease_ends(self, worker_id: str) -> float:
        return self._leases[worker_id]

    def is_over(self, worker_id: str, now: float) -> bool:
        return now >= self._leases.get(worker_id, now)

    def forget(self, worker_id: str) -> None:
        self._leases.pop(worker_id, None)
