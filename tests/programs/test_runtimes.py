"""Programs run the same under either runtime."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

PROGRAM = """
    import os, sys
    import modal

    app = modal.App("either", image=modal.Image.debian_slim())

    @app.function(memory=(128, 256))
    def work(size: int) -> int:
        print("working")
        return len(bytearray(size * 2**20))

    @app.local_entrypoint()
    def main(size: int):
        print("got", work.remote(size))
"""


def path_without(program: str, folder: Path) -> str:
    """A PATH with all that PATH has now but one program."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for file in Path(place).glob("*"):
            link = folder / file.name
            if file.name != program and not link.is_symlink():
                link.symlink_to(file)
    return str(folder)


def test_without_crun_containers_run_under_runc(
    unstarted_server: ServerUnderTest, program: ProgramFolder, tmp_path: Path
) -> None:
    unstarted_server.start(PATH=path_without("crun", tmp_path / "bin"))
    either = program(PROGRAM)
    outcome = unstarted_server.run(either, "--size", "1")
    assert "got 1048576" in outcome.output, outcome.output
    assert "working" in outcome.output
    assert "with runc" in (unstarted_server.data.logs / "worker.log").read_text()
    too_much = unstarted_server.run(either, "--size", "600")
    assert "ran out of memory" in too_much.words, too_much.output
