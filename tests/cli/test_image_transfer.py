"""Images come and go whole: what other tools unpack is what was imported, byte for byte."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.bases import find_base_image, make_base
from tests.cli.test_commands import jiffy
from tests.oci import LayoutWriter, Member, folder, hard_link, link, make_layer
from tests.registries import RegistryUnderTest
from tests.servers import Outcome, ServerUnderTest

BASE = make_layer(
    folder("etc", 0o750),
    Member("etc/plain", b"plain", uid=12, gid=34, mode=0o640, mtime=1234567890),
    Member("etc/exact", b"e", headers={"mtime": "1234567890.123456789"}),
    Member("etc/empty", mode=0o600),
    Member("bin/su", b"s", mode=0o6755),
    hard_link("bin/same", "bin/su"),
    link("to", "../etc/plain"),
    Member("etc/noted", b"n", headers={"SCHILY.xattr.user.note": "written"}),
    Member("dev/null", type=tarfile.CHRTYPE, mode=0o666),
    Member("run/pipe", type=tarfile.FIFOTYPE, mode=0o622),
    folder("tmp", 0o1777),
    Member("ünï/" + "long" * 50, b"l"),
    Member("gone", b"g"),
)
UPPER = make_layer(Member(".wh.gone"), Member("etc/plain", b"changed"), Member("etc/new", b"new"))
CONFIG = {"Env": ["A=b c", "PATH=/bin"], "Cmd": ["su"], "User": "12:34", "WorkingDir": "/etc", "Labels": {"x": "y"}}


def image(server: ServerUnderTest, verb: str, *arguments: str) -> Outcome:
    outcome = jiffy("image", verb, *arguments, "--data", str(server.data.root))
    assert outcome.code == 0, outcome.output
    return outcome


def unpacked(layout: Path, name: str, at: Path) -> dict[str, tuple[object, ...]]:
    """What umoci makes of an image: path -> kind, mode, owner, time, content, attributes, names of the same file."""
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{name}", str(at)], check=True, capture_output=True)
    root = at / "rootfs"
    return {str(path.relative_to(root)): describe(path) for path in [root, *root.rglob("*")]}


def describe(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content: object = status.st_rdev
    if path.is_symlink():
        content = str(path.readlink())
    elif path.is_file():
        content = path.read_bytes()
    names = os.listxattr(path, follow_symlinks=False)
    attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    is_folder = stat.S_ISDIR(status.st_mode)
    time = 0 if is_folder else status.st_mtime_ns
    return status.st_mode, status.st_uid, status.st_gid, time, content, attributes, 0 if is_folder else status.st_nlink


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    made = LayoutWriter(tmp_path / "layout")
    made.image([BASE, UPPER], CONFIG, name="rich")
    return made


def test_what_is_pushed_is_what_was_imported(
    server: ServerUnderTest, registry: RegistryUnderTest, layout: LayoutWriter, tmp_path: Path
) -> None:
    imported = json.loads(image(server, "import", f"oci:{layout.root}:rich", "--name", "rich", "--json").output)
    reference = f"{registry.host}/transfer/rich:1"
    image(server, "push", "rich", reference)
    told = registry.inspect("transfer/rich:1")
    assert told["Env"] == CONFIG["Env"] and told["Labels"] == CONFIG["Labels"]
    copied = tmp_path / "copied"
    command = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{reference}"]
    subprocess.run([*command, f"oci:{copied}:rich"], check=True, capture_output=True)
    assert unpacked(copied, "rich", tmp_path / "after") == unpacked(layout.root, "rich", tmp_path / "before")
    again = json.loads(image(server, "import", f"docker://{reference}", "--json").output)
    assert again["image_id"] == imported["image_id"], "the same tree and configuration are the same image"


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_is_saved_can_be_imported_again(
    server: ServerUnderTest, layout: LayoutWriter, tmp_path: Path, kind: str, compression: str
) -> None:
    first = json.loads(image(server, "import", f"oci:{layout.root}:rich", "--json").output)
    saved = f"{kind}:{tmp_path / 'saved'}"
    image(server, "save", first["image_id"], f"{saved}:some/name:1", "--compression", compression)
    again = json.loads(image(server, "import", saved, "--json").output)
    assert again["image_id"] == first["image_id"]


def test_what_is_converted_is_the_same_image(server: ServerUnderTest, layout: LayoutWriter, tmp_path: Path) -> None:
    first = json.loads(image(server, "import", f"oci:{layout.root}:rich", "--json").output)
    image(server, "convert", "--estargz", first["image_id"], f"oci:{tmp_path / 'lazy'}:rich")
    converted = unpacked(tmp_path / "lazy", "rich", tmp_path / "after")
    landmarks = {".no.prefetch.landmark", "stargz.index.json"}
    assert {path: entry for path, entry in converted.items() if path not in landmarks} == unpacked(
        layout.root, "rich", tmp_path / "before"
    )


def test_layers_that_are_known_are_told(server: ServerUnderTest, layout: LayoutWriter) -> None:
    image(server, "import", f"oci:{layout.root}:rich")
    told = json.loads(image(server, "import", f"oci:{layout.root}:rich", "--json").output)
    assert told["read"] == 0 and told["known"] > 0


def test_a_report_tells_junk_reads_and_overlaps(server: ServerUnderTest, tmp_path: Path) -> None:
    base = make_layer(Member("usr/share/doc/a", b"d" * 100), Member("usr/lib/x", b"x" * 50), Member("same", b"s"))
    other = make_layer(Member("usr/lib/y", b"y" * 60), Member("same", b"s"))
    made = LayoutWriter(tmp_path / "two")
    for name, layer in (("one", base), ("two", other)):
        made.image([layer], name=name)
        image(server, "import", f"oci:{made.root}:{name}", "--name", f"report-{name}")
    picture = tmp_path / "overlap.svg"
    arguments = ("report-one", "report-two", "--picture", str(picture))
    told = json.loads(image(server, "report", *arguments, "--json").output)
    one, two = told["images"]
    assert [share["name"] for share in one["junk"]] == ["documentation"] and one["junk"][0]["size"] == 100
    assert (one["files"], two["files"]) == (3, 2)
    assert [(overlap["files"], overlap["size"]) for overlap in told["overlaps"]] == [(1, 1)]
    assert picture.read_text().startswith("<?xml")
    assert "documentation" in image(server, "report", *arguments).output


def test_a_command_is_traced_in_its_image(server: ServerUnderTest, tmp_path: Path) -> None:
    make_base(server, tmp_path)
    told = image(server, "report", find_base_image(server), "--trace", "/bin/ls -l /etc/debian_version", "--json")
    trace = json.loads(told.output[told.output.index("{") :])["trace"]
    assert trace["exit_code"] == 0 and trace["stats"] > 0 and trace["opens"] > 0
    assert "/etc/ld.so.cache" in trace["opened"] and not list(server.data.root.glob("tmp*"))


def test_mistakes_are_told_in_one_message(server: ServerUnderTest, tmp_path: Path) -> None:
    for arguments, message in (
        (("import", "nowhere"), "there is no nowhere"),
        (("import", "docker://127.0.0.1:9/x"), "127.0.0.1:9/x:latest cannot be had"),
        (("push", "nobody", "127.0.0.1:9/x"), "no image is named nobody"),
        (("save", "nobody", "zip:x"), "cannot save to 'zip:x'"),
        (("report", "nobody"), "no image is named nobody"),
    ):
        outcome = jiffy("image", *arguments, "--data", str(server.data.root))
        assert outcome.code == 1 and message in outcome.words, outcome.output
        assert "Traceback" not in outcome.output
