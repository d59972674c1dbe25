"""Calls, their inputs and outputs: what must never be lost.

An input is pending (no task, not finished), claimed (a task holds it) or finished. Only the task that holds an
input may finish it, and only for the attempt it was given: a result that comes late, from a container that was given
up, is refused. So each accepted input ends in exactly one recorded output.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from jiffy.core.attempts import Attempt, Backoff, accepts, next_retry
from jiffy.errors import ConflictError, NotFoundError
from jiffy.identifiers import derived_id
from jiffy.store.base import Connection, Database, Row

WEB_CALL: Final = 1
"""The type of a call that stands for a web request: of those that no client uses any more."""

_CLAIMED: Final = "SELECT * FROM inputs WHERE task_id=? AND claim_key=? AND finished_at IS NULL"
ROWS_AT_ONCE: Final = 256
"""Rows that one transaction changes where many are to be changed."""

Seen = Callable[[], None]
"""Called once others can see what was committed, which may be before it is durable."""

_REMEMBERED: Final = 1000
"""Calls of which is known, without a look, what never changes."""

_UNATTENDED: Final = (2, 3)
"""The wire API's types of calls whose client does not wait, and does not try again itself."""


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str
    function_id: str
    app_id: str
    invocation_type: int
    cancelled_at: float | None
    parent_input_id: str = ""
    created_at: float = 0.0


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
    created_at: float
    available_at: float


@dataclass(frozen=True, slots=True)
class Claim:
    """An input that a task holds, without its body."""

    input_id: str
    function_id: str
    task_id: str
    claimed_at: float


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
    """A result to record for one attempt at an input. With a `backoff`, it failed: as long as that allows, an input of a
    call for whose outcome nobody waits is tried again instead."""

    input_id: str
    retry_count: int
    body: bytes
    backoff: Backoff | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a task's end changed: calls that gained an output, and how many inputs of which function are pending again."""

    app_id: str
    calls: list[str]
    requeued: dict[str, int]


@dataclass(frozen=True, slots=True)
class Counted:
    """Inputs that wait and that run. `oldest_at`: since when the first of those waits; None without any. `next_at`: when one
    that is to be tried again later comes up; None without any. `is_stopped`: the function's app was, and wants nothing."""

    waiting: int
    running: int
    oldest_at: float | None
    next_at: float | None = None
    is_stopped: bool = False


class Calls:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, Call] = {}

    async def add(self, call: Call, inputs: Sequence[tuple[int, bytes]], seen: Seen | None = None) -> list[str]:
        """Create a call with its first inputs (number, body); gives their ids. Repeating it changes nothing. `seen` is told
        when they can be claimed. ConflictError when its app was stopped. A web request's call is only committed: it is over
        with its server."""

        def work(connection: Connection) -> list[str]:
            if _is_stopped(connection, "app_id", call.app_id):
                raise ConflictError(f"function {call.function_id} cannot be called", why="its app was stopped")
            connection.execute(
                """INSERT INTO calls (call_id, function_id, app_id, invocation_type, created_at, parent_input_id)
                VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING""",
                (
                    call.call_id,
                    call.function_id,
                    call.app_id,
                    call.invocation_type,
                    time.time(),
                    call.parent_input_id,
                ),
            )
            return _insert_inputs(connection, call.call_id, call.function_id, inputs)

        identifiers = await self._database.commit(work)
        if seen is not None:
            seen()
        if call.invocation_type != WEB_CALL:
            await self._database.sync()
        self._remember(call)
        return identifiers

    async def add_inputs(
        self, call_id: str, inputs: Sequence[tuple[int, bytes]], seen: Seen | None = None
    ) -> list[str]:
        """Add inputs to a call, each once however often it is sent. `seen` is called once they can be claimed."""
        call = await self.recall(call_id)

        def work(connection: Connection) -> list[str]:
            return _insert_inputs(connection, call_id, call.function_id, inputs)

        identifiers = await self._database.commit(work)
        if seen is not None:
            seen()
        await self._database.sync()
        return identifiers

    async def recall(self, call_id: str) -> Call:
        """A call, as it was at some time: for what never changes of it."""
        if (call := self._remembered.get(call_id)) is None:
            call = await self.get(call_id)
            self._remember(call)
        return call

    def _is_of_web(self, call_id: str) -> bool:
        """As far as is known without a look."""
        call = self._remembered.get(call_id)
        return call is not None and call.invocation_type == WEB_CALL

    def _remember(self, call: Call) -> None:
        if len(self._remembered) >= _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[call.call_id] = call

    async def get(self, call_id: str) -> Call:
        def work(connection: Connection) -> Call | None:
            row = connection.execute("SELECT * FROM calls WHERE call_id=?", (call_id,)).fetchone()
            return None if row is None else read_call(row)

        if (call := await self._database.read(work)) is None:
            raise NotFoundError(f"no call {call_id}")
        return call

    async def get_input(self, input_id: str) -> Input:
        def work(connection: Connection) -> Input | None:
            row = connection.execute("SELECT * FROM inputs WHERE input_id=?", (input_id,)).fetchone()
            return None if row is None else read_input(row)

        if (found := await self._database.read(work)) is None:
            raise NotFoundError(f"no input {input_id}")
        return found

    async def claim(
        self, function_id: str, task_id: str, limit: int, key: str, *, besides: bool = False
    ) -> list[Input]:
        """Give a task the oldest pending inputs of a function. The same key asks again for the same inputs, or for others
        `besides` them. A task that has ended gets none. A claim that is lost with the power leaves them pending."""

        def work(connection: Connection) -> list[Input]:
            task = connection.execute(
                f"SELECT ended_at FROM tasks WHERE task_id=? {connection.for_share}", (task_id,)
            ).fetchone()
            if task is not None and task["ended_at"] is not None:
                return []
            rows = connection.execute(_CLAIMED, (task_id, key)).fetchall()
            if besides or not rows:
                rows = connection.execute(
                    f"""UPDATE inputs SET task_id=?, claimed_at=?, claim_key=? WHERE position IN (
                    SELECT position FROM inputs WHERE function_id=? AND task_id IS NULL AND finished_at IS NULL
                    AND available_at<=? ORDER BY position LIMIT ? {connection.skip_locked}) RETURNING *""",
                    (task_id, time.time(), key, function_id, time.time(), limit),
                ).fetchall()
            return sorted((read_input(row) for row in rows), key=lambda entry: entry.position)

        if not await self._database.read(lambda connection: _may_claim(connection, function_id, task_id, key)):
            return []
        return await self._database.commit(work)

    async def finish(self, task_id: str, results: Iterable[Result]) -> list[str]:
        """Record results of a task; gives the ids of the calls that gained an output. Stale results are dropped."""
        calls = await self._database.commit(lambda connection: _finish_inputs(connection, results, holder=task_id))
        if not all(self._is_of_web(call_id) for call_id in calls) or not calls:
            await self._database.sync()
        return calls

    async def fail_pending(self, results: Sequence[Result]) -> list[str]:
        """Record results for inputs that no task holds, made by the server itself: some at a time, they may be many."""
        calls: list[str] = []
        for start in range(0, len(results), ROWS_AT_ONCE):
            some = results[start : start + ROWS_AT_ONCE]
            calls += await self._database.write(partial(_finish_inputs, results=some, holder=None))
        return calls

    async def settle(self, task_id: str, reason: str, judge: Callable[[Input], Result | None]) -> Settled:
        """Record a task's end. Of the inputs that it held those fail for which `judge` gives a result; the others are
        pending again, and count one more loss."""

        def work(connection: Connection) -> Settled:
            task = connection.execute(
                "UPDATE tasks SET ended_at=?, reason=? WHERE task_id=? AND ended_at IS NULL RETURNING app_id",
                (time.time(), reason, task_id),
            ).fetchone()
            claimed = connection.execute(
                f"SELECT * FROM inputs WHERE task_id=? AND finished_at IS NULL ORDER BY position {connection.for_update}",
                (task_id,),
            ).fetchall()
            results = [result for row in claimed if (result := judge(read_input(row))) is not None]
            calls = _finish_inputs(connection, results, holder=task_id)
            released = connection.execute(
                """UPDATE inputs SET task_id=NULL, claimed_at=NULL, losses=losses+1
                WHERE task_id=? AND finished_at IS NULL RETURNING function_id""",
                (task_id,),
            ).fetchall()
            requeued = Counter(row["function_id"] for row in released)
            return Settled("" if task is None else task["app_id"], calls, requeued)

        return await self._database.write(work)

    async def release_orphans(self) -> None:
        """Make inputs pending again whose task has ended: the server died between recording the end and this."""

        def work(connection: Connection) -> None:
            connection.execute(
                """UPDATE inputs SET task_id=NULL, claimed_at=NULL, losses=losses+1
                WHERE finished_at IS NULL AND task_id IN (SELECT task_id FROM tasks WHERE ended_at IS NOT NULL)"""
            )

        await self._database.write(work)

    async def cancel_web_calls(self) -> None:
        """Those that are not finished: the server that had their connections is gone."""

        def work(connection: Connection) -> None:
            connection.execute(
                """UPDATE calls SET cancelled_at=? WHERE invocation_type=? AND cancelled_at IS NULL AND call_id IN
                (SELECT call_id FROM inputs WHERE finished_at IS NULL)""",
                (time.time(), WEB_CALL),
            )

        await self._database.write(work)

    async def abandoned(self) -> list[Input]:
        """Unfinished inputs of cancelled calls and stopped apps: nobody runs them, and their end is not recorded yet."""
        return await self._inputs(
            """finished_at IS NULL AND call_id IN (SELECT call_id FROM calls JOIN apps USING (app_id)
            WHERE call_id IN (SELECT DISTINCT call_id FROM inputs WHERE finished_at IS NULL)
            AND (cancelled_at IS NOT NULL OR stopped_at IS NOT NULL)) ORDER BY position"""
        )

    async def retry(self, input_id: str, body: bytes, retry_count: int | None) -> str | None:
        """Make a finished input pending again; gives the function's id, or None when there is nothing to retry.

        `retry_count` names the attempt; None means the next one."""

        def work(connection: Connection) -> str | None:
            row = _lock_input(connection, input_id)
            number = None if row is None else next_retry(_attempt(row), retry_count)
            if number is None:
                return None
            connection.execute(
                "UPDATE inputs SET finished_at=NULL, task_id=NULL, claimed_at=NULL, body=?, retry_count=? WHERE position=?",
                (body, number, row["position"]),
            )
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

    async def demand(self, function_id: str, limit: int) -> Counted:
        """The unfinished inputs of a function, as far as `limit` of each kind."""

        def work(connection: Connection) -> Counted:
            now = time.time()
            waits = "task_id IS NULL AND available_at<=?"
            first = connection.execute(
                f"""SELECT created_at, available_at FROM inputs WHERE function_id=? AND finished_at IS NULL AND {waits}
                ORDER BY position LIMIT 1""",
                (function_id, now),
            ).fetchone()
            later = connection.execute(
                """SELECT min(available_at) AS next_at FROM inputs WHERE function_id=? AND finished_at IS NULL
                AND task_id IS NULL AND available_at>0 AND available_at>?""",
                (function_id, now),
            ).fetchone()
            return Counted(
                _count_up_to(connection, limit, waits, function_id, now),
                _count_up_to(connection, limit, "task_id IS NOT NULL", function_id),
                None if first is None else max(first["created_at"], first["available_at"]),
                later["next_at"],
                _is_stopped(connection, "function_id", function_id),
            )

        return await self._database.read(work)

    async def pending(self, function_id: str) -> list[Input]:
        return await self._inputs(
            "function_id=? AND task_id IS NULL AND finished_at IS NULL ORDER BY position", function_id
        )

    async def claimed_under(self, task_id: str, key: str) -> list[Input]:
        """What a task was given under a key and has not finished."""
        return await self._inputs("task_id=? AND claim_key=? AND finished_at IS NULL ORDER BY position", task_id, key)

    async def claimed_before(self, until: float) -> list[Claim]:
        """All that was claimed before then and is not finished."""

        def work(connection: Connection) -> list[Claim]:
            rows = connection.execute(
                """SELECT input_id, function_id, task_id, claimed_at FROM inputs
                WHERE task_id IS NOT NULL AND finished_at IS NULL AND claimed_at<?""",
                (until,),
            )
            return [Claim(**row) for row in rows]

        return await self._database.read(work)

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
            query = f"SELECT count(*) AS inputs FROM inputs WHERE {condition}"
            return int(connection.execute(query, values).fetchone()["inputs"])

        return await self._database.read(work)

    async def _inputs(self, condition: str, *values: object) -> list[Input]:
        def work(connection: Connection) -> list[Input]:
            return [read_input(row) for row in connection.execute(f"SELECT * FROM inputs WHERE {condition}", values)]

        return await self._database.scan(work)

    async def _outputs(self, condition: str, *values: object) -> list[Output]:
        def work(connection: Connection) -> list[Output]:
            rows = connection.execute(f"SELECT * FROM outputs WHERE {condition}", values)
            return [Output(**row) for row in rows]

        return await self._database.read(work)


def _may_claim(connection: Connection, function_id: str, task_id: str, key: str) -> bool:
    """Whether there is anything for a task that asks: most ask before there is."""
    pending = connection.execute(
        """SELECT 1 FROM inputs WHERE function_id=? AND task_id IS NULL AND finished_at IS NULL AND available_at<=?
        LIMIT 1""",
        (function_id, time.time()),
    ).fetchone()
    return pending is not None or connection.execute(f"{_CLAIMED} LIMIT 1", (task_id, key)).fetchone() is not None


def _is_stopped(connection: Connection, by: str, value: str) -> bool:
    """Whether an app was, found by its id or by that of a function."""
    source = "apps" if by == "app_id" else "apps JOIN functions USING (app_id)"
    row = connection.execute(f"SELECT stopped_at FROM {source} WHERE {by}=?", (value,)).fetchone()
    return row is not None and row["stopped_at"] is not None


def _count_up_to(connection: Connection, limit: int, condition: str, function_id: str, *values: object) -> int:
    found = f"SELECT 1 FROM inputs WHERE function_id=? AND finished_at IS NULL AND {condition} LIMIT ?"
    query = f"SELECT count(*) AS inputs FROM ({found}) AS found"
    return int(connection.execute(query, (function_id, *values, limit)).fetchone()["inputs"])


def _insert_inputs(
    connection: Connection, call_id: str, function_id: str, inputs: Sequence[tuple[int, bytes]]
) -> list[str]:
    identifiers = [derived_id("in", call_id, str(number)) for number, _ in inputs]
    connection.executemany(
        """INSERT INTO inputs (input_id, call_id, function_id, number, body, created_at) VALUES (?,?,?,?,?,?)
        ON CONFLICT DO NOTHING""",
        [
            (identifier, call_id, function_id, number, body, time.time())
            for identifier, (number, body) in zip(identifiers, inputs, strict=True)
        ],
    )
    return identifiers


def _finish_inputs(connection: Connection, results: Iterable[Result], *, holder: str | None) -> list[str]:
    """Gives the calls that gained an output."""
    return [call_id for result in results if (call_id := _finish_input(connection, result, holder))]


def _finish_input(connection: Connection, result: Result, holder: str | None) -> str:
    """Gives the call; empty when the result is refused."""
    row = _lock_input(connection, result.input_id)
    if row is None or not accepts(_attempt(row), holder, result.retry_count):
        return ""
    if _try_again(connection, row, result):
        return ""
    connection.lock(row["call_id"])
    connection.execute("UPDATE inputs SET finished_at=? WHERE position=?", (time.time(), row["position"]))
    connection.execute(
        "INSERT INTO outputs (call_id, input_id, number, body) VALUES (?,?,?,?)",
        (row["call_id"], result.input_id, row["number"], result.body),
    )
    return str(row["call_id"])


def _try_again(connection: Connection, row: Row, result: Result) -> bool:
    """Make a failed input wait for its next try, if it has one left and its client leaves that to the platform."""
    delay = None if result.backoff is None else result.backoff.delay(row["retry_count"])
    if delay is None:
        return False
    query = "SELECT invocation_type, cancelled_at FROM calls WHERE call_id=?"
    call = connection.execute(query, (row["call_id"],)).fetchone()
    if call["invocation_type"] not in _UNATTENDED or call["cancelled_at"] is not None:
        return False
    connection.execute(
        """UPDATE inputs SET task_id=NULL, claimed_at=NULL, losses=0, retry_count=retry_count+1, available_at=?
        WHERE position=?""",
        (time.time() + delay, row["position"]),
    )
    return True


def _lock_input(connection: Connection, input_id: str) -> Any:
    """Without its body."""
    columns = "position, call_id, function_id, number, retry_count, task_id, finished_at"
    query = f"SELECT {columns} FROM inputs WHERE input_id=? {connection.for_update}"
    return connection.execute(query, (input_id,)).fetchone()


def _attempt(row: Row) -> Attempt:
    return Attempt(row["task_id"], row["retry_count"], row["finished_at"] is not None)


def read_call(row: Row) -> Call:
    return Call(**row)


def read_input(row: Row) -> Input:
    return Input(**row)
