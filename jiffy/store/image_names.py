"""Names of images: those that programs publish, each with its history, and references of registries that were imported."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jiffy.store.base import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class Revision:
    """An image that a name means, or meant. `position` grows with each; `created_at`: seconds since the epoch."""

    position: int
    environment: str
    name: str
    image_id: str
    created_at: float


class ImageNames:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, environment: str, name: str, image_id: str) -> Revision:
        """Let a name, such as `base:latest`, mean an image from now on."""

        def work(connection: Connection) -> Revision:
            now = time.time()
            row = connection.execute(
                """INSERT INTO image_names (environment, name, image_id, created_at) VALUES (?,?,?,?)
                RETURNING position""",
                (environment, name, image_id, now),
            ).fetchone()
            return Revision(row["position"], environment, name, image_id, now)

        return await self._database.write(work)

    async def find(self, environment: str, name: str) -> Revision | None:
        found = await self.revisions(environment, name)
        return found[0] if found else None

    async def revisions(self, environment: str, name: str) -> list[Revision]:
        """The latest first."""
        return await self._select("environment=? AND name=? ORDER BY position DESC", environment, name)

    async def all(self, environment: str) -> list[Revision]:
        """The current one of each name, in the order of the names."""
        return await self._select(
            """environment=? AND position IN (SELECT MAX(position) FROM image_names GROUP BY environment, name)
            ORDER BY name""",
            environment,
        )

    async def forget(self, environment: str, name: str) -> bool:
        """Take away a name with its history; False when there is none."""

        def work(connection: Connection) -> bool:
            query = "DELETE FROM image_names WHERE environment=? AND name=?"
            return connection.execute(query, (environment, name)).rowcount > 0

        return await self._database.write(work)

    async def forget_image(self, image_id: str) -> None:
        """Take away all names of an image."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM image_names WHERE image_id=?", (image_id,))
            connection.execute("DELETE FROM image_references WHERE image_id=?", (image_id,))

        await self._database.write(work)

    async def refer(self, reference: str, image_id: str) -> None:
        """Let a registry's reference mean an image that is here."""

        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO image_references VALUES (?,?,?) ON CONFLICT (reference)
                DO UPDATE SET image_id=excluded.image_id, created_at=excluded.created_at""",
                (reference, image_id, time.time()),
            )

        await self._database.write(work)

    async def referred(self, reference: str) -> str:
        """The image's id; empty when there is none."""

        def work(connection: Connection) -> str:
            query = "SELECT image_id FROM image_references WHERE reference=?"
            row = connection.execute(query, (reference,)).fetchone()
            return "" if row is None else str(row["image_id"])

        return await self._database.read(work)

    async def references(self) -> dict[str, list[str]]:
        """All references, by the image that they mean."""

        def work(connection: Connection) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for row in connection.execute("SELECT reference, image_id FROM image_references ORDER BY reference"):
                found.setdefault(row["image_id"], []).append(row["reference"])
            for row in connection.execute("SELECT DISTINCT name, image_id FROM image_names ORDER BY name"):
                found.setdefault(row["image_id"], []).append(row["name"])
            return found

        return await self._database.read(work)

    async def _select(self, condition: str, *values: object) -> list[Revision]:
        def work(connection: Connection) -> list[Revision]:
            query = f"SELECT * FROM image_names WHERE {condition}"
            return [_revision(row) for row in connection.execute(query, values)]

        return await self._database.read(work)


def _revision(row: Row) -> Revision:
    return Revision(row["position"], row["environment"], row["name"], row["image_id"], row["created_at"])
