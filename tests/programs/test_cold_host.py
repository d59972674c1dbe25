"""A host with an empty data directory runs programs at once: it fetches what they read, and only that."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jiffy.datadir import DataDirectory
from jiffy.fs.mode import Mode
from jiffy.objects.local import LocalObjects
from jiffy.runtime.kernel import MODE_VARIABLE
from tests.conftest import ProgramFolder
from tests.servers import JIFFY, ServerUnderTest, free_port

HELLO = """
    import modal

    app = modal.App("cold", image=modal.Image.debian_slim())

    @app.function()
    def read(path: str) -> str:
        import hashlib
        return hashlib.sha256(open(path, "rb").read()).hexdigest()

    @app.local_entrypoint()
    def main(path: str):
        print(read.remote(path))
"""
UNREAD_SO_FAR = "/usr/share/perl/5.36.0/unicore/Name.pm"


@contextmanager
def cold_worker(server: ServerUnderTest, data: DataDirectory, mode: Mode) -> Iterator[None]:
    """A worker that shares nothing with the server but its address and token."""
    command = [*JIFFY, "worker", "--data", str(data.root), *server.join_arguments()]
    nothing = subprocess.DEVNULL
    variables = {**os.environ, MODE_VARIABLE: mode}
    worker = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, env=variables)
    try:
        server.await_workers()
        yield
    finally:
        worker.terminate()
        worker.wait(60)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_cold_host_fetches_what_a_program_reads_and_verifies_it(
    unstarted_server: ServerUnderTest, disk_folder: Path, program: ProgramFolder, mode: Mode
) -> None:
    server = unstarted_server
    server.start("--no-worker", "--gate", f"127.0.0.1:{free_port()}")
    data = DataDirectory(disk_folder / f"cold-{mode}")
    hello = program(HELLO)
    there = LocalObjects(server.data.objects, server.data.incoming)
    here = LocalObjects(data.objects, data.incoming)
    with cold_worker(server, data, mode):
        first = server.run(hello, "--path", "/etc/debian_version")
        assert first.code == 0, first.output
        fetched = set(here)
        assert 100 < len(fetched) < len(set(there)) / 3
        assert all(hashlib.sha256(here.read(digest)).hexdigest() == digest for digest in fetched)

        second = server.run(hello, "--path", UNREAD_SO_FAR)
        assert second.code == 0, second.output
        fresh = set(here) - fetched
        (digest,) = [line for line in second.output.splitlines() if len(line) == 64]
        assert digest in fresh
        assert len(fresh) < 60, "that file, and what is read ahead of it"


BUILD = """
    import modal

    image = modal.Image.debian_slim().run_commands(
        "echo built elsewhere > /built", "rm /usr/bin/pip3; mv /etc/apt /etc/moved"
    )
    app = modal.App("elsewhere", image=image)

    @app.function()
    def read() -> str:
        import os
        return f"{open('/built').read().strip()} {os.path.exists('/usr/bin/pip3')} {len(os.listdir('/etc/moved')) > 2}"

    @app.local_entrypoint()
    def main():
        print(read.remote())
"""


def test_a_cold_host_builds_an_image_and_sends_what_it_wrote(
    unstarted_server: ServerUnderTest, disk_folder: Path, program: ProgramFolder
) -> None:
    server = unstarted_server
    server.start("--no-worker", "--gate", f"127.0.0.1:{free_port()}")
    before = set(LocalObjects(server.data.objects, server.data.incoming))
    data = DataDirectory(disk_folder / "cold-builder")
    with cold_worker(server, data, Mode.LAYERED):
        outcome = server.run(program(BUILD))
    assert outcome.code == 0, outcome.output
    assert "built elsewhere False True" in outcome.output
    sent = set(LocalObjects(server.data.objects, server.data.incoming)) - before
    assert hashlib.sha256(b"built elsewhere\n").hexdigest() in sent
    shutil.rmtree(data.root)
