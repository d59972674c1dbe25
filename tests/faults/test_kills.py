"""Any process may be killed at any time: accepted work is not lost, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ProgramFolder
from tests.faults.storms import container_processes, processes_with
from tests.servers import ServerUnderTest

WORK = """
    import os, time
    import modal

    app = modal.App("work", image=modal.Image.debian_slim())

    @app.function()
    def work(seconds: float) -> str:
        print("working")
        time.sleep(seconds)
        return f"finished {os.path.exists('/usr/bin/python3')}"

    @app.local_entrypoint()
    def main(seconds: float):
        print(work.remote(seconds))
"""


def count(server: ServerUnderTest, query: str) -> int:
    return int(server.rows(query)[0][0])


def await_count(server: ServerUnderTest, query: str, expected: int) -> None:
    deadline = time.monotonic() + 30
    while count(server, query) != expected:
        assert time.monotonic() < deadline, f"{query} is {count(server, query)}"
        time.sleep(0.1)


def test_a_program_gets_its_result_although_the_server_was_killed_meanwhile(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "4")
    run.await_line("working")
    for _ in range(2):
        fresh_server.kill()
        time.sleep(1.5)
    outcome = run.finish(timeout=60)
    assert outcome.code == 0, outcome.output
    assert "finished True" in outcome.output
    assert outcome.output.count("working") == 1, "the container was not left alone"
    assert count(fresh_server, "SELECT count(*) FROM outputs") == 1


def test_a_result_that_was_made_while_there_was_no_server_is_recorded(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "2")
    run.await_line("working")
    with stopped(fresh_server.pid):
        fresh_server.kill()
        time.sleep(3)
    outcome = run.finish(timeout=60)
    assert outcome.code == 0, outcome.output
    assert "finished True" in outcome.output


def test_an_accepted_input_outlives_everything_that_held_it(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "3", options=["--detach"])
    run.await_line("working")
    fresh_server.kill_all()
    run.process.kill()
    run.process.wait()
    fresh_server.start()
    await_count(fresh_server, "SELECT count(*) FROM outputs", 1)


def test_an_input_runs_again_when_its_worker_was_killed(fresh_server: ServerUnderTest, program: ProgramFolder) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "5")
    run.await_line("working")
    fresh_server.kill_worker()
    outcome = run.finish(timeout=90)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("working") == 2, outcome.output
    assert count(fresh_server, "SELECT count(*) FROM outputs") == 1
    assert count(fresh_server, "SELECT losses FROM inputs") == 1


def test_a_killed_worker_leaves_no_container_behind(fresh_server: ServerUnderTest, program: ProgramFolder) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "600")
    run.await_line("working")
    orphan = container_processes(fresh_server.data.containers)
    assert orphan
    fresh_server.kill_worker()
    run.await_line("working")
    assert not any(is_running(pid) for pid in orphan), "before another one runs"
    run.interrupt()
    run.finish()


def is_running(pid: int) -> bool:
    """One that has ended may still have to be waited for by who has adopted it from the dead worker."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_containers_go_on_when_the_lazy_layers_daemon_was_killed(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "3")
    run.await_line("working")
    (daemon,) = processes_with("jiffy.fs.daemon", str(fresh_server.data.root))
    os.kill(daemon, signal.SIGKILL)
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    again = fresh_server.run(program(WORK), "--seconds", "0")
    assert again.code == 0, again.output


def test_the_worker_of_a_dead_server_is_found_by_the_next_one(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    worker = fresh_server.worker_pid
    os.kill(fresh_server.pid, signal.SIGKILL)
    fresh_server.start()
    assert fresh_server.worker_pid == worker
    outcome = fresh_server.run(program(WORK), "--seconds", "0")
    assert outcome.code == 0, outcome.output


def test_a_worker_that_is_told_to_end_leaves_nothing(fresh_server: ServerUnderTest, program: ProgramFolder) -> None:
    run = fresh_server.begin(program(WORK), "--seconds", "600")
    run.await_line("working")
    with stopped(fresh_server.pid):
        pid = fresh_server.worker_pid
        os.kill(pid, signal.SIGTERM)
        await_end(pid)
        assert not list(fresh_server.data.containers.iterdir())
        assert not list(fresh_server.data.mounts.glob("[0-9a-f]*"))
    run.await_line("working")
    run.interrupt()
    run.finish()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Whoever would start a successor is held back for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.05)


def test_a_worker_that_stood_still_past_its_lease_is_given_up_and_comes_back(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    """Its container ran on meanwhile: what it gives is refused, and another runs the input."""
    run = fresh_server.begin(program(WORK), "--seconds", "12")
    run.await_line("working")
    worker = fresh_server.worker_pid
    os.kill(worker, signal.SIGSTOP)
    try:
        await_count(fresh_server, "SELECT count(*) FROM tasks WHERE reason LIKE 'lost%'", 1)
    finally:
        os.kill(worker, signal.SIGCONT)
    outcome = run.finish(timeout=90)
    assert outcome.code == 0, outcome.output
    assert count(fresh_server, "SELECT count(*) FROM outputs") == 1
    assert count(fresh_server, "SELECT count(*) FROM inputs WHERE losses=1") == 1
    assert fresh_server.worker_pid == worker
