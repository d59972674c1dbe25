import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.errors import JiffyError, UnsupportedError
from jiffy.store.base import Connection, Work
from jiffy.store.sqlite import SqliteDatabase

_INSERT = "INSERT INTO tokens (token_id, secret_sha256, created_at) VALUES (?, '', 0)"


def insert(name: str) -> Work[None]:
    def work(connection: Connection) -> None:
        connection.execute(_INSERT, (name,))

    return work


def names(connection: Connection) -> set[str]:
    return {row["token_id"] for row in connection.execute("SELECT token_id FROM tokens")}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(tmp_path / "jiffy.db")
    yield opened
    opened.close()


async def test_what_is_written_can_be_read(database: SqliteDatabase) -> None:
    await database.write(insert("one"))
    assert await database.read(names) == {"one"}


async def test_writes_that_wait_together_are_all_kept(database: SqliteDatabase) -> None:
    await asyncio.gather(*(database.write(insert(str(number))) for number in range(500)))
    assert len(await database.read(names)) == 500


async def test_a_write_that_fails_takes_no_other_with_it(database: SqliteDatabase) -> None:
    outcomes = await asyncio.gather(
        database.write(insert("same")),
        database.write(insert("same")),
        database.write(insert("other")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), sqlite3.IntegrityError, type(None)]
    assert await database.read(names) == {"same", "other"}


async def test_half_of_a_failed_write_is_not_kept(database: SqliteDatabase) -> None:
    def work(connection: Connection) -> None:
        connection.execute(_INSERT, ("half",))
        raise ValueError("the second half is missing")

    with pytest.raises(ValueError, match="second half"):
        await database.write(work)
    assert await database.read(names) == set()


async def test_a_broken_statement_is_told_as_the_stores_error(database: SqliteDatabase) -> None:
    with pytest.raises(JiffyError, match="the store failed"):
        await database.read(lambda connection: connection.execute("SELECT nonsense"))


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "jiffy.db")
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(UnsupportedError, match="newer jiffy"):
        SqliteDatabase(tmp_path / "jiffy.db")


KILLED_WRITER = """
import asyncio, sys
from collections.abc import Iterator
from pathlib import Path
from jiffy.store.base import Connection, Work
from jiffy.store.sqlite import SqliteDatabase

async def main():
    database = SqliteDatabase(Path(sys.argv[1]))
    number = 0
    insert = "INSERT INTO tokens (token_id, secret_sha256, created_at) VALUES (?, '', 0)"
    while True:
        await database.write(lambda c: c.execute(insert, (str(number),)))
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "jiffy.db"
    process = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [line.strip() for line in process.stdout.read().splitlines()]
    process.wait()
    database = SqliteDatabase(path)
    kept = asyncio.run(database.read(names))
    database.close()
    assert set(acknowledged) <= kept
    assert len(kept) <= len(acknowledged) + 1
