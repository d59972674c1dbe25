"""An image in zstd:chunked form, as other tools make it, is read from its registry file by file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jiffy.image.importing import Imported, KnownLayers, Progress
from jiffy.image.index import Index
from jiffy.image.manifest import Platform
from jiffy.image.origins import Access, import_origin, parse_origin
from jiffy.objects.chunks import LARGE
from jiffy.objects.local import LocalObjects
from jiffy.server.layer_spans import LayerSpans
from jiffy.server.remote_objects import RemoteObjects
from jiffy.store.stores import Stores
from tests.oci import LayoutWriter, Member, folder, hard_link, link, make_layer
from tests.registries import RegistryUnderTest

FILES = {
    "usr/small": b"small",
    "usr/large": os.urandom(LARGE + 5),
    "usr/hollow": b"start" + bytes(3 * 2**20) + b"end",
    "usr/only-a-hole": bytes(2**20),
}
LAYER = make_layer(
    folder("usr"),
    *(Member(name, data, mtime=1234567890) for name, data in FILES.items()),
    Member("usr/empty"),
    link("usr/link", "small"),
    hard_link("usr/same", "usr/small"),
)


@pytest.fixture
def reference(tmp_path: Path, registry: RegistryUnderTest) -> str:
    layout = LayoutWriter(tmp_path / "layout")
    layout.image([LAYER], name="plain", compression="none")
    command = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"]
    target = f"{registry.host}/example/chunked:1"
    options = ["--dest-compress-format", "zstd:chunked"]
    subprocess.run([*command, *options, f"oci:{layout.root}:plain", f"docker://{target}"], check=True)
    return target


async def import_lazily(reference: str, objects: LocalObjects, folder: Path) -> Imported:
    (folder / "remote").mkdir()
    (folder / "layers").mkdir()
    access = Access(Platform("amd64"), remote=folder / "remote")
    known = KnownLayers(folder / "layers", objects)
    return await import_origin(parse_origin(f"docker://{reference}"), access, objects, known, Progress())


async def test_each_of_its_files_is_had(reference: str, objects: LocalObjects, stores: Stores, tmp_path: Path) -> None:
    imported = await import_lazily(reference, objects, tmp_path)
    index = Index.from_file(objects.path(imported.index))
    assert list(objects) == [imported.index]
    spans = LayerSpans({})
    remote = RemoteObjects(tmp_path / "remote", stores, objects, spans)
    remote.refresh()
    await remote.ensure([digest for digest, _ in index.digests()])
    await spans.close()
    for name, data in FILES.items():
        entry = index.lookup(f"/{name}".encode())
        assert entry is not None and objects.read(entry.digest) == data
        assert entry.mtime_ns == 1234567890 * 10**9
    small, same = index.lookup(b"/usr/small"), index.lookup(b"/usr/same")
    assert small is not None and same is not None and small.link == same.link != 0
