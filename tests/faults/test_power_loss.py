"""The power goes: whatever was not synced is lost. What was accepted and recorded is not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bases import make_base, share_images
from tests.cli.test_commands import jiffy
from tests.conftest import ProgramFolder
from tests.disks import Disk, open_disk
from tests.faults.storms import processes_of, processes_with
from tests.faults.test_storm import outputs_of
from tests.servers import ServerUnderTest

INPUTS = 150
PROGRAM = """
    import time
    import modal

    app = modal.App("power", image=modal.Image.debian_slim().run_commands("echo {step} > /step"))

    @app.function(max_containers=4, cpu=0.1, memory=128)
    def work(number: int) -> int:
        time.sleep(0.1)
        return number * 7 + int(open("/step").read()) - {step}

    @app.local_entrypoint()
    def main(first: int, inputs: int):
        work.spawn_map(range(first, first + inputs))
        print("all are accepted")
"""


@pytest.fixture
def disk(disk_folder: Path) -> Iterator[Disk]:
    with open_disk(disk_folder / "power", 4 * 10**9) as opened:
        yield opened


@pytest.fixture
def powered(server: ServerUnderTest, disk: Disk, disk_folder: Path, tmp_path: Path) -> Iterator[ServerUnderTest]:
    make_base(server, tmp_path)
    fresh = ServerUnderTest(disk.folder / "data", disk_folder / "home")
    share_images(server, fresh)
    subprocess.run(["sync", "-f", str(disk.folder)], check=True)
    fresh.start()
    yield fresh
    fresh.stop()


def cut(server: ServerUnderTest, disk: Disk) -> None:
    """At once for the disk; then everything dies, and the machine boots anew."""
    root = str(server.data.root)
    tasks = [folder.name for folder in server.data.containers.iterdir()]
    disk.fail()
    while found := [*processes_with("--data", root), *processes_of(tasks)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    disk.boot()
    synced = json.loads(server.data.synced.read_text()) if server.data.synced.exists() else {}
    server.data.synced.write_text(json.dumps({**synced, "boot": "before"}))


def recorded(server: ServerUnderTest) -> set[tuple[str, bytes]]:
    return {(str(input_id), bytes(body)) for input_id, body in server.rows("SELECT input_id, body FROM outputs")}


@pytest.mark.timeout(400)
def test_what_was_accepted_and_recorded_outlives_it(
    powered: ServerUnderTest, disk: Disk, program: ProgramFolder
) -> None:
    """Three times, each after an image was built and inputs were accepted a moment ago."""
    expected: list[int] = []
    for step in range(3):
        source = program(PROGRAM.format(step=step), f"power{step}.py")
        arguments = ("--first", str(len(expected)), "--inputs", str(INPUTS))
        outcome = powered.run(source, *arguments, options=["--detach"])
        assert outcome.code == 0, outcome.output
        expected += [number * 7 for number in range(len(expected), len(expected) + INPUTS)]
        time.sleep(step)
        before = recorded(powered)
        cut(powered, disk)
        powered.start()
        assert before <= recorded(powered)
        assert powered.rows("SELECT count(*) FROM inputs") == [(len(expected),)]
    deadline = time.monotonic() + 120
    while len(recorded(powered)) < len(expected):
        assert time.monotonic() < deadline, f"{len(recorded(powered))} of {len(expected)} outputs"
        time.sleep(0.5)
    assert outputs_of(powered.rows("SELECT body FROM outputs")) == expected
    scrubbed = jiffy("cache", "scrub", "--json", "--data", str(powered.data.root))
    assert scrubbed.code == 0, scrubbed.output
    print(scrubbed.output)
