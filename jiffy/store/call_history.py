"""Calls as those look at them who want to know what was called, when and by whom; and how old ones are dropped."""

from __future__ import annotations

from functools import partial

from jiffy.store.base import Connection, Database
from jiffy.store.calls import ROWS_AT_ONCE, Call, Input, read_call, read_input


class CallHistory:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def inputs(self, call_id: str, first: int, last: int) -> list[Input]:
        """Inputs of a call by their numbers, both ends included."""

        def work(connection: Connection) -> list[Input]:
            query = "SELECT * FROM inputs WHERE call_id=? AND number BETWEEN ? AND ? ORDER BY number"
            return [read_input(row) for row in connection.execute(query, (call_id, first, last))]

        return await self._database.scan(work)

    async def count_inputs(self, call_id: str) -> int:
        def work(connection: Connection) -> int:
            query = "SELECT count(*) AS inputs FROM inputs WHERE call_id=?"
            return int(connection.execute(query, (call_id,)).fetchone()["inputs"])

        return await self._database.scan(work)

    async def children(self, input_id: str) -> list[Call]:
        """Calls that were made while an input ran."""
        return await self._calls("parent_input_id=? AND parent_input_id<>'' ORDER BY created_at", input_id)

    async def of_function(self, function_id: str, since: float, until: float, limit: int) -> list[Call]:
        """The newest first."""
        return await self._calls(
            "function_id=? AND created_at BETWEEN ? AND ? ORDER BY created_at DESC LIMIT ?",
            function_id,
            since,
            until,
            limit,
        )

    async def forget_before(self, until: float, limit: int) -> int:
        """Drop calls that were made before then and have nothing unfinished; gives how many. Of one that was dropped half
        way the rest is dropped next time."""

        def find(connection: Connection) -> list[str]:
            rows = connection.execute(
                """SELECT call_id FROM calls WHERE created_at<? AND NOT EXISTS (SELECT 1 FROM inputs
                WHERE inputs.call_id=calls.call_id AND finished_at IS NULL) ORDER BY created_at LIMIT ?""",
                (until, limit),
            )
            return [row["call_id"] for row in rows]

        old = await self._database.scan(find)
        for call_id in old:
            while await self._database.write(partial(_drop_some, call_id=call_id)):
                pass
        return len(old)

    async def _calls(self, condition: str, *values: object) -> list[Call]:
        def work(connection: Connection) -> list[Call]:
            return [read_call(row) for row in connection.execute(f"SELECT * FROM calls WHERE {condition}", values)]

        return await self._database.scan(work)


def _drop_some(connection: Connection, call_id: str) -> bool:
    """Of a call; the call itself goes last. Whether there is more."""
    for table, key in (("call_chunks", "number"), ("outputs", "position"), ("inputs", "position")):
        dropped = connection.execute(
            f"DELETE FROM {table} WHERE call_id=? AND {key} IN (SELECT {key} FROM {table} WHERE call_id=? LIMIT ?)",
            (call_id, call_id, ROWS_AT_ONCE),
        )
        if dropped.rowcount == ROWS_AT_ONCE:
            return True
    connection.execute("DELETE FROM calls WHERE call_id=?", (call_id,))
    return False
