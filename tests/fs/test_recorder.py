"""What is read in a root becomes its profile."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from jiffy.fs.recorder import Recorder
from tests.fs.conftest import ColdHost

pytestmark = pytest.mark.root


async def test_objects_are_recorded_once_in_the_order_of_their_first_reading(host: ColdHost) -> None:
    recorder = Recorder(host.root, [host.image])

    def read() -> None:
        for name in ("file-3", "file-1", "file-3", "file-2"):
            (host.root / name).read_bytes()

    await asyncio.to_thread(read)
    await asyncio.sleep(0.05)
    assert list(recorder.close()) == [host.digest(name) for name in ("file-3", "file-1", "file-2")]


async def test_names_and_stats_are_no_reading(host: ColdHost) -> None:
    recorder = Recorder(host.root, [host.image])
    for path in host.root.iterdir():
        path.stat()
    assert recorder.close() == ()


async def test_what_runs_in_another_name_space_is_recorded_too(host: ColdHost) -> None:
    """As a container does: its root is this overlay, mounted elsewhere."""
    recorder = Recorder(host.root, [host.image])
    script = 'mount --bind "$1" /mnt && cd /mnt && pivot_root . . && read -r line < /file-9'
    command = ["unshare", "--mount", "bash", "-c", script, "bash", str(host.root)]
    await asyncio.to_thread(subprocess.run, command, check=True, cwd=Path("/"))
    await asyncio.sleep(0.05)
    assert host.digest("file-9") in recorder.close()


async def test_what_the_container_wrote_itself_has_no_object(host: ColdHost) -> None:
    def write() -> None:
        (host.root / "own").write_bytes(b"x")
        (host.root / "own").read_bytes()

    recorder = Recorder(host.root, [host.image])
    await asyncio.to_thread(write)
    await asyncio.sleep(0.05)
    assert recorder.close() == ()


async def test_a_start_that_reads_without_end_is_recorded_up_to_a_bound(
    host: ColdHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jiffy.fs.recorder.MOST_OBJECTS", 5)
    recorder = Recorder(host.root, [host.image])

    def read() -> None:
        for number in range(20):
            (host.root / f"file-{number}").read_bytes()

    await asyncio.to_thread(read)
    await asyncio.sleep(0.05)
    assert 5 <= len(recorder.close()) <= 20
