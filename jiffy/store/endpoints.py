"""Web endpoints: under which name of a host which function answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from jiffy.store.base import Connection, Database


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`host` is a label below the server's own name, or a whole domain. `method`: the one of a class that answers, empty for
    a plain function. `is_guarded`: only who shows a token gets in."""

    host: str
    function_id: str
    app_id: str
    method: str
    is_guarded: bool


class Endpoints:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """The newest has a host; gives those that were taken from another app which lives."""

        def work(connection: Connection) -> list[str]:
            return [each.host for each in endpoints if _put(connection, each)]

        return await self._database.write(work)

    async def find(self, host: str) -> Endpoint | None:
        """Of an app that is not stopped."""

        def work(connection: Connection) -> Endpoint | None:
            row = connection.execute(
                """SELECT host, function_id, app_id, method, is_guarded FROM endpoints JOIN apps USING (app_id)
                WHERE host=? AND stopped_at IS NULL""",
                (host,),
            ).fetchone()
            return None if row is None else Endpoint(**{**dict(row), "is_guarded": bool(row["is_guarded"])})

        return await self._database.read(work)


def _put(connection: Connection, endpoint: Endpoint) -> bool:
    """Whether it was taken from another app."""
    other = connection.execute(
        """SELECT 1 FROM endpoints JOIN apps USING (app_id) WHERE host=? AND app_id<>? AND stopped_at IS NULL""",
        (endpoint.host, endpoint.app_id),
    ).fetchone()
    connection.execute(
        """INSERT INTO endpoints (host, function_id, app_id, method, is_guarded, created_at) VALUES (?,?,?,?,?,?)
        ON CONFLICT (host) DO UPDATE SET function_id=excluded.function_id, app_id=excluded.app_id,
        method=excluded.method, is_guarded=excluded.is_guarded, created_at=excluded.created_at""",
        (
            endpoint.host,
            endpoint.function_id,
            endpoint.app_id,
            endpoint.method,
            int(endpoint.is_guarded),
            time.time(),
        ),
    )
    return other is not None
