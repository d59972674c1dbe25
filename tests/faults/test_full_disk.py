"""A full disk is a short error at the client; nothing is lost, nothing is left, and room makes it work again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bases import make_base, share_images
from tests.conftest import ProgramFolder
from tests.disks import open_disk
from tests.servers import ServerUnderTest

BLOB = """
    import os
    import modal

    app = modal.App("full", image=modal.Image.debian_slim())

    @app.function()
    def size(data: bytes) -> int:
        return len(data)

    @app.local_entrypoint()
    def main(megabytes: int):
        print("size", size.remote(os.urandom(megabytes * 2**20)))
"""


@pytest.fixture
def small_disk(disk_folder: Path) -> Iterator[Path]:
    """A filesystem of its own, of 900 MB."""
    with open_disk(disk_folder / "small", 900 * 10**6) as disk:
        yield disk.folder


@pytest.fixture
def server_on_small_disk(
    server: ServerUnderTest, small_disk: Path, disk_folder: Path, tmp_path: Path
) -> Iterator[ServerUnderTest]:
    make_base(server, tmp_path)
    fresh = ServerUnderTest(small_disk / "data", disk_folder / "home")
    share_images(server, fresh)
    fresh.start()
    yield fresh
    fresh.stop()


def fill(disk: Path, leave: int) -> Path:
    """Take all room but some bytes."""
    filler = disk / "filler"
    status = os.statvfs(disk)
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - max(leave, 2**20))
        file.seek(0, os.SEEK_END)
        while not leave:
            file.write(bytes(4096))
    return filler


def test_a_server_that_cannot_record_says_why_and_accepts_again_when_there_is_room(
    server_on_small_disk: ServerUnderTest, small_disk: Path, program: ProgramFolder
) -> None:
    server = server_on_small_disk
    blob = program(BLOB)
    assert server.run(blob, "--megabytes", "1").code == 0
    filler = fill(small_disk, leave=0)
    outcome = server.run(blob, "--megabytes", "1")
    assert outcome.code == 1
    assert "disk is full" in outcome.words, outcome.output
    filler.unlink()
    assert "size 1048576" in server.run(blob, "--megabytes", "1").output


def test_an_upload_that_does_not_fit_is_refused_and_room_mends_it(
    server_on_small_disk: ServerUnderTest, small_disk: Path, program: ProgramFolder
) -> None:
    server = server_on_small_disk
    blob = program(BLOB)
    assert "size 3145728" in server.run(blob, "--megabytes", "3").output
    filler = fill(small_disk, leave=20 * 2**20)
    outcome = server.run(blob, "--megabytes", "60")
    assert outcome.code == 1
    assert "the disk is full" in outcome.words, outcome.output
    assert not list(server.data.incoming.iterdir())
    filler.unlink()
    assert "size 62914560" in server.run(blob, "--megabytes", "60").output
