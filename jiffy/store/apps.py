"""Apps: what a program created, and what it published under which name."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class App:
    """`state` is the wire API's AppState. `function_ids` maps a published name to an id."""

    app_id: str
    description: str
    state: int
    created_at: float
    heartbeat_at: float
    stopped_at: float | None
    function_ids: dict[str, str]
    class_ids: dict[str, str]


class Apps:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, app_id: str, description: str, state: int) -> None:
        """Create; a repeated request changes nothing."""

        def work(connection: Connection) -> None:
            now = time.time()
            connection.execute(
                """INSERT INTO apps (app_id, description, state, created_at, heartbeat_at) VALUES (?,?,?,?,?)
                ON CONFLICT DO NOTHING""",
                (app_id, description, state, now, now),
            )

        await self._database.write(work)

    async def get(self, app_id: str) -> App:
        def work(connection: Connection) -> App | None:
            row = connection.execute("SELECT * FROM apps WHERE app_id=?", (app_id,)).fetchone()
            return None if row is None else _app(row)

        if (app := await self._database.read(work)) is None:
            raise NotFoundError(f"no app {app_id}")
        return app

    async def live(self) -> list[App]:
        """All apps that are not stopped."""

        def work(connection: Connection) -> list[App]:
            return [_app(row) for row in connection.execute("SELECT * FROM apps WHERE stopped_at IS NULL")]

        return await self._database.read(work)

    async def publish(self, app_id: str, state: int, functions: dict[str, str], classes: dict[str, str]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE apps SET function_ids=?, class_ids=? WHERE app_id=?",
                (json.dumps(functions), json.dumps(classes), app_id),
            )
            if state:
                connection.execute("UPDATE apps SET state=? WHERE app_id=?", (state, app_id))

        await self._database.write(work)

    async def beat(self, app_id: str) -> None:
        """Note that the app's client is alive."""

        def work(connection: Connection) -> None:
            connection.execute("UPDATE apps SET heartbeat_at=? WHERE app_id=?", (time.time(), app_id))

        await self._database.write(work)

    async def set_state(self, app_id: str, state: int, *, stopped: bool = False) -> bool:
        """Move a live app to a state; False when it was stopped before."""

        def work(connection: Connection) -> bool:
            cursor = connection.execute(
                "UPDATE apps SET state=?, stopped_at=? WHERE app_id=? AND stopped_at IS NULL",
                (state, time.time() if stopped else None, app_id),
            )
            return cursor.rowcount == 1

        return await self._database.write(work)


def _app(row: Row) -> App:
    return App(
        app_id=row["app_id"],
        description=row["description"],
        state=row["state"],
        created_at=row["created_at"],
        heartbeat_at=row["heartbeat_at"],
        stopped_at=row["stopped_at"],
        function_ids=json.loads(row["function_ids"]),
        class_ids=json.loads(row["class_ids"]),
    )
