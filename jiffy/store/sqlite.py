"""SQLite as the durable store: one writer thread that commits in groups, one reader thread.

A write is durable when `write` returns: WAL with synchronous=FULL, so each commit is synced. Many writes that wait
at the same time share one commit; each runs under its own savepoint, so one that fails takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from jiffy.errors import ExhaustedError, JiffyError, UnsupportedError
from jiffy.store.base import Work
from jiffy.store.schema import MIGRATIONS

T = TypeVar("T")
_GROUP: Final = 256


@dataclass(slots=True)
class _Request:
    work: Work[Any]
    future: Future[Any]


class SqliteConnection(sqlite3.Connection):
    """There is one writer, so nothing needs to be locked."""

    for_update = for_share = skip_locked = ""
    now = "((julianday('now') - 2440587.5) * 86400.0)"

    def lock(self, name: str, /) -> None: ...


class SqliteDatabase:
    """State in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        with contextlib.closing(_connect(path)) as connection:
            migrate(connection, path)
        self._threads = [
            threading.Thread(target=self._write_forever, name="store-writer", daemon=True),
            threading.Thread(target=self._read_forever, name="store-reader", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    async def write(self, work: Work[T]) -> T:
        return await _submit(self._writes, work)

    async def read(self, work: Work[T]) -> T:
        return await _submit(self._reads, work)

    def close(self) -> None:
        self._writes.put(None)
        self._reads.put(None)
        for thread in self._threads:
            thread.join()

    def _write_forever(self) -> None:
        connection = _connect(self._path)
        while group := _next_group(self._writes):
            _commit_group(connection, [request for request in group if request is not None])
            if None in group:
                break
        connection.close()

    def _read_forever(self) -> None:
        connection = _connect(self._path)
        while (request := self._reads.get()) is not None:
            _settle(request, lambda request=request: request.work(connection))  # type: ignore[misc]
        connection.close()


async def _submit(requests: queue.SimpleQueue[_Request | None], work: Work[T]) -> T:
    future: Future[T] = Future()
    requests.put(_Request(work, future))
    return await asyncio.wrap_future(future)


def _next_group(requests: queue.SimpleQueue[_Request | None]) -> list[_Request | None]:
    group = [requests.get()]
    while group[-1] is not None and len(group) < _GROUP:
        try:
            group.append(requests.get_nowait())
        except queue.Empty:
            break
    return group


def _commit_group(connection: SqliteConnection, group: list[_Request]) -> None:
    """Each request under a savepoint, one commit for all; nobody hears of success before the commit."""
    group = [request for request in group if request.future.set_running_or_notify_cancel()]
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [(request, *_run_in_savepoint(connection, request.work)) for request in group]
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        outcomes = [(request, None, _explain(error)) for request in group]
    for request, value, failure in outcomes:
        if failure is not None:
            request.future.set_exception(failure)
        else:
            request.future.set_result(value)


def _run_in_savepoint(connection: SqliteConnection, work: Work[Any]) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT request")
    try:
        value = work(connection)
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO request")
            connection.execute("RELEASE request")
        if isinstance(error, sqlite3.OperationalError):
            raise
        return None, error
    connection.execute("RELEASE request")
    return value, None


def _settle(request: _Request, run: Callable[[], Any]) -> None:
    if not request.future.set_running_or_notify_cancel():
        return
    try:
        request.future.set_result(run())
    except Exception as error:
        request.future.set_exception(_explain(error) if isinstance(error, sqlite3.Error) else error)


def _explain(error: sqlite3.Error) -> JiffyError:
    if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return ExhaustedError(
            "the server cannot record anything",
            why="its disk is full",
            hint="free space in the data directory",
        )
    return JiffyError("the store failed", why=str(error))


def _connect(path: Path) -> SqliteConnection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=30, factory=SqliteConnection
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
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
