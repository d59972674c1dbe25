"""Objects that programs make by a name, or for as long as they run: dicts, queues and volumes have this in common.

One with a name lives until it is deleted. One without lives as long as its client sends a heartbeat, or its app.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jiffy.errors import ConflictError, NotFoundError
from jiffy.store.base import Connection, Database, Row

_CONTENTS: Final = ("dict_entries", "queue_items", "volumes")


@dataclass(frozen=True, slots=True)
class NamedObject:
    """`name` is empty for one without. `beat_at`: when its client was heard of last; None where it need not be."""

    object_id: str
    kind: str
    environment: str
    name: str
    app_id: str
    created_at: float
    beat_at: float | None


class NamedObjects:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, thing: NamedObject) -> NamedObject:
        """The one that is there under its id or its name, or a new one."""

        def work(connection: Connection) -> NamedObject:
            connection.execute(
                """INSERT INTO named_objects (object_id, kind, environment, name, app_id, created_at, beat_at)
                VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING""",
                (
                    thing.object_id,
                    thing.kind,
                    thing.environment,
                    thing.name or None,
                    thing.app_id,
                    time.time(),
                    thing.beat_at,
                ),
            )
            query = "SELECT * FROM named_objects WHERE object_id=? OR (kind=? AND environment=? AND name=?)"
            return _object(
                connection.execute(
                    query, (thing.object_id, thing.kind, thing.environment, thing.name or None)
                ).fetchone()
            )

        return await self._database.write(work)

    async def get(self, kind: str, object_id: str) -> NamedObject:
        found = await self._select("kind=? AND object_id=?", kind, object_id)
        if not found:
            raise NotFoundError(f"no {kind} {object_id}", why="it was deleted, or its program has ended")
        return found[0]

    async def find(self, kind: str, environment: str, name: str) -> NamedObject | None:
        found = await self._select("kind=? AND environment=? AND name=?", kind, environment, name)
        return found[0] if found else None

    async def named(self, kind: str, environment: str, before: float, limit: int) -> list[NamedObject]:
        """Those with a name that were made before then, the newest first."""
        return await self._select(
            "kind=? AND environment=? AND name IS NOT NULL AND created_at<? ORDER BY created_at DESC LIMIT ?",
            kind,
            environment,
            before,
            limit,
        )

    async def rename(self, object_id: str, name: str) -> None:
        """ConflictError when the name is taken."""

        def work(connection: Connection) -> None:
            row = connection.execute(
                """SELECT 1 FROM named_objects AS other, named_objects AS this WHERE this.object_id=?
                AND other.kind=this.kind AND other.environment=this.environment AND other.name=?""",
                (object_id, name),
            ).fetchone()
            if row is not None:
                raise ConflictError(f"there is one named {name} already")
            connection.execute("UPDATE named_objects SET name=? WHERE object_id=?", (name, object_id))

        await self._database.write(work)

    async def beat(self, object_id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE named_objects SET beat_at=? WHERE object_id=? AND beat_at IS NOT NULL", (time.time(), object_id)
            )

        await self._database.write(work)

    async def silent(self, since: float) -> list[NamedObject]:
        """Those whose client ought to be heard of and was not since then."""
        return await self._select("beat_at IS NOT NULL AND beat_at<?", since)

    async def delete(self, object_ids: Sequence[str]) -> None:
        """With all that is in them."""

        def work(connection: Connection) -> None:
            gone = [(object_id,) for object_id in object_ids]
            for table in (*_CONTENTS, "named_objects"):
                connection.executemany(f"DELETE FROM {table} WHERE object_id=?", gone)

        await self._database.write(work)

    async def _select(self, condition: str, *values: object) -> list[NamedObject]:
        def work(connection: Connection) -> list[NamedObject]:
            rows = connection.execute(f"SELECT * FROM named_objects WHERE {condition}", values)
            return [_object(row) for row in rows]

        return await self._database.read(work)


def _object(row: Row) -> NamedObject:
    fields = dict(row)
    fields["name"] = fields["name"] or ""
    return NamedObject(**fields)
