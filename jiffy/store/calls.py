"""Calls, their inputs and outputs: what must never be lost.

An input is pending (no task, not finished), claimed (a task holds it) or finished. Only the task that holds an
input may finish it, and only for the attempt it was given: a result that comes late, from a container that was given
up, is refused. So each accepted input ends in exactly one recorded output.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection, Row

from jiffy.errors import NotFoundError
from jiffy.identifiers import derived_id
from jiffy.store.database import Database


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str
    function_id: str
    app_id: str
    invocation_type: int
    cancelled_at: float | None


@dataclass(frozen=True, slots=True)
class Input:
    """`body` is a serialized FunctionInput, `number` its place in the call, `losses`: containers that died with it."""

    position: int
    input_id: str
    call_id: str
    function_id: str
    number: int
    body: bytes
    retry_count: int
    losses: int
    task_id: str | None
    claimed_at: float | None
    claim_key: str | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Output:
    """`body` is a serialized FunctionGetOutputsItem. `position` grows within the store."""

    position: int
    call_id: str
    input_id: str
    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """A result to record for one attempt at an input."""

    input_id: str
    retry_count: int
    body: bytes


class Calls:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, call: Call, inputs: Sequence[tuple[int, bytes]]) -> list[str]:
        """Create a call with its first inputs (number, body); gives their ids. Repeating it changes nothing."""

        def work(connection: Connection) -> list[str]:
            connection.execute(
                """INSERT OR IGNORE INTO calls (call_id, function_id, app_id, invocation_type, created_at)
                VALUES (?,?,?,?,?)""",
                (call.call_id, call.function_id, call.app_id, call.invocation_type, time.time()),
            )
            return _insert_inputs(connection, call.call_id, call.function_id, inputs)

        return await self._database.write(work)

    async def add_inputs(self, call_id: str, inputs: Sequence[tuple[int, bytes]]) -> list[str]:
        """Add inputs to a call, each once however often it is sent."""
        call = await self.get(call_id)

        def work(connection: Connection) -> list[str]:
            return _insert_inputs(connection, call_id, call.function_id, inputs)

        return await self._database.write(work)

    async def get(self, call_id: str) -> Call:
        def work(connection: Connection) -> Call | None:
            row = connection.execute("SELECT * FROM calls WHERE call_id=?", (call_id,)).fetchone()
            return None if row is None else _call(row)

        if (call := await self._database.read(work)) is None:
            raise NotFoundError(f"no call {call_id}")
        return call

    async def get_input(self, input_id: str) -> Input:
        inputs = await self._inputs("input_id=?", input_id)
        if not inputs:
            raise NotFoundError(f"no input {input_id}")
        return inputs[0]

    async def claim(self, function_id: str, task_id: str, limit: int, key: str) -> list[Input]:
        """Give a task the oldest pending inputs of a function. The same key asks again for the same inputs. A task that has
        ended gets none."""

        def work(connection: Connection) -> list[Input]:
            again = connection.execute(
                "SELECT * FROM inputs WHERE task_id=? AND claim_key=? AND finished_at IS NULL", (task_id, key)
            ).fetchall()
            rows = (
                again
                or connection.execute(
                    """UPDATE inputs SET task_id=?, claimed_at=?, claim_key=? WHERE position IN (
                    SELECT position FROM inputs WHERE function_id=? AND task_id IS NULL AND finished_at IS NULL
                    AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.task_id=? AND ended_at IS NOT NULL)
                    ORDER BY position LIMIT ?) RETURNING *""",
                    (task_id, time.time(), key, function_id, task_id, limit),
                ).fetchall()
            )
            return sorted((_input(row) for row in rows), key=lambda entry: entry.position)

        return await self._database.write(work)

    async def finish(self, task_id: str, results: Iterable[Result]) -> list[str]:
        """Record results of a task; gives the ids of the calls that gained an output. Stale results are dropped."""

        def work(connection: Connection) -> list[str]:
            return [
                row["call_id"]
                for result in results
                if (row := _finish_input(connection, result, holder=task_id)) is not None
            ]

        return await self._database.write(work)

    async def fail_pending(self, results: Iterable[Result]) -> list[str]:
        """Record results for inputs that no task holds, made by the server itself."""

        def work(connection: Connection) -> list[str]:
            return [
                row["call_id"]
                for result in results
                if (row := _finish_input(connection, result, holder=None)) is not None
            ]

        return await self._database.write(work)

    async def release(self, task_id: str) -> list[Input]:
        """Make a dead task's inputs pending again; each counts one more loss."""

        def work(connection: Connection) -> list[Input]:
            rows = connection.execute(
                """UPDATE inputs SET task_id=NULL, claimed_at=NULL, losses=losses+1
                WHERE task_id=? AND finished_at IS NULL RETURNING *""",
                (task_id,),
            ).fetchall()
            return [_input(row) for row in rows]

        return await self._database.write(work)

    async def release_orphans(self) -> None:
        """Make inputs pending again whose task has ended: the server died between recording the end and this."""

        def work(connection: Connection) -> None:
            connection.execute(
                """UPDATE inputs SET task_id=NULL, claimed_at=NULL, losses=losses+1
                WHERE finished_at IS NULL AND task_id IN (SELECT task_id FROM tasks WHERE ended_at IS NOT NULL)"""
            )

        await self._database.write(work)

    async def abandoned(self) -> list[Input]:
        """Unfinished inputs of cancelled calls and stopped apps: nobody runs them, and their end is not recorded yet."""
        return await self._inputs(
            """finished_at IS NULL AND call_id IN (SELECT call_id FROM calls JOIN apps USING (app_id)
            WHERE cancelled_at IS NOT NULL OR stopped_at IS NOT NULL) ORDER BY position"""
        )

    async def retry(self, input_id: str, body: bytes, retry_count: int | None) -> str | None:
        """Make a finished input pending again; gives the function's id, or None when there is nothing to retry.

        `retry_count` names the attempt; None means the next one."""

        def work(connection: Connection) -> str | None:
            row = connection.execute(
                """UPDATE inputs SET finished_at=NULL, task_id=NULL, claimed_at=NULL, body=?,
                retry_count=coalesce(?, retry_count+1)
                WHERE input_id=? AND finished_at IS NOT NULL AND retry_count < coalesce(?, retry_count+1)
                RETURNING function_id""",
                (body, retry_count, input_id, retry_count),
            ).fetchone()
            if row is None:
                return None
            connection.execute("DELETE FROM outputs WHERE input_id=?", (input_id,))
            return str(row["function_id"])

        return await self._database.write(work)

    async def cancel(self, call_id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE calls SET cancelled_at=coalesce(cancelled_at, ?) WHERE call_id=?",
                (time.time(), call_id),
            )

        await self._database.write(work)

    async def outputs_after(self, call_id: str, position: int, limit: int) -> list[Output]:
        return await self._outputs("call_id=? AND position>? ORDER BY position LIMIT ?", call_id, position, limit)

    async def outputs_numbered(self, call_id: str, first: int, last: int) -> list[Output]:
        """Outputs of the inputs numbered first to last, both included."""
        return await self._outputs("call_id=? AND number BETWEEN ? AND ? ORDER BY number", call_id, first, last)

    async def count_unfinished(self, call_id: str) -> int:
        return await self._count("call_id=? AND finished_at IS NULL", call_id)

    async def count_unfinished_of_function(self, function_id: str) -> int:
        return await self._count("function_id=? AND finished_at IS NULL", function_id)

    async def pending(self, function_id: str) -> list[Input]:
        return await self._inputs(
            "function_id=? AND task_id IS NULL AND finished_at IS NULL ORDER BY position", function_id
        )

    async def claimed(self, task_id: str) -> list[Input]:
        return await self._inputs("task_id=? AND finished_at IS NULL ORDER BY position", task_id)

    async def unfinished_of_call(self, call_id: str) -> list[Input]:
        return await self._inputs("call_id=? AND finished_at IS NULL ORDER BY position", call_id)

    async def unfinished_of_app(self, app_id: str) -> list[Input]:
        return await self._inputs(
            "finished_at IS NULL AND call_id IN (SELECT call_id FROM calls WHERE app_id=?) ORDER BY position",
            app_id,
        )

    async def functions_with_pending(self) -> list[str]:
        """Functions that have inputs which no task holds."""

        def work(connection: Connection) -> list[str]:
            query = "SELECT DISTINCT function_id FROM inputs WHERE task_id IS NULL AND finished_at IS NULL"
            return [row["function_id"] for row in connection.execute(query)]

        return await self._database.read(work)

    async def _count(self, condition: str, *values: object) -> int:
        def work(connection: Connection) -> int:
            return int(connection.execute(f"SELECT count(*) FROM inputs WHERE {condition}", values).fetchone()[0])

        return await self._database.read(work)

    async def _inputs(self, condition: str, *values: object) -> list[Input]:
        def work(connection: Connection) -> list[Input]:
            return [_input(row) for row in connection.execute(f"SELECT * FROM inputs WHERE {condition}", values)]

        return await self._database.read(work)

    async def _outputs(self, condition: str, *values: object) -> list[Output]:
        def work(connection: Connection) -> list[Output]:
            rows = connection.execute(f"SELECT * FROM outputs WHERE {condition}", values)
            return [Output(**row) for row in rows]

        return await self._database.read(work)


def _insert_inputs(
    connection: Connection, call_id: str, function_id: str, inputs: Sequence[tuple[int, bytes]]
) -> list[str]:
    identifiers = [derived_id("in", call_id, str(number)) for number, _ in inputs]
    connection.executemany(
        "INSERT OR IGNORE INTO inputs (input_id, call_id, function_id, number, body) VALUES (?,?,?,?,?)",
        [
            (identifier, call_id, function_id, number, body)
            for identifier, (number, body) in zip(identifiers, inputs, strict=True)
        ],
    )
    return identifiers


def _finish_input(connection: Connection, result: Result, *, holder: str | None) -> Row | None:
    row: Row | None = connection.execute(
        """UPDATE inputs SET finished_at=? WHERE input_id=? AND task_id IS ? AND retry_count=? AND finished_at IS NULL
        RETURNING call_id, number""",
        (time.time(), result.input_id, holder, result.retry_count),
    ).fetchone()
    if row is not None:
        connection.execute(
            "INSERT INTO outputs (call_id, input_id, number, body) VALUES (?,?,?,?)",
            (row["call_id"], result.input_id, row["number"], result.body),
        )
    return row


def _call(row: Row) -> Call:
    return Call(row["call_id"], row["function_id"], row["app_id"], row["invocation_type"], row["cancelled_at"])


def _input(row: Row) -> Input:
    return Input(**row)
