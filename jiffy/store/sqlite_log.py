"""The log of a SQLite database, which holds what is not in its file yet: synced for all who wait for that, and moved to the
file before it grows long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy.errors import UnavailableError

logger = logging.getLogger(__name__)

_LONG: Final = 2000
"""Changed rows after which it is moved."""


@dataclass(slots=True)
class _Group:
    """Writes of one turn of an event loop, which wait for one sync."""

    loop: asyncio.AbstractEventLoop
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class SqliteLog:
    """`connection` is one that only this uses."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # makes the log's file
        self._file = os.open(f"{path}-wal", os.O_RDWR)
        self._connection = connection
        self._gathering: _Group | None = None
        self._groups: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._changes = 0
        self._thread = threading.Thread(target=self._sync_forever, name="store-sync", daemon=True)
        self._thread.start()

    def note(self, changes: int) -> None:
        """So many changed rows more were committed."""
        self._changes += changes
        if self._changes > _LONG:
            self._gather()

    async def sync(self) -> None:
        """Until all that was committed so far is on the disk."""
        group = self._gather()
        waiting = group.loop.create_future()
        group.waiting.append(waiting)
        await waiting

    def close(self) -> None:
        self._groups.put(None)
        self._thread.join()
        os.close(self._file)
        self._connection.close()

    def _gather(self) -> _Group:
        loop = asyncio.get_running_loop()
        if self._gathering is None or self._gathering.loop is not loop:
            self._gathering = _Group(loop)
            loop.call_soon(self._hand_over)
        return self._gathering

    def _hand_over(self) -> None:
        self._groups.put(self._gathering)
        self._gathering = None

    def _sync_forever(self) -> None:
        is_open = True
        while is_open:
            taken = self._take()
            is_open = None not in taken
            groups = [group for group in taken if group is not None]
            failure = self._sync_now()
            is_long = self._changes > _LONG
            if is_long:
                self._changes = 0
                self._move()
            for group in groups:
                with contextlib.suppress(RuntimeError):  # its loop has ended
                    group.loop.call_soon_threadsafe(self._tell, group, failure, is_long)

    def _take(self) -> list[_Group | None]:
        groups = [self._groups.get()]
        while groups[-1] is not None and not self._groups.empty():
            groups.append(self._groups.get())
        return groups

    def _sync_now(self) -> OSError | None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            logger.error("the store cannot be written: %s", error)
            return error
        return None

    def _tell(self, group: _Group, failure: OSError | None, is_long: bool) -> None:
        if is_long:
            self._move()  # the little that came meanwhile: only what is moved as a whole begins anew
        for waiting in group.waiting:
            if waiting.done():
                continue
            if failure is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(UnavailableError("the store cannot be written", why=str(failure)))

    def _move(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            logger.warning("the log of the store grows: %s", error)
