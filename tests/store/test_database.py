import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from sqlite3 import Connection

import pytest

from jiffy.errors import JiffyError, UnsupportedError
from jiffy.store.database import Database


def insert(name: str) -> object:
    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO tokens VALUES (?, '', 0)", (name,))

    return work


def names(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT token_id FROM tokens")}


@pytest.fixture
def database(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = Database(tmp_path / "jiffy.db")
    yield opened
    opened.close()


async def test_what_is_written_can_be_read(database: Database) -> None:
    await database.write(insert("one"))  # type: ignore[arg-type]
    assert await database.read(names) == {"one"}


async def test_writes_that_wait_together_are_all_kept(database: Database) -> None:
    await asyncio.gather(*(database.write(insert(str(number))) for number in range(500)))  # type: ignore[arg-type]
    assert len(await database.read(names)) == 500


async def test_a_write_that_fails_takes_no_other_with_it(database: Database) -> None:
    outcomes = await asyncio.gather(
        database.write(insert("same")),  # type: ignore[arg-type]
        database.write(insert("same")),  # type: ignore[arg-type]
        database.write(insert("other")),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), sqlite3.IntegrityError, type(None)]
    assert await database.read(names) == {"same", "other"}


async def test_half_of_a_failed_write_is_not_kept(database: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO tokens VALUES ('half', '', 0)")
        raise ValueError("the second half is missing")

    with pytest.raises(ValueError, match="second half"):
        await database.write(work)
    assert await database.read(names) == set()


async def test_a_broken_statement_is_told_as_the_stores_error(database: Database) -> None:
    with pytest.raises(JiffyError, match="the store failed"):
        await database.read(lambda connection: connection.execute("SELECT nonsense"))


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "jiffy.db")
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(UnsupportedError, match="newer jiffy"):
        Database(tmp_path / "jiffy.db")


KILLED_WRITER = """
import asyncio, sys
from pathlib import Path
from jiffy.store.database import Database

async def main():
    database = Database(Path(sys.argv[1]))
    number = 0
    while True:
        await database.write(lambda c: c.execute("INSERT INTO tokens VALUES (?, '', 0)", (str(number),)))
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
    database = Database(path)
    kept = asyncio.run(database.read(names))
    database.close()
    assert set(acknowledged) <= kept
    assert len(kept) <= len(acknowledged) + 1
