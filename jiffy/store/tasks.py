"""Tasks: containers as the platform remembers them, and the events of the workers that run them.

A worker sends each event until it is acknowledged, so an event may arrive twice, also after a restart of the server.
Its sequence number is recorded in the transaction that applies it: an event is applied once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jiffy.core.events import ContainerStarted, Event, LogWritten
from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row

MOMENTS = ("hello_at", "ready_at", "first_output_at")


@dataclass(frozen=True, slots=True)
class Task:
    """Times are seconds since the epoch, None when not reached. `phases`: seconds that each step of the start took."""

    task_id: str
    function_id: str
    app_id: str
    worker_id: str
    created_at: float
    started_at: float | None
    hello_at: float | None
    ready_at: float | None
    first_output_at: float | None
    ended_at: float | None
    address: str | None
    phases: dict[str, float]
    reason: str


class Tasks:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, task_id: str, function_id: str, app_id: str, worker_id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO tasks (task_id, function_id, app_id, worker_id, created_at) VALUES (?,?,?,?,?)
                ON CONFLICT DO NOTHING""",
                (task_id, function_id, app_id, worker_id, time.time()),
            )

        await self._database.write(work)

    async def get(self, task_id: str) -> Task:
        tasks = await self._select("task_id=?", task_id)
        if not tasks:
            raise NotFoundError(f"no container {task_id}")
        return tasks[0]

    async def live(self) -> list[Task]:
        return await self._select("ended_at IS NULL")

    async def count_live(self, app_id: str) -> int:
        """An app's containers that have not ended."""

        def work(connection: Connection) -> int:
            query = "SELECT count(*) AS tasks FROM tasks WHERE app_id=? AND ended_at IS NULL"
            return int(connection.execute(query, (app_id,)).fetchone()["tasks"])

        return await self._database.read(work)

    async def latest(self) -> Task | None:
        """The container that gave its first output last."""
        tasks = await self._select("first_output_at IS NOT NULL ORDER BY created_at DESC LIMIT 1")
        return tasks[0] if tasks else None

    async def mark(self, task_id: str, moment: str) -> None:
        """Note when a task first reached one of MOMENTS."""
        assert moment in MOMENTS

        def work(connection: Connection) -> None:
            connection.execute(
                f"UPDATE tasks SET {moment}=? WHERE task_id=? AND {moment} IS NULL", (time.time(), task_id)
            )

        await self._database.write(work)

    async def end(self, task_id: str, reason: str, ended_at: float) -> bool:
        """Record the end; False when it was recorded before."""

        def work(connection: Connection) -> bool:
            cursor = connection.execute(
                "UPDATE tasks SET ended_at=?, reason=? WHERE task_id=? AND ended_at IS NULL",
                (ended_at, reason, task_id),
            )
            return cursor.rowcount == 1

        return await self._database.write(work)

    async def apply(
        self, worker_id: str, events: Sequence[tuple[int, Event]], silent: Collection[str] = ()
    ) -> list[Event]:
        """Record (sequence, event) pairs in one transaction; gives back those that are new, in order. The output of `silent`
        tasks is not recorded."""

        def work(connection: Connection) -> list[Event]:
            connection.lock(worker_id)
            last = _last_sequence(connection, worker_id)
            fresh = [(sequence, event) for sequence, event in events if sequence > last]
            for _, event in fresh:
                if not (isinstance(event, LogWritten) and event.task_id in silent):
                    _record(connection, event)
            if fresh:
                connection.execute(
                    """INSERT INTO acknowledged_events VALUES (?,?)
                    ON CONFLICT (worker_id) DO UPDATE SET sequence=excluded.sequence""",
                    (worker_id, fresh[-1][0]),
                )
            return [event for _, event in fresh]

        return await self._database.write(work)

    async def _select(self, condition: str, *values: object) -> list[Task]:
        def work(connection: Connection) -> list[Task]:
            return [_task(row) for row in connection.execute(f"SELECT * FROM tasks WHERE {condition}", values)]

        return await self._database.read(work)


def _last_sequence(connection: Connection, worker_id: str) -> int:
    row = connection.execute("SELECT sequence FROM acknowledged_events WHERE worker_id=?", (worker_id,)).fetchone()
    return 0 if row is None else int(row["sequence"])


def _record(connection: Connection, event: Event) -> None:
    """Starts and output are facts; what an exit means is the scheduler's to decide."""
    if isinstance(event, ContainerStarted):
        connection.execute(
            "UPDATE tasks SET started_at=?, address=?, phases=? WHERE task_id=?",
            (event.started_at, event.address, json.dumps(event.phases), event.task_id),
        )
    elif isinstance(event, LogWritten):
        _lock_log(connection, event.task_id)
        connection.execute(
            """INSERT INTO logs (app_id, task_id, function_id, stream, text, written_at)
            SELECT app_id, task_id, function_id, ?, ?, ? FROM tasks WHERE task_id=?""",
            (event.stream, event.text, event.written_at, event.task_id),
        )


def _lock_log(connection: Connection, task_id: str) -> None:
    row = connection.execute("SELECT app_id FROM tasks WHERE task_id=?", (task_id,)).fetchone()
    if row is not None:
        connection.lock(row["app_id"])


def _task(row: Row) -> Task:
    fields = dict(row)
    fields["phases"] = json.loads(fields["phases"])
    return Task(**fields)
