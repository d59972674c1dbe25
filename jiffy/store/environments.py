"""Environments: separate sets of apps and named objects on one server."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class Environment:
    name: str
    web_suffix: str
    created_at: float


class Environments:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Environment]:
        """In the order of their names."""

        def work(connection: Connection) -> list[Environment]:
            return [Environment(**row) for row in connection.execute("SELECT * FROM environments ORDER BY name")]

        return await self._database.read(work)

    async def find(self, name: str) -> Environment | None:
        return next((each for each in await self.all() if each.name == name), None)

    async def add(self, name: str, web_suffix: str) -> None:
        """ConflictError when it is there."""

        def work(connection: Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO environments (name, web_suffix, created_at) VALUES (?,?,?) ON CONFLICT DO NOTHING",
                (name, web_suffix, time.time()),
            )
            if not cursor.rowcount:
                raise ConflictError(f"there is an environment {name} already")

        await self._database.write(work)

    async def set_web_suffix(self, name: str, web_suffix: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute("UPDATE environments SET web_suffix=? WHERE name=?", (web_suffix, name))

        await self._database.write(work)

    async def delete(self, name: str) -> None:
        """With its secrets; InvalidError while there are apps or objects in it."""

        def work(connection: Connection) -> None:
            live = "SELECT name FROM apps WHERE environment=? AND stopped_at IS NULL"
            if (app := connection.execute(live, (name,)).fetchone()) is not None:
                raise InvalidError(
                    f"environment {name} is in use", why=f"an app runs in it: {app['name'] or 'one without a name'}"
                )
            query = "SELECT name, kind FROM named_objects WHERE environment=? AND name IS NOT NULL"
            if (thing := connection.execute(query, (name,)).fetchone()) is not None:
                raise InvalidError(f"environment {name} is in use", why=f"it has a {thing['kind']} {thing['name']}")
            if not connection.execute("DELETE FROM environments WHERE name=?", (name,)).rowcount:
                raise NotFoundError(f"no environment {name}")
            connection.execute("DELETE FROM secrets WHERE environment=?", (name,))

        await self._database.write(work)
