"""Tokens that clients and workers present. Only a hash of the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jiffy.store.base import Connection, Database

_TRUST_SECONDS: Final = 10.0
"""How long an answer is remembered: every call of a client asks, and another server may revoke a token."""


class TokenKind(StrEnum):
    CLIENT = "client"
    WORKER = "worker"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    token_id: str
    kind: TokenKind
    created_at: float


@dataclass(frozen=True, slots=True)
class _Known:
    secret_sha256: str
    kind: TokenKind
    read_at: float


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Tokens:
    """Issued tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, _Known] = {}

    async def add(self, token_id: str, secret: str, kind: TokenKind = TokenKind.CLIENT) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO tokens (token_id, secret_sha256, created_at, kind) VALUES (?,?,?,?)
                ON CONFLICT (token_id) DO UPDATE SET secret_sha256=excluded.secret_sha256""",
                (token_id, _hash(secret), time.time(), kind),
            )

        await self._database.write(work)
        self._known.pop(token_id, None)

    async def kind_of(self, token_id: str, secret: str) -> TokenKind | None:
        """What it is for, when this server issued the token with this secret and has not revoked it."""
        known = self._known.get(token_id)
        if known is None or known.read_at + _TRUST_SECONDS < time.monotonic():
            known = await self._read(token_id)
        if known is None or not hmac.compare_digest(known.secret_sha256, _hash(secret)):
            return None
        self._known[token_id] = known
        return known.kind

    async def issued(self) -> list[IssuedToken]:
        """The oldest first."""

        def work(connection: Connection) -> list[IssuedToken]:
            rows = connection.execute("SELECT token_id, kind, created_at FROM tokens ORDER BY created_at, token_id")
            return [IssuedToken(row["token_id"], TokenKind(row["kind"]), row["created_at"]) for row in rows]

        return await self._database.read(work)

    async def revoke(self, token_id: str) -> bool:
        """Whether there was such a token."""

        def work(connection: Connection) -> bool:
            return connection.execute("DELETE FROM tokens WHERE token_id=?", (token_id,)).rowcount > 0

        found = await self._database.write(work)
        self._known.pop(token_id, None)
        return found

    async def _read(self, token_id: str) -> _Known | None:
        def work(connection: Connection) -> _Known | None:
            query = "SELECT secret_sha256, kind FROM tokens WHERE token_id=?"
            row = connection.execute(query, (token_id,)).fetchone()
            return None if row is None else _Known(row["secret_sha256"], TokenKind(row["kind"]), time.monotonic())

        return await self._database.read(work)
