"""Tokens that clients and workers present. Only a hash of the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row

_ISSUED: Final = "SELECT token_id, kind, created_at, expires_at, approved_by FROM tokens"
_TRUST_SECONDS: Final = 10.0
"""How long an answer is remembered: every call of a client asks, and another server may revoke a token."""


class TokenKind(StrEnum):
    CLIENT = "client"
    WORKER = "worker"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """`approved_by`: the token that was shown for it; empty for those that the server made by itself."""

    token_id: str
    kind: TokenKind
    created_at: float
    expires_at: float | None = None
    approved_by: str = ""

    @property
    def stays(self) -> bool:
        """Without the token of clients that a server has made nobody could ask it."""
        return self.kind is TokenKind.CLIENT and not self.approved_by


@dataclass(frozen=True, slots=True)
class _Known:
    secret_sha256: str
    kind: TokenKind
    expires_at: float
    read_at: float


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Tokens:
    """Issued tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, _Known] = {}

    async def add(
        self,
        token_id: str,
        secret: str,
        kind: TokenKind = TokenKind.CLIENT,
        *,
        expires_at: float | None = None,
        approved_by: str = "",
    ) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO tokens (token_id, secret_sha256, created_at, kind, expires_at, approved_by)
                VALUES (?,?,?,?,?,?) ON CONFLICT (token_id) DO UPDATE SET secret_sha256=excluded.secret_sha256""",
                (token_id, _hash(secret), time.time(), kind, expires_at, approved_by),
            )

        await self._database.write(work)
        self._known.pop(token_id, None)

    async def kind_of(self, token_id: str, secret: str) -> TokenKind | None:
        """What it is for, when this server issued the token with this secret, has not revoked it, and it has not expired."""
        known = self._known.get(token_id)
        if known is None or known.read_at + _TRUST_SECONDS < time.monotonic():
            known = await self._read(token_id)
        if known is None or known.expires_at <= time.time():
            return None
        if not hmac.compare_digest(known.secret_sha256, _hash(secret)):
            return None
        self._known[token_id] = known
        return known.kind

    async def issued(self) -> list[IssuedToken]:
        """The oldest first."""

        def work(connection: Connection) -> list[IssuedToken]:
            return [_issued(row) for row in connection.execute(f"{_ISSUED} ORDER BY created_at, token_id")]

        return await self._database.read(work)

    async def get(self, token_id: str) -> IssuedToken:
        def work(connection: Connection) -> IssuedToken | None:
            row = connection.execute(f"{_ISSUED} WHERE token_id=?", (token_id,)).fetchone()
            return None if row is None else _issued(row)

        if (found := await self._database.read(work)) is None:
            raise NotFoundError(f"no token {token_id}")
        return found

    async def revoke(self, token_id: str) -> bool:
        """Whether there was such a token."""

        def work(connection: Connection) -> bool:
            return connection.execute("DELETE FROM tokens WHERE token_id=?", (token_id,)).rowcount > 0

        found = await self._database.write(work)
        self._known.pop(token_id, None)
        return found

    async def _read(self, token_id: str) -> _Known | None:
        def work(connection: Connection) -> _Known | None:
            query = "SELECT secret_sha256, kind, expires_at FROM tokens WHERE token_id=?"
            row = connection.execute(query, (token_id,)).fetchone()
            if row is None:
                return None
            expires_at = math.inf if row["expires_at"] is None else row["expires_at"]
            return _Known(row["secret_sha256"], TokenKind(row["kind"]), expires_at, time.monotonic())

        return await self._database.read(work)


def _issued(row: Row) -> IssuedToken:
    return IssuedToken(**{**row, "kind": TokenKind(row["kind"])})
