"""What containers printed, in the order in which it arrived."""

from __future__ import annotations

import time
from dataclasses import dataclass
from sqlite3 import Connection

from jiffy.store.database import Database


@dataclass(frozen=True, slots=True)
class LogLine:
    """`position` grows; a reader that knows the last one it saw can go on from there. `stream`: 1 stdout, 2 stderr."""

    position: int
    app_id: str
    task_id: str
    function_id: str
    stream: int
    text: str
    written_at: float


class Logs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, app_id: str, position: int, limit: int = 500) -> list[LogLine]:
        """What an app printed after a position."""

        def work(connection: Connection) -> list[LogLine]:
            rows = connection.execute(
                "SELECT * FROM logs WHERE app_id=? AND position>? ORDER BY position LIMIT ?",
                (app_id, position, limit),
            )
            return [LogLine(**row) for row in rows]

        return await self._database.read(work)

    async def write(self, app_id: str, task_id: str, function_id: str, stream: int, text: str) -> None:
        """Add a line of the platform's own."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO logs (app_id, task_id, function_id, stream, text, written_at) VALUES (?,?,?,?,?,?)",
                (app_id, task_id, function_id, stream, text, time.time()),
            )

        await self._database.write(work)
