"""A process is killed at each named place between durable steps: the program's result is the same, and nothing is left."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jiffy import failpoints
from tests.bases import make_base, share_images
from tests.conftest import ProgramFolder
from tests.inventory import await_nothing_about
from tests.servers import ServerUnderTest

PROGRAM = """
    import os
    import modal

    image = modal.Image.debian_slim().run_commands("echo NAME > /name", "head -c 300000 /dev/urandom > /noise")
    app = modal.App("failpoints", image=image)

    @app.function(cpu=0.1, memory=128, max_containers=2)
    def work(number: int, data: bytes) -> tuple[str, int]:
        assert len(open("/noise", "rb").read()) == 300000
        return open("/name").read().strip(), number + len(data)

    @app.local_entrypoint()
    def main():
        large = os.urandom(3 * 2**20)
        found = list(work.map(range(6), [large] * 6))
        assert found == [("NAME", number + len(large)) for number in range(6)], found
        print("all is well")
"""


@dataclass
class Armed:
    """A server whose processes die where a file in the folder says."""

    server: ServerUnderTest
    folder: Path


@pytest.fixture(scope="module")
def armed(server: ServerUnderTest, disk_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Armed]:
    folder = tmp_path_factory.mktemp("failpoints")
    make_base(server, folder)
    fresh = ServerUnderTest(disk_folder / "armed", disk_folder / "home")
    share_images(server, fresh)
    fresh.start(**{failpoints.VARIABLE: str(folder)})
    yield Armed(fresh, folder)
    fresh.stop()
    assert await_nothing_about(fresh.data.instance) == []
    shutil.rmtree(fresh.data.root)


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_a_program_does_not_notice(armed: Armed, program: ProgramFolder, name: str) -> None:
    before = armed.server.rows("SELECT count(*) FROM outputs")[0][0]
    place = armed.folder / name
    place.touch()
    outcome = armed.server.run(program(PROGRAM.replace("NAME", name)))
    assert outcome.code == 0, outcome.output
    assert "all is well" in outcome.output
    assert not place.exists(), "nobody came there"
    assert armed.server.rows("SELECT count(*) FROM outputs")[0][0] == before + 6


def test_each_place_is_somewhere_and_has_a_name() -> None:
    source = Path(failpoints.__file__).parent
    reached = [
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"""failpoints\.reach\("([^"]+)"\)""", path.read_text())
    ]
    assert sorted(reached) == sorted(failpoints.NAMES)
