"""What containers are made of."""

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_a_python_that_the_host_lacks_comes_with_its_bytecode(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program(
            """
            import os, sys
            import modal

            app = modal.App("newer", image=modal.Image.debian_slim(python_version="3.13"))

            @app.function()
            def look() -> str:
                import aiohttp
                import modal._container_entrypoint as entrypoint
                compiled = os.path.exists(entrypoint.__cached__) and os.path.exists(aiohttp.__cached__)
                return f"python {sys.version_info[0]}.{sys.version_info[1]} compiled {compiled}"

            @app.local_entrypoint()
            def main():
                print(look.remote())
            """
        )
    )
    assert "python 3.13 compiled True" in outcome.output, outcome.output


def test_environment_and_working_directory_of_an_image_are_kept(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import os
            import modal

            image = modal.Image.debian_slim().env({"GREETING": "good day"}).workdir("/srv")
            app = modal.App("settings", image=image)

            @app.function()
            def look() -> str:
                return f"{os.environ['GREETING']} in {os.getcwd()}"

            @app.local_entrypoint()
            def main():
                print(look.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "good day in /srv" in outcome.output


def test_files_and_modules_of_the_program_are_there_also_behind_links(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    program("ANSWER = 42\n", "helper.py")
    program("a local file", "data.txt")
    outcome = server.run(
        program("""
            from pathlib import Path
            import modal

            image = (
                modal.Image.debian_slim()
                .add_local_file("data.txt", "/var/run/deep/data.txt")
                .add_local_python_source("helper")
            )
            app = modal.App("files", image=image)

            @app.function()
            def look() -> tuple:
                import helper
                assert Path("/var/run").is_symlink()
                return helper.ANSWER, Path("/run/deep/data.txt").read_text(), Path("/var/run/deep/data.txt").read_text()

            @app.local_entrypoint()
            def main():
                print(look.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "(42, 'a local file', 'a local file')" in outcome.output


def test_a_changed_program_runs_as_changed(server: ServerUnderTest, program: ProgramFolder) -> None:
    text = """
        import modal

        app = modal.App("changed", image=modal.Image.debian_slim())

        @app.function()
        def version() -> str:
            return "version ONE"

        @app.local_entrypoint()
        def main():
            print(version.remote())
    """
    assert "version ONE" in server.run(program(text)).output
    assert "version TWO" in server.run(program(text.replace("ONE", "TWO"))).output


def test_pip_installs_from_the_world_inside_a_container(server: ServerUnderTest, program: ProgramFolder) -> None:
    """The host's certificates come along: its way to the world may lead through a proxy that only it trusts."""
    outcome = server.run(
        program("""
            import subprocess
            import modal

            image = (
                modal.Image.debian_slim()
                .env({"PIP_CERT": "/certificates.pem"})
                .add_local_file("/etc/ssl/certs/ca-certificates.crt", "/certificates.pem")
            )
            app = modal.App("pip", image=image)

            @app.function()
            def install() -> str:
                subprocess.run(["pip", "install", "-q", "six"], check=True)
                command = ["python", "-c", "import six; print(six.__name__)"]
                return subprocess.run(command, capture_output=True, text=True).stdout

            @app.local_entrypoint()
            def main():
                print("imported", install.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "imported six" in outcome.output


def test_what_a_container_writes_no_other_sees(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import os
            from pathlib import Path
            import modal

            app = modal.App("private", image=modal.Image.debian_slim())

            @app.function(scaledown_window=2)
            def mark() -> bool:
                fresh = not Path("/etc/marked").exists()
                Path("/etc/marked").touch()
                os.chmod("/usr/bin/python3.11", 0o700)
                return fresh

            @app.function()
            def look() -> str:
                return f"{Path('/etc/marked').exists()} {oct(os.stat('/usr/bin/python3.11').st_mode)}"

            @app.local_entrypoint()
            def main():
                print(mark.remote(), mark.remote(), look.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "True False False 0o100755" in outcome.output
