"""What queues hold: values as the client serialized them, in partitions, each in the order in which they came."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from jiffy.errors import ExhaustedError
from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class Item:
    """`position` grows within a partition."""

    position: int
    value: bytes


class QueueItems:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, queue_id: str, partition: bytes, values: Sequence[bytes], seconds: float, most: int) -> None:
        """At the end of a partition, all or none: ExhaustedError when it would have more than `most`. The partition lives
        for so many seconds from now on."""

        def work(connection: Connection) -> None:
            connection.lock(f"{queue_id} {partition.hex()}")
            now = time.time()
            where = (queue_id, partition)
            query = "SELECT count(*) AS items FROM queue_items WHERE object_id=? AND partition=? AND expires_at>=?"
            if connection.execute(query, (*where, now)).fetchone()["items"] + len(values) > most:
                raise ExhaustedError(f"the queue is full: it holds {most} items in a partition")
            connection.execute(
                "UPDATE queue_items SET expires_at=? WHERE object_id=? AND partition=? AND expires_at>=?",
                (now + seconds, *where, now),
            )
            connection.executemany(
                "INSERT INTO queue_items (object_id, partition, value, expires_at) VALUES (?,?,?,?)",
                [(*where, value, now + seconds) for value in values],
            )

        await self._database.write(work)

    async def take(self, queue_id: str, partition: bytes, limit: int) -> list[bytes]:
        """The first ones, taken away."""

        def work(connection: Connection) -> list[bytes]:
            rows = connection.execute(
                f"""DELETE FROM queue_items WHERE position IN (SELECT position FROM queue_items WHERE object_id=?
                AND partition=? AND expires_at>=? ORDER BY position LIMIT ? {connection.skip_locked})
                RETURNING position, value""",
                (queue_id, partition, time.time(), limit),
            ).fetchall()
            return [bytes(row["value"]) for row in sorted(rows, key=lambda row: int(row["position"]))]

        return await self._database.write(work)

    async def after(self, queue_id: str, partition: bytes, position: int, limit: int) -> list[Item]:
        """Those behind a position, left where they are."""

        def work(connection: Connection) -> list[Item]:
            rows = connection.execute(
                """SELECT position, value FROM queue_items WHERE object_id=? AND partition=? AND expires_at>=?
                AND position>? ORDER BY position LIMIT ?""",
                (queue_id, partition, time.time(), position, limit),
            )
            return [Item(row["position"], bytes(row["value"])) for row in rows]

        return await self._database.read(work)

    async def size(self, queue_id: str, partition: bytes | None) -> int:
        """Of one partition, or of all."""
        condition = "object_id=? AND expires_at>=?" + (" AND partition=?" if partition is not None else "")

        def work(connection: Connection) -> int:
            values = (queue_id, time.time(), *([partition] if partition is not None else []))
            query = f"SELECT count(*) AS items FROM queue_items WHERE {condition}"
            return int(connection.execute(query, values).fetchone()["items"])

        return await self._database.read(work)

    async def count_partitions(self, queue_id: str) -> int:
        def work(connection: Connection) -> int:
            query = "SELECT count(DISTINCT partition) AS found FROM queue_items WHERE object_id=? AND expires_at>=?"
            return int(connection.execute(query, (queue_id, time.time())).fetchone()["found"])

        return await self._database.read(work)

    async def clear(self, queue_id: str, partition: bytes | None) -> None:
        def work(connection: Connection) -> None:
            if partition is None:
                connection.execute("DELETE FROM queue_items WHERE object_id=?", (queue_id,))
            else:
                connection.execute("DELETE FROM queue_items WHERE object_id=? AND partition=?", (queue_id, partition))

        await self._database.write(work)

    async def drop_expired(self) -> None:
        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM queue_items WHERE expires_at<?", (time.time(),))

        await self._database.write(work)
