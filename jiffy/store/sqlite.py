"""SQLite as the durable store: its work runs on the event loop, and a thread syncs for all who wait.

Work is small and what it touches is in memory, so that to hand it to a thread would take longer than to do it. What takes
long is the disk: a write is in the log at once, and durable when `write` returns, after the log was synced. A sync is
shared by all that was written before it. What reads many rows has a thread of its own.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from jiffy.errors import ExhaustedError, JiffyError, UnsupportedError
from jiffy.store.base import Work
from jiffy.store.schema import MIGRATIONS
from jiffy.store.sqlite_log import SqliteLog

T = TypeVar("T")
_READS_IN_A_ROW: Final = 32
"""Until others have their turn: who reads on and on would let nobody else."""


class SqliteConnection(sqlite3.Connection):
    """There is one writer, so nothing needs to be locked."""

    for_update = for_share = skip_locked = ""
    now = "((julianday('now') - 2440587.5) * 86400.0)"

    def lock(self, name: str, /) -> None: ...


class SqliteDatabase:
    """State in a file, for one event loop at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _connect(path)
        try:
            migrate(self._connection, path)
        except BaseException:
            self._connection.close()
            raise
        self._log = SqliteLog(path, _connect(path))
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix="store-scan")
        self._scanned = _connect(path)
        self._reads = 0
        self._is_open = True

    async def write(self, work: Work[T]) -> T:
        before = self._connection.total_changes
        value = await self.commit(work)
        if self._connection.total_changes != before:
            await self._log.sync()
        return value

    async def commit(self, work: Work[T]) -> T:
        before = self._connection.total_changes
        value = self._transact(work)
        self._log.note(self._connection.total_changes - before)
        return value

    async def sync(self) -> None:
        await self._log.sync()

    async def read(self, work: Work[T]) -> T:
        self._reads += 1
        if self._reads % _READS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        return _told(work, self._connection)

    async def scan(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._scanner, _told, work, self._scanned)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._scanner.shutdown()
            self._log.close()
            self._scanned.close()
            self._connection.close()

    def _transact(self, work: Work[T]) -> T:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            value = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise _explain(error) from error
            raise
        return value


def _told(work: Work[T], connection: SqliteConnection) -> T:
    try:
        return work(connection)
    except sqlite3.Error as error:
        raise _explain(error) from error


def _explain(error: sqlite3.Error) -> JiffyError:
    if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return ExhaustedError(
            "the server cannot record anything",
            why="its disk is full",
            hint="free space in the data directory",
        )
    return JiffyError("the store failed", why=str(error))


def _connect(path: Path) -> SqliteConnection:
    """Without syncs of its own, but before the log is moved to the database, and without moving it at a commit."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=30, factory=SqliteConnection
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return prepare(connection)


def prepare(connection: SqliteConnection) -> SqliteConnection:
    """As the rest of the store expects a connection."""
    connection.row_factory = sqlite3.Row
    connection.create_function("floor", 1, math.floor, deterministic=True)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def migrate(connection: SqliteConnection, path: Path) -> None:
    """Bring the schema up to date."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UnsupportedError(
            f"{path} was written by a newer jiffy",
            why=f"its schema is {version}, this version knows {len(MIGRATIONS)}",
            hint="upgrade jiffy, or use another data directory",
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")
