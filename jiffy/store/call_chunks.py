"""What generators gave: values as the wire API has them, kept as long as their call."""

from __future__ import annotations

from collections.abc import Sequence

from jiffy.store.base import Connection, Database


class CallChunks:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, call_id: str, chunks: Sequence[tuple[int, bytes]]) -> None:
        """What a generator gave, numbered from 1. One that is given again, by a later try, is what it was."""

        def work(connection: Connection) -> None:
            connection.executemany(
                "INSERT INTO call_chunks (call_id, number, body) VALUES (?,?,?) ON CONFLICT DO NOTHING",
                [(call_id, number, body) for number, body in chunks],
            )

        await self._database.write(work)

    async def after(self, call_id: str, number: int, limit: int) -> list[tuple[int, bytes]]:
        def work(connection: Connection) -> list[tuple[int, bytes]]:
            rows = connection.execute(
                "SELECT number, body FROM call_chunks WHERE call_id=? AND number>? ORDER BY number LIMIT ?",
                (call_id, number, limit),
            )
            return [(row["number"], row["body"]) for row in rows]

        return await self._database.read(work)
