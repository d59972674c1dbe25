"""Profiles by name: which object holds the list, and how many runs it was made of."""

from __future__ import annotations

from dataclasses import dataclass

from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """`digest` names the object that lists what starts read."""

    name: str
    digest: str
    runs: int


class Profiles:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, name: str) -> StoredProfile | None:
        def work(connection: Connection) -> StoredProfile | None:
            row = connection.execute("SELECT name, digest, runs FROM profiles WHERE name=?", (name,)).fetchone()
            return None if row is None else StoredProfile(**row)

        return await self._database.read(work)

    async def put(self, name: str, digest: str) -> None:
        """Replace; counts one more run."""

        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO profiles (name, digest, runs) VALUES (?,?,1)
                ON CONFLICT (name) DO UPDATE SET digest=excluded.digest, runs=profiles.runs+1""",
                (name, digest),
            )

        await self._database.write(work)
