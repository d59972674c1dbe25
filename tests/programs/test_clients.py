"""Clients from 1.0 on run the same program; each container runs its own client's version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

HELLO = """
    import modal

    image = modal.Image.debian_slim().pip_install("six").run_commands("echo built > /built")
    app = modal.App("hello", image=image)

    @app.function()
    def hello(name: str) -> str:
        import six
        print("greeting", name)
        return f"hello {name} from {modal.__version__} {open('/built').read().strip()} {six.__name__}"

    @app.local_entrypoint()
    def main():
        print(hello.remote("you"))
        print(sorted(hello.map(["a", "b"])))
"""


@pytest.fixture(scope="session")
def clients(disk_folder: Path) -> Path:
    """Where each version gets an environment of its own."""
    folder = disk_folder / "clients"
    folder.mkdir()
    return folder


def install_client(folder: Path, version: str) -> str:
    """The interpreter of an environment with this client, as a person would have it."""
    environment = folder / version
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"modal=={version}"]
    subprocess.run(command, check=True, timeout=200)
    return str(python)


@pytest.mark.parametrize("version", ["1.0.5", "1.2.6", "1.4.3", "1.6.4"])
def test_a_client_runs_and_builds(server: ServerUnderTest, program: ProgramFolder, clients: Path, version: str) -> None:
    python = install_client(clients, version)
    outcome = server.run(program(HELLO), python=python)
    assert outcome.code == 0, outcome.output
    assert f"hello you from {version} built six" in outcome.output
    assert "greeting a" in outcome.output
