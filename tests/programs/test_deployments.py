"""Apps that are deployed: looked up by others, replaced, brought back, stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

SERVICE = """
    import modal

    app = modal.App("service", image=modal.Image.debian_slim())

    @app.function()
    def version() -> str:
        return "{version}"

    @app.cls()
    class Model:
        name: str = modal.parameter(default="plain")

        @modal.method()
        def tell(self) -> str:
            return self.name + " {version}"
"""
CALLER = """
    import modal

    print("function", modal.Function.from_name("service", "version").remote())
    print("class", modal.Cls.from_name("service", "Model")(name="fancy").tell.remote())
"""
TAGGED = """
    import modal

    app = modal.App("tagged", tags={"team": "blue"})
"""
WORKPLACE = """
    import os
    import time
    import modal

    app = modal.App("workplace", image=modal.Image.debian_slim())
    board = modal.Dict.from_name("board", create_if_missing=True)

    @app.function()
    def work() -> str:
        board["works"] = os.environ["MODAL_TASK_ID"]
        while "over" not in board:
            time.sleep(0.05)
        return os.environ["MODAL_TASK_ID"]
"""
ROLLING = """
    import subprocess
    import sys
    import time
    import modal

    board = modal.Dict.from_name("board", create_if_missing=True)
    work = modal.Function.from_name("workplace", "work")

    def await_worker(other_than=None):
        while (worker := board.get("works")) in (None, other_than):
            time.sleep(0.05)
        return worker

    def roll_over(strategy):
        command = [sys.executable, "-m", "modal", "app", "rollover", "workplace", "--strategy", strategy]
        subprocess.run(command, check=True)

    board.clear()
    call = work.spawn()
    first = await_worker()
    roll_over("rolling")
    board["over"] = True
    print("finished where it began", call.get() == first)
    second = work.remote()
    print("replaced", second != first)
    print("kept", work.remote() == second)

    board.clear()
    call = work.spawn()
    third = await_worker()
    roll_over("recreate")
    await_worker(other_than=third)
    board["over"] = True
    print("moved", call.get() != third)
    modal.Dict.objects.delete("board")
"""


@pytest.fixture
def service(server: ServerUnderTest, program: ProgramFolder) -> Iterator[Path]:
    path = program(SERVICE.format(version="one"), "service.py")
    server.modal("deploy", str(path))
    yield path
    server.modal("app", "stop", "service", "--yes")


def test_functions_and_classes_are_called_from_elsewhere(
    server: ServerUnderTest, service: Path, program: ProgramFolder
) -> None:
    outcome = server.script(program(CALLER, "caller.py"))
    assert outcome.code == 0, outcome.output
    assert "function one" in outcome.output
    assert "class fancy one" in outcome.output


def test_a_new_version_replaces_the_old_one(server: ServerUnderTest, service: Path, program: ProgramFolder) -> None:
    server.script(program(CALLER, "caller.py"))
    server.modal("deploy", str(program(SERVICE.format(version="two"), "service.py")))
    outcome = server.script(program(CALLER, "caller.py"))
    assert "function two" in outcome.output and "class fancy two" in outcome.output


@pytest.mark.since("1.5")
def test_an_earlier_version_is_called_by_its_number(
    server: ServerUnderTest, service: Path, program: ProgramFolder
) -> None:
    server.modal("deploy", str(program(SERVICE.format(version="two"), "service.py")))
    outcome = server.script(
        program("""
            import modal

            print("then", modal.Function.from_name("service", "version", version=1).remote())
            try:
                modal.Function.from_name("service", "version", version=7).remote()
            except modal.exception.NotFoundError as error:
                print(error)
        """)
    )
    assert "then one" in outcome.output
    assert "app service has no version 7" in outcome.words


def test_an_earlier_version_is_brought_back(server: ServerUnderTest, service: Path, program: ProgramFolder) -> None:
    server.modal("deploy", str(program(SERVICE.format(version="two"), "service.py")), "--tag", "second")
    server.modal("app", "rollback", "service", "v1")
    assert "function one" in server.script(program(CALLER, "caller.py")).output
    history = server.listed("app", "history", "service")
    assert [entry["version"] for entry in history] == ["v3", "v2", "v1"]
    assert "has no version 9" in server.modal("app", "rollback", "service", "v9", code=1)


def test_an_app_of_one_version_has_none_to_go_back_to(server: ServerUnderTest, service: Path) -> None:
    told = server.modal("app", "rollback", "service", code=1)
    assert "app service has no earlier version to bring back: its newest is 1" in " ".join(told.split())


@pytest.mark.since("1.4")
def test_no_call_fails_while_an_app_is_deployed_again_and_again(
    server: ServerUnderTest, service: Path, program: ProgramFolder
) -> None:
    """By both strategies, under calls without a pause."""
    caller = program(
        """
        import modal

        function = modal.Function.from_name("service", "version")
        seen = ""
        while seen != "four":
            was, seen = seen, function.remote()
            if seen != was:
                print("seen", seen, flush=True)
        """,
        "caller.py",
    )
    calling = server.begin_script(caller)
    calling.await_line("seen one")
    for version, strategy in (("two", "rolling"), ("three", "recreate"), ("four", "rolling")):
        server.modal("deploy", "--strategy", strategy, str(program(SERVICE.format(version=version), "service.py")))
        calling.await_line(f"seen {version}")
    outcome = calling.finish()
    assert outcome.code == 0, outcome.output


def test_what_is_deployed_is_listed_and_gone_when_it_is_stopped(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    server.modal("deploy", str(program(SERVICE.format(version="one"), "service.py")))
    newest = next(each for each in server.listed("app", "list") if each["description"] == "service")
    assert newest["state"] == "deployed"
    server.modal("app", "stop", "service", "--yes")
    outcome = server.script(program(CALLER, "caller.py"))
    assert outcome.code != 0
    assert "no app is deployed as service" in outcome.words


@pytest.mark.since("1.2")
def test_tags_of_an_app_are_those_that_were_set_last(server: ServerUnderTest, program: ProgramFolder) -> None:
    server.modal("deploy", str(program(TAGGED, "tagged.py")))
    outcome = server.script(
        program("""
            import modal

            app = modal.App.lookup("tagged")
            print("deployed with", app.get_tags())
            app.set_tags({"owner": "me", "level": "3"})
            print("then", sorted(modal.App.lookup("tagged").get_tags().items()))
            app.set_tags({})
            print("none", app.get_tags())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "deployed with {'team': 'blue'}" in outcome.output
    assert "then [('level', '3'), ('owner', 'me')]" in outcome.output
    assert "none {}" in outcome.output
    server.modal("deploy", str(program(TAGGED, "tagged.py")))
    outcome = server.script(program("import modal\nprint(modal.App.lookup('tagged').get_tags())\n"))
    assert "{'team': 'blue'}" in outcome.output
    server.modal("app", "stop", "tagged", "--yes")


@pytest.mark.since("1.4")
def test_a_rollover_replaces_containers_and_nothing_else(server: ServerUnderTest, program: ProgramFolder) -> None:
    """What they run they finish; or it runs elsewhere, when they are not waited for."""
    server.modal("deploy", str(program(WORKPLACE, "workplace.py")))
    outcome = server.script(program(ROLLING, "rolling.py"))
    assert outcome.code == 0, outcome.output
    for line in ("finished where it began True", "replaced True", "kept True", "moved True"):
        assert line in outcome.output, outcome.output
    assert [entry["version"] for entry in server.listed("app", "history", "workplace")] == ["v3", "v2", "v1"]
    server.modal("app", "stop", "workplace", "--yes")
    assert "No App with name 'workplace'" in server.modal("app", "rollover", "workplace", code=1)


def test_a_deployed_app_goes_on_after_a_restart_of_the_server_and_keeps_its_containers_warm(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    fresh_server.modal(
        "deploy",
        str(
            program("""
                import modal

                app = modal.App("warm", image=modal.Image.debian_slim())

                @app.function(min_containers=1)
                def ready() -> str:
                    return "ready"
            """)
        ),
    )

    def live() -> int:
        return int(
            fresh_server.rows("SELECT count(*) FROM tasks WHERE ended_at IS NULL AND ready_at IS NOT NULL")[0][0]
        )

    deadline = time.monotonic() + 60
    while live() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    fresh_server.stop()
    fresh_server.start()
    while live() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    caller = program("import modal\nprint(modal.Function.from_name('warm', 'ready').remote())\n", "caller.py")
    assert "ready" in fresh_server.script(caller).output


def test_a_deployment_that_fails_leaves_the_old_version_alone(
    server: ServerUnderTest, service: Path, program: ProgramFolder
) -> None:
    broken = SERVICE.format(version="two").replace("debian_slim()", "debian_slim().run_commands('exit 3')")
    assert "exited with code 3" in server.modal("deploy", str(program(broken, "service.py")), code=1)
    assert "function one" in server.script(program(CALLER, "caller.py")).output


def test_environments_are_made_used_and_deleted(server: ServerUnderTest, program: ProgramFolder) -> None:
    server.modal("environment", "create", "staging")
    path = program(SERVICE.format(version="staged"), "service.py")
    server.modal("deploy", "--env", "staging", str(path))
    try:
        caller = program(CALLER, "caller.py")
        assert "function staged" in server.script(caller, MODAL_ENVIRONMENT="staging").output
        assert "no app is deployed as service in environment main" in server.script(caller).words
        assert "an app runs in it" in server.modal("environment", "delete", "staging", "--yes", code=1)
    finally:
        server.modal("app", "stop", "service", "--env", "staging", "--yes")
        server.modal("environment", "delete", "staging", "--yes")
    names = [entry["name"] for entry in server.listed("environment", "list")]
    assert names == ["main"]


def test_what_is_in_no_environment_is_refused(server: ServerUnderTest, program: ProgramFolder) -> None:
    path = str(program(SERVICE.format(version="one"), "service.py"))
    commands = [["deploy", path], ["app", "list"], ["container", "list"], ["app", "history", "service"]]
    commands += [[kind, "list"] for kind in ("dict", "queue", "volume", "secret")]
    commands += [[kind, "create", "nothing"] for kind in ("dict", "queue", "volume")]
    commands += [["secret", "create", "nothing", "A=B"]]
    for command in commands:
        told = server.modal(*command, "--env", "nowhere", code=1)
        assert "no environment nowhere" in " ".join(told.replace("│", " ").split()), command
