from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jiffy.errors import UnavailableError
from jiffy.store import sqlite_log
from jiffy.store.sqlite import SqliteDatabase
from tests.store.test_sqlite import insert, names


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    real = os.fdatasync

    def sync(file: int) -> None:
        made.append(file)
        real(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jiffy.db"


@pytest.fixture
def database(path: Path, syncs: list[int]) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(path)
    yield opened
    opened.close()


async def test_a_write_is_synced_before_it_returns(database: SqliteDatabase, syncs: list[int]) -> None:
    for number in range(3):
        await database.write(insert(str(number)))
        assert len(syncs) == number + 1


async def test_writes_that_come_together_share_syncs(database: SqliteDatabase, syncs: list[int]) -> None:
    await asyncio.gather(*(database.write(insert(str(number))) for number in range(500)))
    assert len(syncs) <= 20


async def test_what_changes_nothing_is_not_synced(database: SqliteDatabase, syncs: list[int]) -> None:
    await database.write(lambda connection: connection.execute("DELETE FROM tokens"))
    await database.read(names)
    await database.scan(names)
    assert syncs == []


async def test_what_is_committed_only_waits_for_no_sync_and_shares_the_next_one(
    database: SqliteDatabase, syncs: list[int]
) -> None:
    await database.commit(insert("one"))
    await database.commit(insert("two"))
    assert await database.read(names) == {"one", "two"}
    assert syncs == []
    await database.sync()
    assert len(syncs) == 1


async def test_what_is_committed_is_seen_by_others_before_it_is_durable(
    database: SqliteDatabase, path: Path, syncs: list[int]
) -> None:
    await database.commit(insert("early"))
    with closing(sqlite3.connect(path)) as other:
        assert ({row[0] for row in other.execute("SELECT token_id FROM tokens")}, len(syncs)) == ({"early"}, 0)
    await database.sync()
    assert len(syncs) == 1


async def test_the_log_is_moved_to_the_database_before_it_grows_long(
    database: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "_LONG", 20)
    before = path.stat().st_size
    for number in range(400):
        await database.write(insert("x" * 2000 + str(number)))
    log = path.with_name("jiffy.db-wal")
    assert path.stat().st_size > before + 500_000
    assert log.stat().st_size < 2_000_000
    assert len(await database.scan(names)) == 400


async def test_the_log_is_moved_too_when_nobody_waits_for_a_sync(
    database: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "_LONG", 20)
    before = path.stat().st_size
    for number in range(400):
        await database.commit(insert("x" * 2000 + str(number)))
    async with asyncio.timeout(20):
        while path.stat().st_size <= before + 500_000:
            await asyncio.sleep(0.01)


async def test_a_disk_that_fails_is_told_to_all_who_wait(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    outcomes = await asyncio.gather(
        *(database.write(insert(str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 3
    assert "Input/output error" in str(outcomes[0])


async def test_a_writer_that_gave_up_waiting_harms_nobody(database: SqliteDatabase) -> None:
    writing = asyncio.ensure_future(database.write(insert("impatient")))
    await asyncio.sleep(0)
    writing.cancel()
    await database.write(insert("patient"))
    assert await database.read(names) == {"impatient", "patient"}
