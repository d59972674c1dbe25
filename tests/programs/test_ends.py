"""Programs that end early, or go on without their client."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from jiffy.store.stores import open_stores
from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

SLOW = """
    import time
    import modal

    app = modal.App("slow", image=modal.Image.debian_slim())

    @app.function()
    def work(seconds: float) -> str:
        print("working")
        time.sleep(seconds)
        print("worked")
        return "done"

    @app.local_entrypoint()
    def main(seconds: float):
        print(work.remote(seconds))
"""


async def live_tasks(server: ServerUnderTest) -> int:
    stores = open_stores(server.data.database)
    try:
        return len(await stores.tasks.live())
    finally:
        stores.close()


async def test_interrupting_the_client_ends_the_app_and_its_containers(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = server.begin(program(SLOW), "--seconds", "600")
    run.await_line("working")
    run.interrupt()
    outcome = run.finish(timeout=30)
    assert "App aborted" in outcome.output or "terminate" in outcome.output
    deadline = time.monotonic() + 15
    while await live_tasks(server) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    assert await live_tasks(server) == 0
    assert not list(Path(server.data.containers).iterdir())


@pytest.mark.since("1.2")
def test_a_detached_app_goes_on_when_its_client_is_interrupted(server: ServerUnderTest, program: ProgramFolder) -> None:
    run = server.begin(program(SLOW), "--seconds", "4", options=["--detach"])
    run.await_line("working")
    run.interrupt()
    outcome = run.finish(timeout=30)
    assert "will keep running" in outcome.words
    assert await_log(server, "worked")


def await_log(server: ServerUnderTest, text: str) -> bool:
    """True when some container has printed a line."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(text in line for (line,) in server.rows("SELECT text FROM logs")):
            return True
        time.sleep(0.2)
    return False


def test_a_worker_keeps_no_process_of_containers_that_ended(server: ServerUnderTest, program: ProgramFolder) -> None:
    assert server.run(program(SLOW), "--seconds", "0").code == 0
    deadline = time.monotonic() + 15
    while (ended := ended_children(server.worker_pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ended == []


def ended_children(pid: int) -> list[str]:
    """Children that ended and were never waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = path.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if state == "Z" and int(parent) == pid:
                found.append(name)
    return found
