"""An image whose layers can be read in parts starts before it is downloaded, straight from its registry."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from jiffy.objects.local import LocalObjects
from tests.bases import find_base_image
from tests.cli.test_commands import jiffy
from tests.conftest import ProgramFolder
from tests.oci import LayoutWriter, Member, make_layer
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


def test_an_ordinary_image_is_read_in_parts_by_what_one_pass_found(
    server: ServerUnderTest,
    registry: RegistryUnderTest,
    program: ProgramFolder,
    python_image: str,
    bare_server: ServerUnderTest,
) -> None:
    """Its digest stays what it was. Who names it by that digest gets it without the help of strangers."""
    reference = f"{registry.host}/example/seekable:1"
    jiffy("image", "push", find_base_image(server), reference, "--data", str(server.data.root))
    before = registry.inspect("example/seekable:1")["Digest"]
    with_profile = ("--profile", find_base_image(server), "--data", str(server.data.root))
    for options in ((), with_profile):
        told = seek_index(reference, *options)
        assert told["image"] == before and told["size"] < told["layers_size"] / 20
    assert registry.inspect("example/seekable:1")["Digest"] == before
    bare_server.start()
    path = program(PROGRAM.format(reference=reference))
    outcome = bare_server.run(path, "--path", "/etc/debian_version")
    assert outcome.code == 0, outcome.output
    here = LocalObjects(bare_server.data.objects, bare_server.data.incoming)
    fetched = set(here)
    assert len(fetched) < len(set(LocalObjects(server.data.objects, server.data.incoming))) / 3
    pinned = program(PROGRAM.format(reference=f"{registry.host}/example/seekable@{before}"))
    again = bare_server.run(pinned, "--path", NEVER_READ)
    assert again.code == 0, again.output
    assert len(set(here)) > 3 * len(fetched)


def test_what_cannot_be_read_in_parts_says_what_can(registry: RegistryUnderTest, tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "layout")
    layout.image([make_layer(Member("a", b"a"))], name="zstd", compression="zstd")
    registry.copy(f"oci:{layout.root}:zstd", "example/zstd:1")
    outcome = jiffy("image", "seek-index", f"docker://{registry.host}/example/zstd:1")
    assert outcome.code == 1 and "convert --estargz" in outcome.output
    outcome = jiffy("image", "seek-index", str(layout.root))
    assert outcome.code == 1 and "write docker://NAME" in outcome.output


def seek_index(reference: str, *options: str) -> dict[str, Any]:
    outcome = jiffy("image", "seek-index", f"docker://{reference}", "--json", *options)
    assert outcome.code == 0, outcome.output
    told: dict[str, Any] = json.loads(outcome.output)
    return told


def test_other_tools_take_it_for_an_ordinary_image(
    server: ServerUnderTest, registry: RegistryUnderTest, python_image: str
) -> None:
    reference = f"{registry.host}/example/ordinary:1"
    convert(server, f"docker://{reference}")
    assert registry.inspect("example/ordinary:1")["Architecture"] == "amd64"
