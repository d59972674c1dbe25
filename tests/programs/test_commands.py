"""The client's own commands: what runs, what it printed, and how it is stopped."""

from __future__ import annotations

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

SLEEPER = """
    import time
    import modal

    app = modal.App("sleeper", image=modal.Image.debian_slim())

    @app.function()
    def sleep(seconds: float):
        print("it sleeps")
        time.sleep(seconds)
        print("it woke")

    @app.local_entrypoint()
    def main(seconds: float):
        sleep.remote(seconds)
        print("over")
"""


def test_containers_are_listed_described_and_stopped_and_their_input_runs_elsewhere(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = server.begin(program(SLEEPER), "--seconds", "8")
    run.await_line("it sleeps")
    (container,) = server.listed("container", "list")
    assert container["app_name"] == "sleeper"
    task_id = container["container_id"]
    assert "it sleeps" in server.modal("container", "logs", task_id)
    server.modal("container", "stop", task_id, "--yes")
    run.await_line("it sleeps")
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert "over" in outcome.output


@pytest.mark.since("1.4")
def test_logs_of_an_app_are_read_afterwards_and_searched(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(program(SLEEPER), "--seconds", "0.1")
    assert outcome.code == 0, outcome.output
    ((app_id,),) = server.rows("SELECT app_id FROM apps WHERE description='sleeper' ORDER BY created_at DESC LIMIT 1")
    assert "it woke" in server.modal("app", "logs", app_id)
    searched = server.modal("app", "logs", app_id, "--search", "woke")
    assert "it woke" in searched and "it sleeps" not in searched


@pytest.mark.since("1.3")
def test_the_token_and_the_profile_are_told(server: ServerUnderTest) -> None:
    assert server.environment()["MODAL_TOKEN_ID"] in server.modal("token", "info")
    assert "jiffy" in server.modal("token", "info")
    server.modal("config", "show")
    server.modal("profile", "list")
