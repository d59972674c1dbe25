"""Commands in containers end clearly, and leave nothing, whatever ends beneath them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts import Hosts
from tests.programs.test_exec import at_terminal, await_end_of, begin_attended, execute, inhabited, lasting
from tests.programs.test_join import join
from tests.servers import ServerUnderTest


def begin(
    server: ServerUnderTest, folder: Path, task_id: str, has_terminal: bool, mark: str
) -> Callable[[], tuple[int, str]]:
    """Run one; what is given waits for its client's end, and tells its exit code and all that it said."""
    if has_terminal:
        terminal = at_terminal(server, task_id, *lasting(mark))
        terminal.await_text("up")
        return terminal.finish
    run = begin_attended(server, folder, task_id, *lasting(mark))
    run.await_line("up")

    def finish() -> tuple[int, str]:
        outcome = run.finish()
        return outcome.code, outcome.output

    return finish


def test_a_command_ends_with_its_container(server: ServerUnderTest, tmp_path: Path) -> None:
    with inhabited(server, tmp_path) as task_id:
        run = begin_attended(server, tmp_path, task_id, *lasting("4322.5"))
        run.await_line("up")
        terminal = at_terminal(server, task_id, *lasting("4322.25"))
        terminal.await_text("up")
        server.modal("container", "stop", task_id, "--yes")
        assert run.finish().code == 137
        assert terminal.finish()[0] == 0
        await_end_of("4322.5")
        await_end_of("4322.25")


def test_a_container_that_has_ended_is_one_sentence(server: ServerUnderTest, tmp_path: Path) -> None:
    with inhabited(server, tmp_path) as task_id:
        pass
    await_end_of(task_id)
    said = server.modal("container", "exec", "--no-pty", task_id, "--", "true", code=1)
    assert f"container {task_id} has ended" in said
    assert "Traceback" not in said
    shell = server.modal("shell", "--no-pty", task_id, code=1)
    assert f"Container '{task_id}' not found" in shell


@pytest.mark.parametrize("has_terminal", [False, True])
def test_a_command_is_killed_with_the_server_and_its_client_told(
    fresh_server: ServerUnderTest, tmp_path: Path, has_terminal: bool
) -> None:
    with inhabited(fresh_server, tmp_path) as task_id:
        finish = begin(fresh_server, tmp_path, task_id, has_terminal, "4323.5")
        before = fresh_server.serving_pid
        fresh_server.kill()
        code, said = finish()
        assert code == 1
        assert "no command" in said and "the server was started again" in said
        await_end_of("4323.5")
        fresh_server.await_workers(other_than=before)
        assert execute(fresh_server, task_id, "echo", "it goes on") == "it goes on\n"


@pytest.mark.parametrize("has_terminal", [False, True])
def test_a_command_is_killed_with_its_worker_and_its_client_told(
    fresh_server: ServerUnderTest, tmp_path: Path, has_terminal: bool
) -> None:
    with inhabited(fresh_server, tmp_path) as task_id:
        finish = begin(fresh_server, tmp_path, task_id, has_terminal, "4324.5")
        fresh_server.kill_worker()
        code, said = finish()
        assert code == 1
        assert "the command's output breaks off" in said
        await_end_of("4324.5")
        fresh_server.await_workers()


def test_a_command_on_a_host_that_is_cut_off_is_killed_and_its_client_told(
    gated: ServerUnderTest, hosts: Hosts, tmp_path: Path
) -> None:
    host = hosts.add()
    join(gated, host)
    with inhabited(gated, tmp_path) as task_id:
        finish = begin(gated, tmp_path, task_id, False, "4327.5")
        host.part()
        code, said = finish()
        assert code == 1
        assert "the command's output breaks off" in said
        await_end_of("4327.5", 120)
        host.join()
