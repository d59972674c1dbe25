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
PUBLISHER = """
    import modal

    app = modal.App("publisher")

    @app.local_entrypoint()
    def main():
        modal.Image.debian_slim().build(app).publish("told")
"""
LOOKER = """
    import modal

    app = modal.App("looker", image=modal.Image.debian_slim())
    volume = modal.Volume.from_name("looked-at", create_if_missing=True)

    @app.function()
    def inner() -> int:
        return 1

    @app.function()
    def outer() -> int:
        return inner.remote() + 1

    @app.local_entrypoint()
    def main():
        call = outer.spawn()
        assert call.get() == 2
        (root,) = modal.FunctionCall.from_id(call.object_id).get_call_graph()
        print("graph", [root.function_name], [child.function_name for child in root.children])
        print("stats", outer.get_current_stats())
        volume.hydrate()
        print("volume", volume.info().name, "v1")
        modal.Volume.objects.delete("looked-at")
"""


@pytest.mark.since("1.4")  # before, `container logs` goes on until the container ends
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


@pytest.mark.since("1.6")
def test_secrets_environments_and_named_images_are_listed_changed_and_deleted(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    server.modal("secret", "create", "key", "A=1", "B=2")
    assert "replaces it" in server.modal("secret", "create", "key", "A=3", code=1)
    server.modal("secret", "create", "key", "A=3", "--force")
    assert [each["name"] for each in server.listed("secret", "list")] == ["key"]
    server.modal("secret", "delete", "key", "--yes")
    assert server.listed("secret", "list") == []
    server.modal("environment", "create", "aside")
    server.modal("environment", "update", "aside", "--set-web-suffix", "beside")
    (aside,) = (each for each in server.listed("environment", "list") if each["name"] == "aside")
    assert aside["web_suffix"] == "beside"
    server.modal("environment", "delete", "aside", "--yes")
    outcome = server.run(program(PUBLISHER))
    assert outcome.code == 0, outcome.output
    assert "told" in server.modal("image", "names", "list")
    server.modal("image", "names", "delete", "told:latest", "--yes")
    assert "told" not in server.modal("image", "names", "list")


@pytest.mark.since("1.6")
def test_a_program_looks_at_what_it_calls(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(program(LOOKER))
    assert outcome.code == 0, outcome.output
    assert "graph ['outer'] ['inner']" in outcome.output
    assert "volume looked-at v1" in outcome.output
