"""The simulated disk: a real SQLite database in memory, which servers reach with delays and failures of their store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from jiffy.errors import UnavailableError
from jiffy.store.base import Work
from jiffy.store.sqlite import SqliteConnection, migrate, prepare

T = TypeVar("T")


@cache
def _empty() -> bytes:
    connection = prepare(sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection))
    migrate(connection, Path(":memory:"))
    return connection.serialize()


class Ground:
    """What is committed. `committed` is called after each commit."""

    def __init__(self, committed: Callable[[], None]) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection)
        self.connection.deserialize(_empty())
        prepare(self.connection)
        self._committed = committed

    def write(self, work: Work[T]) -> T:
        self.connection.execute("BEGIN")
        try:
            value = work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        self._committed()
        return value

    def rows(self, query: str, *values: Any) -> list[Any]:
        return self.connection.execute(query, values).fetchall()


class ServerDatabase:
    """A server's way to the ground. A server that was killed never hears from it again: it stands still where it was.
    `speed`: how many delays fit in a second, on average."""

    def __init__(
        self,
        ground: Ground,
        random: Random,
        is_alive: Callable[[], bool] = lambda: True,
        failing: Callable[[], bool] = lambda: False,
        speed: float = 2000.0,
    ) -> None:
        self._speed = speed
        self._ground = ground
        self._random = random
        self._is_alive = is_alive
        self._failing = failing

    async def write(self, work: Work[T]) -> T:
        await self._pass()
        if self._failing():
            raise UnavailableError("the store does not answer", why="before it recorded anything")
        value = self._ground.write(work)
        await self._pass()
        if self._failing():
            raise UnavailableError("the store does not answer", why="after it recorded everything")
        return value

    async def commit(self, work: Work[T]) -> T:
        return await self.write(work)

    async def sync(self) -> None:
        await self._pass()

    async def read(self, work: Work[T]) -> T:
        await self._pass()
        if self._failing():
            raise UnavailableError("the store does not answer", why="while it was read")
        value = work(self._ground.connection)
        await self._pass()
        return value

    async def scan(self, work: Work[T]) -> T:
        return await self.read(work)

    def close(self) -> None: ...

    async def _pass(self) -> None:
        await asyncio.sleep(self._random.expovariate(self._speed))
        if not self._is_alive():
            await asyncio.get_running_loop().create_future()
