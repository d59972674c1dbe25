"""Base images for servers of single tests: those that the shared server has made already."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from jiffy.store.base import Connection
from jiffy.store.stores import open_stores
from tests.servers import JIFFY, ServerUnderTest, write_program

_PROGRAM = """
    import modal

    app = modal.App("warm", image=modal.Image.debian_slim())

    @app.function()
    def warm(): ...

    @app.local_entrypoint()
    def main():
        warm.remote()
"""


def make_base(server: ServerUnderTest, folder: Path) -> None:
    """Have a server make its base image, if it has not: any program makes it do so."""
    if not _made(server.data.database):
        run_todays_client(server, folder)


def run_todays_client(server: ServerUnderTest, folder: Path) -> None:
    """Whichever runs the programs: an older one makes other images."""
    assert server.run(write_program(folder, _PROGRAM, "warm.py"), python=sys.executable).code == 0


def share_base(server: ServerUnderTest, folder: Path, run: Path) -> None:
    """Start a server with the base image that the first process of a divided run has made; the first one makes it. `run` is
    a folder that these processes share."""
    maker = run / "maker"
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if maker.exists():
            share_images(ServerUnderTest(Path(maker.read_text()), folder), server)
            server.start()
            run_todays_client(server, folder)  # nothing has to be made, but the server knows of the image then
        else:
            server.start()
            make_base(server, folder)
            maker.write_text(str(server.data.root))


def find_base_image(server: ServerUnderTest) -> str:
    """The id of the image that is only the base."""
    command = [*JIFFY, "image", "list", "--json", "--data", str(server.data.root)]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    found = [str(each["image_id"]) for each in listed if each["python"] == "3.11" and each["layers"] == 1]
    assert found, listed
    return found[0]


def share_images(source: ServerUnderTest, target: ServerUnderTest) -> None:
    """Give a new data directory the objects of another, and what it remembers to have made of them."""
    target.data.create()
    if source.data.synced.exists():  # as whole as there: nothing is to be verified before it starts
        shutil.copy(source.data.synced, target.data.synced)
    share_images_with(source, target.data.objects, str(target.data.database))


def share_images_with(source: ServerUnderTest, objects: Path, store: str) -> None:
    """The same for a folder of objects, and the address of a store."""
    shutil.copytree(source.data.objects, objects, dirs_exist_ok=True, copy_function=_link)
    made = _made(source.data.database)

    def work(connection: Connection) -> None:
        connection.executemany("INSERT INTO made_indexes VALUES (?,?,?)", made)

    stores = open_stores(store)
    asyncio.run(stores.database.write(work))
    stores.close()


def _link(source: str, target: str) -> None:
    """Objects never change, so both may have the same file; on another disk it is a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copy(source, target)


def _made(database: Path) -> list[tuple[str, str, float]]:
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT name, content, created_at FROM made_indexes").fetchall()
    connection.close()
    return [row for row in rows if json.loads(row[1])["index"]]
