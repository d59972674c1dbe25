"""What PostgreSQL does beyond what every engine does: several servers know of each other, and ring for each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from jiffy.errors import ConflictError, UnavailableError
from jiffy.store.base import Connection
from jiffy.store.postgres import PostgresDatabase
from tests.postgres import PostgresUnderTest


@pytest.fixture
def url(postgres: PostgresUnderTest) -> str:
    return postgres.create_database()


@pytest.fixture
def databases(url: str) -> Iterator[tuple[PostgresDatabase, PostgresDatabase]]:
    """Of two servers."""
    opened = PostgresDatabase(url), PostgresDatabase(url)
    yield opened
    for database in opened:
        database.close()


async def listen(database: PostgresDatabase) -> tuple[asyncio.Queue[str], asyncio.Future[None]]:
    heard: asyncio.Queue[str] = asyncio.Queue()
    ready = asyncio.Event()
    listening = asyncio.ensure_future(database.listen(heard.put_nowait, ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    return heard, listening


async def test_what_one_server_announces_all_hear(databases: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    ears = [await listen(database) for database in databases]
    await databases[0].announce("it's so 100%")
    for heard, listening in ears:
        assert await asyncio.wait_for(heard.get(), 10) == "it's so 100%"
        listening.cancel()
    await asyncio.gather(*(listening for _, listening in ears), return_exceptions=True)


async def test_who_listens_is_told_when_the_engine_goes(
    databases: tuple[PostgresDatabase, PostgresDatabase], postgres: PostgresUnderTest
) -> None:
    _, listening = await listen(databases[0])
    postgres.stop()
    try:
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(listening, 10)
    finally:
        postgres.start()


def test_a_server_that_wants_to_be_alone_is_refused_beside_others(
    databases: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    first, second = databases
    first.hold(alone=False)
    with pytest.raises(ConflictError, match="another server uses this store"):
        second.hold(alone=True)


def test_servers_that_agree_share_it(databases: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    for database in databases:
        database.hold(alone=False)


async def test_a_transaction_that_stands_still_is_broken_off(
    databases: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    """As of a server that is stopped for a while: another may lead by then."""

    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO tokens (token_id, secret_sha256, created_at) VALUES ('ak-1', '', 0)")
        time.sleep(PostgresDatabase.idle_seconds + 1)

    with pytest.raises(UnavailableError):
        await databases[0].write(work)
    row = await databases[1].read(lambda connection: connection.execute("SELECT count(*) AS n FROM tokens").fetchone())
    assert row["n"] == 0
