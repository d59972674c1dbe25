"""Functions: their definition and handle, as the wire API's messages."""

from __future__ import annotations

from dataclasses import dataclass

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class StoredFunction:
    """`handle` is a serialized FunctionHandleMetadata, `definition` a serialized Function (None until created)."""

    function_id: str
    app_id: str
    name: str
    handle: bytes
    definition: bytes | None


class Functions:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, function: StoredFunction) -> None:
        """Create or replace; a definition once there is not lost to a later precreate."""

        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO functions (function_id, app_id, name, handle, definition) VALUES (?,?,?,?,?)
                ON CONFLICT (function_id) DO UPDATE SET name=excluded.name, handle=excluded.handle,
                definition=coalesce(excluded.definition, functions.definition)""",
                (function.function_id, function.app_id, function.name, function.handle, function.definition),
            )

        await self._database.write(work)

    async def get(self, function_id: str) -> StoredFunction:
        def work(connection: Connection) -> StoredFunction | None:
            row = connection.execute("SELECT * FROM functions WHERE function_id=?", (function_id,)).fetchone()
            return None if row is None else _function(row)

        if (function := await self._database.read(work)) is None:
            raise NotFoundError(f"no function {function_id}")
        return function


def _function(row: Row) -> StoredFunction:
    return StoredFunction(
        function_id=row["function_id"],
        app_id=row["app_id"],
        name=row["name"],
        handle=row["handle"],
        definition=row["definition"],
    )
