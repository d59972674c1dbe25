"""Apps: what a program created, and what it published under which name."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from jiffy.errors import ConflictError, NotFoundError
from jiffy.store.base import Connection, Database, Row

NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class App:
    """`state` is the wire API's AppState. `function_ids` maps a published name to an id. `name` is empty until the app is
    deployed, and `version` 0."""

    app_id: str
    description: str
    state: int
    created_at: float
    heartbeat_at: float
    stopped_at: float | None
    function_ids: dict[str, str]
    class_ids: dict[str, str]
    environment: str = "main"
    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One deployment of an app. `commit_info` is a serialized CommitInfo, `definition_ids` maps a function's id to its
    definition's. `rollback_version`: which one it brought back; 0 for none, the one before it for a
    rollover. A request that is repeated has the same `request_id`."""

    app_id: str
    version: int
    deployed_at: float
    deployed_by: str
    client_version: str
    tag: str
    commit_info: bytes
    function_ids: dict[str, str]
    class_ids: dict[str, str]
    definition_ids: dict[str, str]
    rollback_version: int = 0
    request_id: str = ""

    @property
    def is_rollover(self) -> bool:
        """What the version before it was, in new containers."""
        return 0 < self.rollback_version == self.version - 1


class Apps:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, app_id: str, description: str, state: int, environment: str = "main", tags: Mapping[str, str] = NO_TAGS
    ) -> None:
        """Create; a repeated request changes nothing."""

        def work(connection: Connection) -> None:
            now = time.time()
            connection.execute(
                """INSERT INTO apps (app_id, description, state, created_at, heartbeat_at, environment, tags)
                VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING""",
                (app_id, description, state, now, now, environment, json.dumps(dict(tags))),
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

    async def find(self, environment: str, name: str) -> App | None:
        """The app that is deployed under a name."""

        def work(connection: Connection) -> App | None:
            query = "SELECT * FROM apps WHERE environment=? AND name=? AND name<>'' AND stopped_at IS NULL"
            row = connection.execute(query, (environment, name)).fetchone()
            return None if row is None else _app(row)

        return await self._database.read(work)

    async def listed(self, environment: str, stopped_since: float) -> list[App]:
        """Live ones and those that stopped since then, the newest first."""

        def work(connection: Connection) -> list[App]:
            query = """SELECT * FROM apps WHERE environment=? AND (stopped_at IS NULL OR stopped_at>=?)
            ORDER BY created_at DESC"""
            return [_app(row) for row in connection.execute(query, (environment, stopped_since))]

        return await self._database.read(work)

    async def set_tags(self, app_id: str, tags: Mapping[str, str]) -> None:
        def work(connection: Connection) -> None:
            connection.execute("UPDATE apps SET tags=? WHERE app_id=?", (json.dumps(dict(tags)), app_id))

        await self._database.write(work)

    async def name(self, app_id: str, name: str) -> None:
        """Give an app a name. ConflictError when another live one has it."""

        def work(connection: Connection) -> None:
            connection.lock(f"app {name}")
            row = connection.execute(
                """SELECT app_id FROM apps WHERE name=? AND stopped_at IS NULL AND app_id<>?
                AND environment=(SELECT environment FROM apps WHERE app_id=?)""",
                (name, app_id, app_id),
            ).fetchone()
            if row is not None:
                raise ConflictError(f"another app is deployed as {name} meanwhile", hint="deploy again")
            connection.execute("UPDATE apps SET name=?, description=? WHERE app_id=?", (name, name, app_id))

        await self._database.write(work)

    async def deploy(self, version: Version, state: int) -> Version:
        """Make a version what the app is, with the next number; gives it with that."""

        def work(connection: Connection) -> Version:
            connection.lock(version.app_id)
            query = "SELECT * FROM app_versions WHERE app_id=? AND request_id=?"
            if (made := connection.execute(query, (version.app_id, version.request_id)).fetchone()) is not None:
                return _version(made)
            row = connection.execute(
                """UPDATE apps SET version=version+1, state=?, function_ids=?, class_ids=?
                WHERE app_id=? AND stopped_at IS NULL RETURNING version""",
                (state, json.dumps(version.function_ids), json.dumps(version.class_ids), version.app_id),
            ).fetchone()
            if row is None:
                raise ConflictError(f"app {version.app_id} was stopped meanwhile", hint="deploy it again")
            numbered = replace(version, version=row["version"])
            connection.execute(
                """INSERT INTO app_versions (app_id, version, deployed_at, deployed_by, client_version, tag, commit_info,
                function_ids, class_ids, definition_ids, rollback_version, request_id)
                VALUES (?,?,?,?,?,?,?,?,?,?,?,?)""",
                (
                    numbered.app_id,
                    numbered.version,
                    numbered.deployed_at,
                    numbered.deployed_by,
                    numbered.client_version,
                    numbered.tag,
                    numbered.commit_info,
                    json.dumps(numbered.function_ids),
                    json.dumps(numbered.class_ids),
                    json.dumps(numbered.definition_ids),
                    numbered.rollback_version,
                    numbered.request_id,
                ),
            )
            return numbered

        return await self._database.write(work)

    async def versions(self, app_id: str) -> list[Version]:
        """The newest first."""

        def work(connection: Connection) -> list[Version]:
            rows = connection.execute("SELECT * FROM app_versions WHERE app_id=? ORDER BY version DESC", (app_id,))
            return [_version(row) for row in rows]

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
        environment=row["environment"],
        name=row["name"],
        tags=json.loads(row["tags"]),
        version=row["version"],
    )


def _version(row: Row) -> Version:
    fields = dict(row)
    for name in ("function_ids", "class_ids", "definition_ids"):
        fields[name] = json.loads(fields[name])
    return Version(**fields)
