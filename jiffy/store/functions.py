"""Functions: their definitions and handles, as the wire API's messages.

A definition is one state of a function, and never changes; the function follows one of them at a time. A variant is a
function of its own that follows another one's definition, with parameters of a class and with options.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class StoredFunction:
    """`handle` is a serialized FunctionHandleMetadata, `definition` a serialized Function (None until created). `base_id` is
    empty but for a variant, whose `parameters` and `options` are a serialized ClassParameterSet and FunctionOptions.
    `scaling`: what update_autoscaler set since the definition came."""

    function_id: str
    app_id: str
    name: str
    handle: bytes
    definition: bytes | None
    definition_id: str = ""
    base_id: str = ""
    parameters: bytes | None = None
    options: bytes | None = None
    scaling: dict[str, int] = field(default_factory=dict)
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    definition_id: str
    function_id: str
    handle: bytes
    definition: bytes


class Functions:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, function: StoredFunction) -> None:
        """Nothing happens when it is there."""

        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO functions
                (function_id, app_id, name, handle, definition, base_id, parameters, options, created_at)
                VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING""",
                (
                    function.function_id,
                    function.app_id,
                    function.name,
                    function.handle,
                    function.definition,
                    function.base_id,
                    function.parameters,
                    function.options,
                    time.time(),
                ),
            )

        await self._database.write(work)

    async def define(self, function: StoredFunction, definition: StoredDefinition) -> bool:
        """Keep a definition of a function, which follows it if it has none yet: tells whether it does."""

        def work(connection: Connection) -> bool:
            connection.execute(
                """INSERT INTO functions (function_id, app_id, name, handle, created_at) VALUES (?,?,?,?,?)
                ON CONFLICT DO NOTHING""",
                (function.function_id, function.app_id, function.name, function.handle, time.time()),
            )
            connection.execute(
                """INSERT INTO definitions (definition_id, function_id, handle, definition, created_at)
                VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING""",
                (
                    definition.definition_id,
                    definition.function_id,
                    definition.handle,
                    definition.definition,
                    time.time(),
                ),
            )
            return _follow(connection, definition.definition_id, "AND functions.definition_id=''")

        return await self._database.write(work)

    async def follow(self, definition_id: str) -> bool:
        """Have a function follow a definition, without what was set since; False when it followed it already."""

        def work(connection: Connection) -> bool:
            connection.execute(
                """UPDATE functions SET scaling='{}' WHERE function_id IN
                (SELECT function_id FROM definitions WHERE definition_id=?)""",
                (definition_id,),
            )
            return _follow(connection, definition_id, "AND functions.definition_id<>definitions.definition_id")

        return await self._database.write(work)

    async def scale(self, function_id: str, scaling: Mapping[str, int]) -> None:
        """Set what differs from the definition."""

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE functions SET scaling=? WHERE function_id=?", (json.dumps(dict(scaling)), function_id)
            )

        await self._database.write(work)

    async def get(self, function_id: str) -> StoredFunction:
        def work(connection: Connection) -> StoredFunction | None:
            row = connection.execute("SELECT * FROM functions WHERE function_id=?", (function_id,)).fetchone()
            return None if row is None else _function(row)

        if (found := await self._database.read(work)) is None:
            raise NotFoundError(f"no function {function_id}")
        return found

    async def variants(self, base_id: str, before: tuple[float, str], limit: int) -> list[StoredFunction]:
        """The newest first, of those that come after `before`, the time and id of a variant. One that only keeps an earlier
        definition is none."""

        def work(connection: Connection) -> list[StoredFunction]:
            rows = connection.execute(
                """SELECT * FROM functions WHERE base_id=? AND base_id<>'' AND parameters IS NOT NULL
                AND (created_at, function_id) < (?, ?) ORDER BY created_at DESC, function_id DESC LIMIT ?""",
                (base_id, *before, limit),
            )
            return [_function(row) for row in rows]

        return await self._database.scan(work)

    async def busiest_variants(self, base_id: str, limit: int) -> list[StoredFunction]:
        """Those with the most containers first, then the newest."""

        def work(connection: Connection) -> list[StoredFunction]:
            rows = connection.execute(
                """SELECT functions.* FROM functions LEFT JOIN (SELECT function_id, count(*) AS tasks FROM tasks
                WHERE ended_at IS NULL GROUP BY function_id) AS live ON live.function_id=functions.function_id
                WHERE base_id=? AND base_id<>'' AND parameters IS NOT NULL
                ORDER BY coalesce(live.tasks, 0) DESC, created_at DESC, functions.function_id DESC LIMIT ?""",
                (base_id, limit),
            )
            return [_function(row) for row in rows]

        return await self._database.scan(work)

    async def definition(self, definition_id: str) -> StoredDefinition:
        def work(connection: Connection) -> StoredDefinition | None:
            query = "SELECT definition_id, function_id, handle, definition FROM definitions WHERE definition_id=?"
            row = connection.execute(query, (definition_id,)).fetchone()
            return None if row is None else StoredDefinition(**row)

        if (found := await self._database.read(work)) is None:
            raise NotFoundError(f"no definition {definition_id}")
        return found


def _follow(connection: Connection, definition_id: str, condition: str) -> bool:
    cursor = connection.execute(
        f"""UPDATE functions SET handle=definitions.handle, definition=definitions.definition,
        definition_id=definitions.definition_id, scaling='{{}}' FROM definitions
        WHERE definitions.definition_id=? AND functions.function_id=definitions.function_id {condition}""",
        (definition_id,),
    )
    return cursor.rowcount > 0


def _function(row: Row) -> StoredFunction:
    fields = dict(row)
    fields["scaling"] = json.loads(fields["scaling"])
    return StoredFunction(**fields)
