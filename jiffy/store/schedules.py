"""Schedules of deployed functions, and when each comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class Firing:
    """`schedule` is a serialized Schedule; `next_at`: seconds since the epoch."""

    function_id: str
    app_id: str
    schedule: bytes
    next_at: float


class Schedules:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_app(self, app_id: str) -> list[Firing]:
        return await self._select("app_id=?", app_id)

    async def due(self, now: float) -> list[Firing]:
        """Of apps that are not stopped."""
        return await self._select(
            """next_at<=? AND app_id IN (SELECT app_id FROM apps WHERE stopped_at IS NULL) ORDER BY next_at""", now
        )

    async def first(self) -> float | None:
        """When the next one comes."""
        firings = await self._select(
            "app_id IN (SELECT app_id FROM apps WHERE stopped_at IS NULL) ORDER BY next_at LIMIT 1"
        )
        return firings[0].next_at if firings else None

    async def replace(self, app_id: str, firings: Sequence[Firing]) -> None:
        """An app has these, and no others."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM schedules WHERE app_id=?", (app_id,))
            connection.executemany(
                "INSERT INTO schedules (function_id, app_id, schedule, next_at) VALUES (?,?,?,?)",
                [(each.function_id, each.app_id, each.schedule, each.next_at) for each in firings],
            )

        await self._database.write(work)

    async def move(self, firing: Firing, next_at: float) -> None:
        """It has come; unless it was changed meanwhile."""

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE schedules SET next_at=? WHERE function_id=? AND next_at=?",
                (next_at, firing.function_id, firing.next_at),
            )

        await self._database.write(work)

    async def _select(self, condition: str, *values: object) -> list[Firing]:
        def work(connection: Connection) -> list[Firing]:
            rows = connection.execute(f"SELECT * FROM schedules WHERE {condition}", values)
            return [Firing(**row) for row in rows]

        return await self._database.read(work)
