"""What dicts hold: values by keys, both as the client serialized them, in the order in which they came."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from jiffy.store.base import Connection, Database

_PAGE: Final = 500


class Dicts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, dict_id: str, key: bytes) -> bytes | None:
        """Reading a value keeps it from being dropped for disuse."""

        def work(connection: Connection) -> bytes | None:
            row = connection.execute(
                "UPDATE dict_entries SET used_at=? WHERE object_id=? AND name=? RETURNING value",
                (time.time(), dict_id, key),
            ).fetchone()
            return None if row is None else bytes(row["value"])

        return await self._database.write(work)

    async def contains(self, dict_id: str, key: bytes) -> bool:
        def work(connection: Connection) -> bool:
            query = "SELECT 1 FROM dict_entries WHERE object_id=? AND name=?"
            return connection.execute(query, (dict_id, key)).fetchone() is not None

        return await self._database.read(work)

    async def update(self, dict_id: str, entries: Sequence[tuple[bytes, bytes]], *, only_new: bool) -> bool:
        """Set values; with `only_new` those whose key is not there. Tells whether any was set."""
        clash = "NOTHING" if only_new else "UPDATE SET value=excluded.value, used_at=excluded.used_at"

        def work(connection: Connection) -> bool:
            set_now = 0
            for key, value in entries:
                cursor = connection.execute(
                    f"""INSERT INTO dict_entries (object_id, name, value, used_at) VALUES (?,?,?,?)
                    ON CONFLICT (object_id, name) DO {clash}""",
                    (dict_id, key, value, time.time()),
                )
                set_now += cursor.rowcount
            return set_now > 0

        return await self._database.write(work)

    async def pop(self, dict_id: str, key: bytes) -> bytes | None:
        def work(connection: Connection) -> bytes | None:
            row = connection.execute(
                "DELETE FROM dict_entries WHERE object_id=? AND name=? RETURNING value", (dict_id, key)
            ).fetchone()
            return None if row is None else bytes(row["value"])

        return await self._database.write(work)

    async def size(self, dict_id: str) -> int:
        def work(connection: Connection) -> int:
            query = "SELECT count(*) AS entries FROM dict_entries WHERE object_id=?"
            return int(connection.execute(query, (dict_id,)).fetchone()["entries"])

        return await self._database.read(work)

    async def clear(self, dict_id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM dict_entries WHERE object_id=?", (dict_id,))

        await self._database.write(work)

    async def contents(self, dict_id: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """All, page by page: what is set meanwhile may be among them."""
        position = 0

        def work(connection: Connection) -> list[tuple[int, bytes, bytes]]:
            rows = connection.execute(
                "SELECT * FROM dict_entries WHERE object_id=? AND position>? ORDER BY position LIMIT ?",
                (dict_id, position, _PAGE),
            )
            return [(row["position"], bytes(row["name"]), bytes(row["value"])) for row in rows]

        while page := await self._database.read(work):
            for _, key, value in page:
                yield key, value
            position = page[-1][0]

    async def drop_unused(self, until: float) -> None:
        """Values that nobody set or read since then."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM dict_entries WHERE used_at<?", (until,))

        await self._database.write(work)
