"""Tokens that clients and workers present. Only a hash of the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import time

from jiffy.store.base import Connection, Database


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Tokens:
    """Issued tokens. Answers are remembered: every call of a client asks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, str] = {}

    async def add(self, token_id: str, secret: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO tokens VALUES (?,?,?)
                ON CONFLICT (token_id) DO UPDATE SET secret_sha256=excluded.secret_sha256""",
                (token_id, _hash(secret), time.time()),
            )

        await self._database.write(work)

    async def is_valid(self, token_id: str, secret: str) -> bool:
        """True when this server issued the token with this secret."""
        known = self._known.get(token_id) or await self._read(token_id)
        if known is None:
            return False
        self._known[token_id] = known
        return hmac.compare_digest(known, _hash(secret))

    async def _read(self, token_id: str) -> str | None:
        def work(connection: Connection) -> str | None:
            row = connection.execute("SELECT secret_sha256 FROM tokens WHERE token_id=?", (token_id,)).fetchone()
            return None if row is None else str(row["secret_sha256"])

        return await self._database.read(work)
