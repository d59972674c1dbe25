"""Secrets: environment variables that a program's containers and builds get, and nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row
from jiffy.store.ciphers import Cipher


@dataclass(frozen=True, slots=True)
class Secret:
    """`name` is empty for one that belongs to an app. `created_at`: seconds since the epoch."""

    secret_id: str
    environment: str
    name: str
    app_id: str
    variables: dict[str, str]
    created_at: float = 0.0


class Secrets:
    """Their values are in the database as `cipher` makes them."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher

    async def put(self, secret: Secret) -> None:
        """Add, or replace all of its variables."""

        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO secrets (secret_id, environment, name, app_id, variables, created_at) VALUES (?,?,?,?,?,?)
                ON CONFLICT (secret_id) DO UPDATE SET variables=excluded.variables""",
                (
                    secret.secret_id,
                    secret.environment,
                    secret.name or None,
                    secret.app_id,
                    self._cipher.encrypt(json.dumps(secret.variables)),
                    time.time(),
                ),
            )

        await self._database.write(work)

    async def change(self, secret_id: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        """Let its variables be what becomes of them; what others change at the same time is kept."""

        def work(connection: Connection) -> None:
            connection.lock(f"secret {secret_id}")
            row = connection.execute("SELECT * FROM secrets WHERE secret_id=?", (secret_id,)).fetchone()
            if row is None:
                raise NotFoundError(f"no secret {secret_id}")
            changed = self._cipher.encrypt(json.dumps(change(self._secret(row).variables)))
            connection.execute("UPDATE secrets SET variables=? WHERE secret_id=?", (changed, secret_id))

        await self._database.write(work)

    async def get(self, secret_id: str) -> Secret:
        found = await self._select("secret_id=?", secret_id)
        if not found:
            raise NotFoundError(f"no secret {secret_id}")
        return found[0]

    async def find(self, environment: str, name: str) -> Secret | None:
        found = await self._select("environment=? AND name=?", environment, name)
        return found[0] if found else None

    async def named(self, environment: str) -> list[Secret]:
        """Those that have a name, in the order of their names."""
        return await self._select("environment=? AND name IS NOT NULL ORDER BY name", environment)

    async def delete(self, secret_id: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM secrets WHERE secret_id=?", (secret_id,))

        await self._database.write(work)

    async def _select(self, condition: str, *values: object) -> list[Secret]:
        def work(connection: Connection) -> list[Secret]:
            return [self._secret(row) for row in connection.execute(f"SELECT * FROM secrets WHERE {condition}", values)]

        return await self._database.read(work)

    async def encrypt_all(self) -> None:
        """Those too that were written before there was a key."""

        def work(connection: Connection) -> None:
            for row in connection.execute("SELECT secret_id, variables FROM secrets").fetchall():
                plain = self._cipher.decrypt(row["variables"])
                if plain == row["variables"]:
                    connection.execute(
                        "UPDATE secrets SET variables=? WHERE secret_id=?",
                        (self._cipher.encrypt(plain), row["secret_id"]),
                    )

        await self._database.write(work)

    def _secret(self, row: Row) -> Secret:
        return Secret(
            secret_id=row["secret_id"],
            environment=row["environment"],
            name=row["name"] or "",
            app_id=row["app_id"],
            variables=dict(json.loads(self._cipher.decrypt(row["variables"]))),
            created_at=row["created_at"],
        )
