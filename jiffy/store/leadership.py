"""Which of several servers on one store leads: at most one at a time, known by a term that grows.

Who leads must say so again before its time is over, by the clock of the store. What the leader writes is checked against
its term in the same transaction: a leader that was stopped for a while, and succeeded meanwhile, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from jiffy.errors import UnavailableError
from jiffy.store.base import Connection, Database, Work

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leader:
    """`address` is where other servers reach it."""

    address: str
    term: int


class Leadership:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, address: str, seconds: float) -> int | None:
        """Lead for some seconds, unless another does; gives the term. Who led at this address before leads again."""

        def work(connection: Connection) -> int | None:
            row = connection.execute(
                f"""UPDATE leadership SET address=?, term=term+1, expires_at={connection.now}+?
                WHERE expires_at<{connection.now} OR address=? RETURNING term""",
                (address, seconds, address),
            ).fetchone()
            return None if row is None else int(row["term"])

        return await self._database.write(work)

    async def renew(self, term: int, seconds: float) -> bool:
        """Go on for some seconds from now; False when another leads."""

        def work(connection: Connection) -> bool:
            query = f"UPDATE leadership SET expires_at={connection.now}+? WHERE term=?"
            return connection.execute(query, (seconds, term)).rowcount > 0

        return await self._database.write(work)

    async def release(self, term: int) -> None:
        """Lead no more: another may at once."""

        def work(connection: Connection) -> None:
            connection.execute("UPDATE leadership SET expires_at=0, address='' WHERE term=?", (term,))

        await self._database.write(work)

    async def current(self) -> Leader | None:
        """Who leads now, if somebody does."""

        def work(connection: Connection) -> Leader | None:
            query = f"SELECT address, term FROM leadership WHERE expires_at>={connection.now}"
            row = connection.execute(query).fetchone()
            return None if row is None else Leader(row["address"], row["term"])

        return await self._database.read(work)


class LeadersDatabase:
    """A database on which only the leader of a term writes, who leads for `margin` seconds to come: longer than the engine
    lets a transaction stand still."""

    def __init__(self, database: Database, term: int, margin: float) -> None:
        self._database = database
        self._term = term
        self._margin = margin

    async def write(self, work: Work[T]) -> T:
        return await self._database.write(self._guarded(work))

    async def commit(self, work: Work[T]) -> T:
        return await self._database.commit(self._guarded(work))

    async def sync(self) -> None:
        await self._database.sync()

    async def read(self, work: Work[T]) -> T:
        return await self._database.read(work)

    async def scan(self, work: Work[T]) -> T:
        return await self._database.scan(work)

    def close(self) -> None:
        """It belongs to who opened it."""

    def _guarded(self, work: Work[T]) -> Callable[[Connection], T]:
        def guarded(connection: Connection) -> T:
            query = f"SELECT 1 AS leads FROM leadership WHERE term=? AND expires_at>{connection.now}+?"
            if connection.execute(query, (self._term, self._margin)).fetchone() is None:
                raise UnavailableError("this server does not lead any more")
            return work(connection)

        return guarded
