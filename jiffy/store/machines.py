"""Machines that a fleet has started: what they are, and what they have cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class StoredMachine:
    """`price` is of an hour. `ended_at` is None while it runs; `reason` says why it ended."""

    machine_id: str
    offer: str
    price: float
    started_at: float
    ended_at: float | None
    reason: str


class Machines:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, machine_id: str, offer: str, price: float) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO machines (machine_id, offer, price, started_at) VALUES (?,?,?,?)",
                (machine_id, offer, price, time.time()),
            )

        await self._database.write(work)

    async def end(self, machine_id: str, reason: str) -> bool:
        """Whether it had not ended before."""

        def work(connection: Connection) -> bool:
            query = "UPDATE machines SET ended_at=?, reason=? WHERE machine_id=? AND ended_at IS NULL"
            return connection.execute(query, (time.time(), reason, machine_id)).rowcount > 0

        return await self._database.write(work)

    async def since(self, moment: float) -> list[StoredMachine]:
        """All that run, or ran since then, the oldest first."""

        def work(connection: Connection) -> list[StoredMachine]:
            query = "SELECT * FROM machines WHERE ended_at IS NULL OR ended_at>? ORDER BY started_at, machine_id"
            return [StoredMachine(**dict(row)) for row in connection.execute(query, (moment,))]

        return await self._database.read(work)
