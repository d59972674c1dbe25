from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inventory import Inventory
from tests.servers import ServerUnderTest


@pytest.fixture
def fresh_server(
    server: ServerUnderTest, disk_folder: Path, host_before: Inventory, request: pytest.FixtureRequest
) -> Iterator[ServerUnderTest]:
    """A server of its own for a test that kills things, with the base images that the shared one has made."""
    await_base(server, request)
    folder = disk_folder / request.node.name[:40]
    fresh = ServerUnderTest(folder, disk_folder / "home")
    share_images(server, fresh)
    fresh.start()
    yield fresh
    fresh.stop()
    assert not any(fresh.data.instance in name for kind in leftovers(fresh) for name in kind), leftovers(fresh)
    shutil.rmtree(folder)


def await_base(server: ServerUnderTest, request: pytest.FixtureRequest) -> None:
    """The shared server has made its base image: any program makes it do so."""
    from tests.servers import write_program

    folder = request.getfixturevalue("tmp_path")
    text = """
        import modal

        app = modal.App("warm", image=modal.Image.debian_slim())

        @app.function()
        def warm(): ...

        @app.local_entrypoint()
        def main():
            warm.remote()
    """
    if not _made(server.data.database):
        assert server.run(write_program(folder, text, "warm.py")).code == 0


def share_images(source: ServerUnderTest, target: ServerUnderTest) -> None:
    """Give a new data directory the objects of another, and what it remembers to have made of them."""
    target.data.create()
    shutil.copytree(source.data.objects, target.data.objects, dirs_exist_ok=True)
    from jiffy.store.stores import open_stores

    open_stores(target.data.database).close()
    with sqlite3.connect(target.data.database) as connection:
        connection.executemany("INSERT INTO made_indexes VALUES (?,?,?)", _made(source.data.database))
    connection.close()


def _made(database: Path) -> list[tuple[str, str, float]]:
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT name, content, created_at FROM made_indexes").fetchall()
    connection.close()
    return [row for row in rows if json.loads(row[1])["index"]]


def leftovers(server: ServerUnderTest) -> list[frozenset[str]]:
    from tests.inventory import take_inventory

    found = take_inventory()
    return [found.mounts, found.links, found.tables, found.groups]
