"""What containers printed and builds reported, in the order in which it arrived."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class LogLine:
    """`position` grows; a reader that knows the last one it saw can go on from there. `app_id` is the id of the app,
    or of the image that was built. `stream`: 1 stdout, 2 stderr, 3 the platform's own. `written_at`: seconds since
    the epoch."""

    position: int
    app_id: str
    task_id: str
    function_id: str
    stream: int
    text: str
    written_at: float


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Lines of one app or image, from a time to before another. What is empty or 0 does not matter."""

    owner_id: str
    since: float
    until: float
    task_id: str = ""
    function_id: str = ""
    stream: int = 0
    text: str = ""

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """SQL with its parameters."""
        terms: list[tuple[str, Any]] = [
            ("app_id=?", self.owner_id),
            ("written_at>=?", self.since),
            ("written_at<?", self.until),
        ]
        terms += [
            (term, value)
            for term, value in (
                ("task_id=?", self.task_id),
                ("function_id=?", self.function_id),
                ("stream=?", self.stream),
                ("replace(text, ?, '') <> text", self.text),
            )
            if value
        ]
        return " AND ".join(term for term, _ in terms), [value for _, value in terms]


class Logs:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._dropped_until = 0
        """The position up to which only lines of builds are left."""

    async def after(self, app_id: str, position: int, limit: int = 500) -> list[LogLine]:
        """What was printed after a position."""

        def work(connection: Connection) -> list[LogLine]:
            rows = connection.execute(
                "SELECT * FROM logs WHERE app_id=? AND position>? ORDER BY position LIMIT ?",
                (app_id, position, limit),
            )
            return [LogLine(**row) for row in rows]

        return await self._database.read(work)

    async def following(self, query: LogQuery, position: int, limit: int = 500) -> list[LogLine]:
        """Lines that a query finds after a position."""

        def work(connection: Connection) -> list[LogLine]:
            condition, values = query.condition
            rows = connection.execute(
                f"SELECT * FROM logs WHERE {condition} AND position>? ORDER BY position LIMIT ?",
                (*values, position, limit),
            )
            return [LogLine(**row) for row in rows]

        return await self._database.read(work)

    async def last(self, query: LogQuery, limit: int) -> list[LogLine]:
        """The last lines that a query finds, in order."""

        def work(connection: Connection) -> list[LogLine]:
            condition, values = query.condition
            rows = connection.execute(
                f"SELECT * FROM logs WHERE {condition} ORDER BY position DESC LIMIT ?", (*values, limit)
            )
            return [LogLine(**row) for row in rows][::-1]

        return await self._database.scan(work)

    async def count(self, query: LogQuery, seconds: int) -> dict[int, dict[int, int]]:
        """Lines that a query finds: start of a stretch of so many seconds -> stream -> how many."""

        def work(connection: Connection) -> dict[int, dict[int, int]]:
            condition, values = query.condition
            rows = connection.execute(
                f"""SELECT floor(written_at / ?) * ? AS start, stream, COUNT(*) AS lines
                FROM logs WHERE {condition} GROUP BY start, stream""",
                (seconds, seconds, *values),
            )
            found: dict[int, dict[int, int]] = {}
            for row in rows:
                found.setdefault(int(row["start"]), {})[row["stream"]] = row["lines"]
            return found

        return await self._database.scan(work)

    async def span(self, owner_id: str) -> tuple[float, float] | None:
        """When the first and the last line came; None when there is none."""

        def work(connection: Connection) -> tuple[float, float] | None:
            query = "SELECT MIN(written_at) AS first, MAX(written_at) AS last FROM logs WHERE app_id=?"
            row = connection.execute(query, (owner_id,)).fetchone()
            return None if row["first"] is None else (row["first"], row["last"])

        return await self._database.scan(work)

    async def write(self, app_id: str, task_id: str, function_id: str, stream: int, text: str) -> None:
        """Add a line of the platform's own."""

        def work(connection: Connection) -> None:
            _insert(connection, [(app_id, task_id, function_id, stream, text, time.time())])

        await self._database.write(work)

    async def write_all(self, owner_id: str, stream: int, lines: Sequence[tuple[float, str]]) -> None:
        """Add lines, each with its time."""

        def work(connection: Connection) -> None:
            _insert(connection, [(owner_id, "", "", stream, text, at) for at, text in lines])

        await self._database.write(work)

    async def forget_before(self, until: float, limit: int) -> int:
        """Look at so many of the oldest lines, and drop those from before then, but for lines of builds: they go with their
        image. Gives how many are from before then."""

        def find(connection: Connection) -> list[int]:
            query = "SELECT position, written_at FROM logs WHERE position>? ORDER BY position LIMIT ?"
            oldest = connection.execute(query, (self._dropped_until, limit))
            return [row["position"] for row in takewhile(lambda row: row["written_at"] < until, oldest)]

        def drop(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM logs WHERE position>? AND position<=? AND substr(app_id, 1, 3)<>'im-'",
                (self._dropped_until, old[-1]),
            )

        if old := await self._database.scan(find):
            await self._database.write(drop)
            self._dropped_until = old[-1]
        return len(old)

    async def forget(self, owner_id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM logs WHERE app_id=?", (owner_id,))

        await self._database.write(work)


def _insert(connection: Connection, rows: Sequence[tuple[str, str, str, int, str, float]]) -> None:
    for owner_id in sorted({row[0] for row in rows}):
        connection.lock(owner_id)
    connection.executemany(
        "INSERT INTO logs (app_id, task_id, function_id, stream, text, written_at) VALUES (?,?,?,?,?,?)", rows
    )
