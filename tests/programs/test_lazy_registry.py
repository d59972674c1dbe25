"""An image whose layers can be read in parts starts before it is downloaded, straight from its registry."""

from __future__ import annotations

import subprocess

from jiffy.objects.local import LocalObjects
from tests.bases import find_base_image
from tests.conftest import ProgramFolder
from tests.registries import RegistryUnderTest
from tests.servers import JIFFY, ServerUnderTest

PROGRAM = """
    import modal

    image = modal.Image.from_registry("{reference}").env({{"PATH": "/usr/local/bin:/usr/bin:/bin"}})
    app = modal.App("remote", image=image)

    @app.function()
    def read(path: str) -> str:
        import hashlib, json
        return hashlib.sha256(open(path, "rb").read()).hexdigest()

    @app.local_entrypoint()
    def main(path: str):
        print(read.remote(path))
"""
NEVER_READ = "/usr/share/perl/5.36.0/unicore/Name.pm"


def convert(server: ServerUnderTest, target: str) -> str:
    command = ["image", "convert", "--estargz", find_base_image(server), target, "--data", str(server.data.root)]
    return subprocess.run([*JIFFY, *command], check=True, capture_output=True, text=True).stdout


def test_only_what_is_read_leaves_the_registry(
    server: ServerUnderTest,
    registry: RegistryUnderTest,
    program: ProgramFolder,
    python_image: str,
    bare_server: ServerUnderTest,
) -> None:
    reference = f"{registry.host}/example/estargz:1"
    assert "files come first" in convert(server, f"docker://{reference}")
    bare_server.start()
    path = program(PROGRAM.format(reference=reference))
    outcome = bare_server.run(path, "--path", "/etc/debian_version")
    assert outcome.code == 0, outcome.output
    here = LocalObjects(bare_server.data.objects, bare_server.data.incoming)
    fetched = set(here)
    assert len(fetched) < len(set(LocalObjects(server.data.objects, server.data.incoming))) / 3
    again = bare_server.run(path, "--path", NEVER_READ)
    assert again.code == 0, again.output
    (digest,) = [line for line in again.output.splitlines() if len(line) == 64]
    assert digest in set(here) - fetched


def test_other_tools_take_it_for_an_ordinary_image(
    server: ServerUnderTest, registry: RegistryUnderTest, python_image: str
) -> None:
    reference = f"{registry.host}/example/ordinary:1"
    convert(server, f"docker://{reference}")
    assert registry.inspect("example/ordinary:1")["Architecture"] == "amd64"
