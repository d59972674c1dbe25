"""`jiffy image`: what a server has, and a root of it on any folder, without a container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jiffy.cli.running import find_server
from jiffy.fs.mode import Mode
from jiffy.runtime.kernel import MODE_VARIABLE
from tests.cli.test_commands import jiffy
from tests.conftest import ProgramFolder
from tests.inventory import await_nothing_about
from tests.servers import ServerUnderTest

pytestmark = pytest.mark.root

PROGRAM = """
    import modal

    app = modal.App("imaged", image=modal.Image.debian_slim())

    @app.function()
    def work():
        import decimal
        return 1

    @app.local_entrypoint()
    def main():
        print(work.remote())
"""


@pytest.fixture
def image_id(server: ServerUnderTest, program: ProgramFolder) -> str:
    """Of an image that was started, so that a profile is known."""
    assert server.run(program(PROGRAM)).code == 0
    images = json.loads(jiffy("image", "list", "--json", "--data", str(server.data.root)).output)
    return str(images[0]["image_id"])


@contextmanager
def mounted(
    server: ServerUnderTest, image_id: str, folder: Path, mode: Mode, number: int = signal.SIGINT
) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "jiffy", "image", "mount", image_id, str(folder), "--data", str(server.data.root)]
    command += ["--cache", str(server.data.root.parent / "mounted")]
    variables = {**os.environ, MODE_VARIABLE: mode}
    output = subprocess.PIPE
    with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True, env=variables) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "is mounted on" in line, line + process.stdout.read()
        try:
            yield folder
        finally:
            os.kill(process.pid, number)
            process.wait(20)


def test_images_are_listed_with_their_sizes(server: ServerUnderTest, image_id: str) -> None:
    listed = json.loads(jiffy("image", "list", "--json", "--data", str(server.data.root)).output)
    assert all(image["files"] > 1000 and image["size"] > 10**7 for image in listed)
    assert image_id in jiffy("image", "list", "--data", str(server.data.root)).output


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mounted_image_is_a_root_that_programs_run_in(
    server: ServerUnderTest, image_id: str, tmp_path: Path, mode: Mode
) -> None:
    with mounted(server, image_id, tmp_path / "at", mode) as at:
        command = ["chroot", str(at), "/usr/bin/env", "python3", "-c", "import json, ssl; print(json.dumps([1]))"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/local/bin:/usr/bin:/usr/sbin"}
        )
        assert done.stdout.strip() == "[1]", done.stderr
        (at / "written").write_text("x")
    assert list((tmp_path / "at").iterdir()) == []
    assert await_nothing_about(str(tmp_path), str(server.data.root / "mounted" / image_id)) == []


@pytest.mark.parametrize("mode", list(Mode))
def test_what_a_killed_one_left_is_removed_by_the_next(
    server: ServerUnderTest, image_id: str, tmp_path: Path, mode: Mode
) -> None:
    with mounted(server, image_id, tmp_path / "at", mode, signal.SIGKILL):
        pass
    with mounted(server, image_id, tmp_path / "at", mode) as at:
        assert (at / "etc" / "os-release").read_text()
    assert await_nothing_about(str(tmp_path), str(server.data.root / "mounted" / image_id)) == []


def test_a_profile_tells_which_files_starts_read(server: ServerUnderTest, image_id: str) -> None:
    found = json.loads(jiffy("image", "profile", image_id, "--json", "--data", str(server.data.root)).output)
    paths = [file["path"] for file in found["files"]]
    assert any("decimal" in path for path in paths)
    assert all(0 < file["read"] <= file["size"] for file in found["files"])
    assert "MB; from" in jiffy("image", "profile", image_id, "--data", str(server.data.root)).output


@pytest.mark.parametrize("arguments", [("profile", "im-none"), ("mount", "im-none", "/tmp")])
def test_an_image_that_is_not_there_is_told(server: ServerUnderTest, arguments: tuple[str, ...]) -> None:
    outcome = jiffy("image", *arguments, "--data", str(server.data.root))
    assert (outcome.code, "no image im-none" in outcome.words) == (1, True)


def test_only_those_with_a_token_hear_of_images(server: ServerUnderTest) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{find_server(server.data).http_url}/images")
