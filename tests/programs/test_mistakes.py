"""Programs with mistakes: each gets a short error that says what happened, and leaves nothing behind."""

from pathlib import Path

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

PROGRAM = """
    import modal
    {imports}

    app = modal.App("mistake", image={image})

    @app.function({options})
    def work():
        {body}

    @app.local_entrypoint()
    def main():
        print("result", work.remote())
"""


def mistake(
    program: ProgramFolder,
    body: str = "return 1",
    *,
    options: str = "",
    imports: str = "",
    image: str = "modal.Image.debian_slim()",
) -> Path:
    return program(PROGRAM.format(body=body, options=options, imports=imports, image=image))


def test_a_syntax_error_is_told_before_anything_runs(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(program("import modal\napp = modal.App('broken'\n"))
    assert outcome.code != 0
    assert "SyntaxError" in outcome.output


def test_an_import_error_in_the_container_names_the_module(server: ServerUnderTest, program: ProgramFolder) -> None:
    path = mistake(program, imports="if not modal.is_local(): import nosuchmodule")
    outcome = server.run(path)
    assert outcome.code == 1
    assert "No module named 'nosuchmodule'" in outcome.words


def test_a_function_that_ends_its_process_is_told_by_its_exit_code(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(mistake(program, "import os; os._exit(3)"))
    assert outcome.code == 1
    assert "The container's process exited with code 3 while it ran this input." in outcome.words


def test_a_function_that_is_killed_is_told_by_the_signal(server: ServerUnderTest, program: ProgramFolder) -> None:
    body = "import ctypes; ctypes.string_at(0)"
    outcome = server.run(mistake(program, body))
    assert outcome.code == 1
    assert "signal 11" in outcome.words


def test_a_function_that_takes_too_much_memory_is_told_its_limit(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    path = mistake(program, "return len(bytearray(1 << 30))", options="memory=(128, 300)")
    outcome = server.run(path)
    assert outcome.code == 1
    assert "The container ran out of memory while it ran this input: it reached its limit of 300 MiB" in outcome.words


def test_a_function_that_takes_too_long_is_told_its_timeout(server: ServerUnderTest, program: ProgramFolder) -> None:
    path = mistake(program, "import time; time.sleep(60)", options="timeout=2")
    outcome = server.run(path)
    assert outcome.code == 1
    assert "FunctionTimeoutError" in outcome.output
    assert "within its timeout of 2 s" in outcome.words


def test_an_image_that_nobody_has_is_named(server: ServerUnderTest, program: ProgramFolder) -> None:
    path = mistake(program, image='modal.Image.from_registry("nosuch/image:1")')
    outcome = server.run(path)
    assert outcome.code == 1
    assert "docker.io/nosuch/image:1 cannot be had" in outcome.words
    assert "--registry-mirror" in outcome.words


@pytest.mark.since("1.4")
def test_a_python_that_cannot_be_had_names_those_that_can(server: ServerUnderTest, program: ProgramFolder) -> None:
    path = mistake(program, image='modal.Image.debian_slim(python_version="3.14")')
    outcome = server.run(path)
    assert outcome.code == 1
    assert "no base image with Python 3.14" in outcome.words
    assert 'debian_slim(python_version="3.13")' in outcome.words


def test_a_wrong_token_is_told_with_what_to_do(server: ServerUnderTest, program: ProgramFolder) -> None:
    path = mistake(program)
    outcome = server.run(path, MODAL_TOKEN_SECRET="as-wrong")
    assert outcome.code == 1
    assert "this server did not issue the token" in outcome.words
    assert "jiffy login" in outcome.words


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ('gpu="H100"', "no worker has 1 free H100 GPU"),
        ("memory=10_000_000", "no worker has"),
        ("cpu=1000.0", "no worker has"),
    ],
)
def test_what_no_machine_here_has_is_refused(
    server: ServerUnderTest, program: ProgramFolder, options: str, told: str
) -> None:
    outcome = server.run(mistake(program, options=options))
    assert outcome.code == 1
    assert told in outcome.words


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        ("modal.Sandbox.create('true', app=app, image=modal.Image.debian_slim())", "SandboxCreate"),
        ("modal.NetworkFileSystem.from_name('files', create_if_missing=True).hydrate()", "SharedVolumeGetOrCreate"),
    ],
)
def test_what_this_version_does_not_have_is_refused_by_name(
    server: ServerUnderTest, program: ProgramFolder, attempt: str, told: str
) -> None:
    outcome = server.script(
        program(f"""
            import modal

            app = modal.App("refused")
            with app.run():
                {attempt}
        """)
    )
    assert outcome.code == 1
    assert f"this version of jiffy does not answer {told}" in outcome.words


def test_a_proxy_is_refused_by_name(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(mistake(program, options='proxy=modal.Proxy.from_name("proxy")'))
    assert outcome.code == 1
    assert "this version of jiffy does not answer ProxyGet" in outcome.words


@pytest.mark.since("1.6")
def test_the_log_of_one_call_is_refused_instead_of_that_of_all(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("logged", image=modal.Image.debian_slim())

            @app.function()
            def speak(word: str) -> None:
                print("said", word)

            @app.local_entrypoint()
            def main():
                for call in [speak.spawn(word) for word in ("this", "that")]:
                    call.get()
                for ask in (call.logs.tail, call.logs.stream):
                    try:
                        print("read", [entry.message for entry in ask()])
                    except modal.exception.Error as error:
                        print(error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert (
        outcome.output.count("logs of one call or sandbox: lines are known by their app, function and container") == 2
    )
    assert "read" not in outcome.output
