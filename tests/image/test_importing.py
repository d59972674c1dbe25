"""Images are imported in one pass; what is hostile or broken is refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from jiffy.errors import CorruptError, InvalidError, JiffyError, NotFoundError
from jiffy.image.importing import Imported, KnownLayers, Progress
from jiffy.image.index import Entry, Index, Kind
from jiffy.image.manifest import Platform
from jiffy.image.origins import Access, import_origin, parse_origin
from jiffy.objects.local import LocalObjects
from tests.objects.conftest import make_objects
from tests.oci import LayoutWriter, Member, digest_of, folder, hard_link, link, make_layer


class Importer:
    """A store that images are imported to."""

    def __init__(self, root: Path) -> None:
        self.objects: LocalObjects = make_objects(root / "store")
        (root / "layers").mkdir()
        self.known = KnownLayers(root / "layers", self.objects)
        self.progress = Progress()

    async def run(self, source: str, platform: str = "amd64") -> Imported:
        self.progress = Progress()
        access = Access(Platform(platform))
        return await import_origin(parse_origin(source), access, self.objects, self.known, self.progress)

    def tree(self, imported: Imported) -> dict[str, Entry]:
        index = Index.from_file(self.objects.path(imported.index))
        return {os.fsdecode(entry.path): entry for entry in index}

    def content(self, entry: Entry) -> bytes:
        return self.objects.read(entry.digest) if entry.digest else b""


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "layout")


BASE = make_layer(
    folder("etc"),
    Member("etc/one", b"1"),
    Member("etc/two", b"2"),
    folder("var"),
    folder("var/lib", 0o700),
    Member("var/lib/data", b"data", uid=7, gid=8, mode=0o4755, mtime=1234567890.123456789),
    link("lib", "var/lib"),
    hard_link("etc/uno", "etc/one"),
)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_layer_becomes_a_tree(importer: Importer, layout: LayoutWriter, compression: str) -> None:
    layout.image([BASE], {"Env": ["A=b"]}, compression=compression)
    imported = await importer.run(f"oci:{layout.root}")
    tree = importer.tree(imported)
    assert importer.content(tree["/etc/one"]) == b"1"
    assert tree["/etc/uno"].link == tree["/etc/one"].link != 0
    data = tree["/var/lib/data"]
    assert (data.uid, data.gid, data.mode) == (7, 8, 0o4755)
    assert tree["/lib"].target == b"var/lib"
    assert imported.config["config"] == {"Env": ["A=b"]}


async def test_upper_layers_replace_and_take_away(importer: Importer, layout: LayoutWriter) -> None:
    upper = make_layer(
        Member("etc/.wh.one"),
        Member("etc/two", b"zwei"),
        Member("var/lib/.wh..wh..opq"),
        Member("var/lib/fresh", b"f"),
        Member("var/.wh..wh.plnk"),
    )
    layout.image([BASE, upper])
    tree = importer.tree(await importer.run(f"oci:{layout.root}"))
    assert "/etc/one" not in tree and "/etc/uno" in tree
    assert importer.content(tree["/etc/two"]) == b"zwei"
    assert sorted(path for path in tree if path.startswith("/var")) == ["/var", "/var/lib", "/var/lib/fresh"]
    assert tree["/var/lib"].mode == 0o700


async def test_names_that_lead_through_links_of_lower_layers_are_led_there(
    importer: Importer, layout: LayoutWriter
) -> None:
    layout.image([BASE, make_layer(Member("lib/new", b"n"))])
    tree = importer.tree(await importer.run(f"oci:{layout.root}"))
    assert "/var/lib/new" in tree and tree["/lib"].kind is Kind.SYMLINK


async def test_a_link_cannot_lead_out_of_the_tree(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([make_layer(link("out", "../../../../tmp")), make_layer(Member("out/file", b"x"))])
    tree = importer.tree(await importer.run(f"oci:{layout.root}"))
    assert "/tmp/file" in tree


async def test_a_name_may_be_linked_to_a_file_of_a_lower_layer(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([BASE, make_layer(hard_link("etc/eins", "etc/one"))])
    tree = importer.tree(await importer.run(f"oci:{layout.root}"))
    assert tree["/etc/eins"].link == tree["/etc/one"].link == tree["/etc/uno"].link != 0


async def test_a_folder_may_replace_a_link_and_a_file_a_folder(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([BASE, make_layer(folder("lib"), Member("lib/x"), Member("etc", b"now a file"))])
    tree = importer.tree(await importer.run(f"oci:{layout.root}"))
    assert tree["/lib"].kind is Kind.DIRECTORY and "/lib/x" in tree
    assert tree["/etc"].kind is Kind.FILE and "/etc/one" not in tree


async def test_a_layer_that_is_known_is_not_read_again(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([BASE], name="first")
    layout.image([BASE, make_layer(Member("more", b"m"))], name="second")
    await importer.run(f"oci:{layout.root}:first")
    first = importer.progress.read
    imported = await importer.run(f"oci:{layout.root}:second")
    assert importer.progress.known == first
    assert 0 < importer.progress.read < first
    assert "/etc/one" in importer.tree(imported)


async def test_a_known_layer_whose_files_were_lost_is_read_again(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([BASE])
    imported = await importer.run(f"oci:{layout.root}")
    importer.objects.delete(importer.tree(imported)["/etc/two"].digest)
    again = await importer.run(f"oci:{layout.root}")
    assert importer.content(importer.tree(again)["/etc/two"]) == b"2"


async def test_an_archive_of_docker_is_read(importer: Importer, tmp_path: Path) -> None:
    config = json.dumps({"config": {"User": "me"}, "rootfs": {"diff_ids": [digest_of(BASE)]}}).encode()
    listed = [{"Config": "c.json", "RepoTags": ["some/image:1"], "Layers": ["a/layer.tar"]}]
    with tarfile.open(tmp_path / "saved.tar", "w") as archive:
        for name, data in (("a/layer.tar", BASE), ("c.json", config), ("manifest.json", json.dumps(listed).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    imported = await importer.run(f"docker-archive:{tmp_path}/saved.tar")
    assert imported.names == ("some/image:1",)
    assert "/etc/one" in importer.tree(imported)
    with pytest.raises(NotFoundError, match="no image other"):
        await importer.run(f"docker-archive:{tmp_path}/saved.tar:other")


async def test_a_folder_and_an_archive_are_roots(importer: Importer, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_bytes(b"f")
    os.link(root / "sub/file", root / "sub/same")
    (root / "sub/file").chmod(0o640)
    os.utime(root / "sub/file", ns=(0, 123456789))
    os.mkfifo(root / "pipe")
    tree = importer.tree(await importer.run(str(root)))
    assert importer.content(tree["/sub/file"]) == b"f" and tree["/sub/file"].link == tree["/sub/same"].link != 0
    assert (tree["/sub/file"].mode, tree["/sub/file"].mtime_ns, tree["/pipe"].kind) == (0o640, 123456789, Kind.FIFO)
    assert (root / "sub/file").exists()
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(BASE))
    assert "/var/lib/data" in importer.tree(await importer.run(f"tar:{tmp_path}/root.tar.gz"))


async def test_of_several_platforms_one_is_chosen(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([make_layer(Member("arm"))], architecture="arm64")
    layout.image([make_layer(Member("amd"))])
    assert "/arm" in importer.tree(await importer.run(f"oci:{layout.root}", "arm64"))
    assert "/amd" in importer.tree(await importer.run(f"oci:{layout.root}"))
    with pytest.raises(NotFoundError, match="not made for linux/riscv64"):
        await importer.run(f"oci:{layout.root}", "riscv64")


@pytest.mark.parametrize(
    "member",
    [
        Member("../out", b"x"),
        Member("a/../../out", b"x"),
        hard_link("a", "../../etc/passwd"),
        Member("a", type=b"Z"),
        Member("x" * 300, b"x"),
        Member("/".join(["d" * 200] * 30), b"x"),
        Member("etc/.wh..", b""),
        Member("a", headers={"size": "-5"}),
        Member("a", b"x", headers={"mtime": "9e999999"}),
        Member("a", b"x", headers={"mtime": "nan"}),
        Member("a", b"x", headers={"uid": "99999999999999999999"}),
        link("loop/x", "y"),
    ],
    ids=lambda member: f"{member.name[:20]}-{member.linkname}-{member.headers}",
)
async def test_a_hostile_member_is_refused(importer: Importer, layout: LayoutWriter, member: Member) -> None:
    layout.image([make_layer(Member("loop", b"a file"), member)])
    before = set(importer.objects)
    with pytest.raises(InvalidError):
        await importer.run(f"oci:{layout.root}")
    assert set(importer.objects) == before


async def test_a_name_that_is_linked_to_nothing_is_refused(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([make_layer(hard_link("a", "nothing"))])
    with pytest.raises(InvalidError, match="which is not there"):
        await importer.run(f"oci:{layout.root}")


async def test_links_in_a_circle_are_refused(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([make_layer(link("a", "b"), link("b", "a")), make_layer(Member("a/x"))])
    with pytest.raises(InvalidError, match="loop of links"):
        await importer.run(f"oci:{layout.root}")


async def test_devices_and_setuid_are_told_not_made(importer: Importer, layout: LayoutWriter) -> None:
    device = Member("dev/sda", type=tarfile.BLKTYPE, mode=0o660)
    layout.image([make_layer(folder("dev"), device, Member("su", b"s", mode=0o4755))])
    tree = importer.tree(await importer.run(f"oci:{layout.root}"))
    assert tree["/dev/sda"].kind is Kind.BLOCK
    assert stat.S_IMODE(importer.objects.path(tree["/su"].digest).stat().st_mode) == 0o444


@pytest.mark.parametrize("cut", [1, 20, 200])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_layer_that_ends_too_early_is_refused(
    importer: Importer, layout: LayoutWriter, compression: str, cut: int
) -> None:
    layout.image([BASE], compression=compression)
    (blob,) = layout.layers
    blob.write_bytes(blob.read_bytes()[:-cut])
    with pytest.raises(JiffyError):
        await importer.run(f"oci:{layout.root}")


async def test_a_layer_with_other_bytes_is_refused(importer: Importer, layout: LayoutWriter) -> None:
    layout.image([BASE])
    (blob,) = layout.layers
    blob.write_bytes(gzip.compress(make_layer(Member("other", b"o"))))
    with pytest.raises(CorruptError, match="has the wrong bytes"):
        await importer.run(f"oci:{layout.root}")


async def test_a_layer_that_is_not_what_the_configuration_says_is_refused(
    importer: Importer, layout: LayoutWriter
) -> None:
    layout.image([BASE])
    index = json.loads((layout.root / "index.json").read_text())
    manifest = json.loads((layout.root / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    other = gzip.compress(make_layer(Member("other", b"o")))
    manifest["layers"][0].update(digest=layout.blob(other), size=len(other))
    (layout.root / "index.json").unlink()
    layout._manifests.clear()
    layout.manifest(json.dumps(manifest).encode())
    with pytest.raises(CorruptError, match="its content has the digest"):
        await importer.run(f"oci:{layout.root}")


async def test_a_bomb_does_not_fill_the_disk(
    importer: Importer, layout: LayoutWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jiffy.image.importing._LEAST_UNPACKED", 2**20)
    layout.image([make_layer(Member("zeros", bytes(64 * 2**20)))], compression="zstd")
    with pytest.raises(InvalidError, match="grows without end"):
        await importer.run(f"oci:{layout.root}")
    assert not list(importer.objects) and not list(importer.objects.incoming.iterdir())


@pytest.mark.parametrize("source", ["nowhere", "oci:nowhere", "docker://UPPER", "tar:/etc"])
def test_a_source_that_is_none_is_told(source: str) -> None:
    with pytest.raises((NotFoundError, InvalidError)):
        parse_origin(source)
