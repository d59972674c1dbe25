"""Volumes: trees that programs share. Each has a head, the index of all that was committed."""

from __future__ import annotations

from dataclasses import dataclass

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class Volume:
    """`fs_version` is what the client calls the kind of a volume, by which it chooses how to upload. `head` is the digest of
    an index."""

    object_id: str
    fs_version: int
    head: str


class Volumes:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, object_id: str, fs_version: int, head: str) -> None:
        """Nothing happens when it is there."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO volumes (object_id, fs_version, head) VALUES (?,?,?) ON CONFLICT DO NOTHING",
                (object_id, fs_version, head),
            )

        await self._database.write(work)

    async def get(self, object_id: str) -> Volume:
        def work(connection: Connection) -> Volume | None:
            row = connection.execute("SELECT * FROM volumes WHERE object_id=?", (object_id,)).fetchone()
            return None if row is None else Volume(**row)

        if (volume := await self._database.read(work)) is None:
            raise NotFoundError(f"no volume {object_id}", why="it was deleted, or its program has ended")
        return volume

    async def commit(self, object_id: str, before: str, head: str) -> bool:
        """Replace the head; False when it is not `before` any more."""

        def work(connection: Connection) -> bool:
            cursor = connection.execute(
                "UPDATE volumes SET head=? WHERE object_id=? AND head=?", (head, object_id, before)
            )
            return cursor.rowcount == 1

        return await self._database.write(work)

    async def note_use(self, task_id: str, head: str) -> None:
        """A container has a volume as of a head, which is kept as long as the container lives."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO volume_uses (task_id, head) VALUES (?,?) ON CONFLICT DO NOTHING", (task_id, head)
            )

        await self._database.write(work)

    async def forget_uses(self) -> None:
        """Of containers that have ended."""

        def work(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM volume_uses WHERE task_id IN (SELECT task_id FROM tasks WHERE ended_at IS NOT NULL)"
            )

        await self._database.write(work)
