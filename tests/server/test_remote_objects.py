"""Objects of layers in a registry are fetched when they are wanted, neighbours together, and verified."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from jiffy.errors import CorruptError, UnavailableError
from jiffy.image.estargz import FOOTER_BYTES, find_table, read_contents, read_gzip_table
from jiffy.image.estargz_writer import CHUNK_BYTES, write_estargz
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.remote import RemoteLayer
from jiffy.objects.local import LocalObjects
from jiffy.server.remote_objects import RemoteObjects
from jiffy.store.stores import Stores
from tests.objects.conftest import make_objects

FILES = {f"/{number}": bytes([number]) * 1000 for number in range(40)} | {"/large": b"l" * (CHUNK_BYTES * 2 + 5)}
DIGESTS = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


class Peer:
    """A registry with one layer; answers may be spoilt."""

    def __init__(self, folder: Path) -> None:
        there = make_objects(folder / "there")
        entries = [Entry(b"/", Kind.DIRECTORY, 0o755)]
        for path, data in FILES.items():
            entries.append(Entry(path.encode(), Kind.FILE, 0o644, size=len(data), digest=there.put(data)))
        layer = write_estargz(Index.load(encode_index(entries)), there.path, folder / "layer", [])
        self.blob = (folder / "layer").read_bytes()
        self.digest = layer.digest
        self.ranges: list[str] = []
        self.spoil = False
        self.port = 0

    def describe(self) -> RemoteLayer:
        start = find_table(self.blob[-FOOTER_BYTES:])
        contents = read_contents(read_gzip_table(self.blob[start:]), start, "gzip")
        return RemoteLayer(f"127.0.0.1:{self.port}/some/name:1", self.digest, None, contents.places)

    async def answer(self, request: web.Request) -> web.Response:
        self.ranges.append(request.headers["Range"])
        start, end = [int(part) for part in request.headers["Range"][6:].split("-")]
        data = self.blob[start : end + 1]
        return web.Response(status=206, body=data[::-1] if self.spoil else data)


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    peer = Peer(tmp_path)
    application = web.Application()
    application.router.add_get("/v2/some/name/blobs/{digest}", peer.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer.port = runner.addresses[0][1]
    yield peer
    await runner.cleanup()


@pytest.fixture
def remote(peer: Peer, tmp_path: Path, stores: Stores, objects: LocalObjects) -> RemoteObjects:
    (tmp_path / "remote").mkdir()
    peer.describe().save(tmp_path / "remote")
    made = RemoteObjects(tmp_path / "remote", stores, objects, {})
    made.refresh()
    return made


async def test_neighbours_come_by_one_request(remote: RemoteObjects, peer: Peer, objects: LocalObjects) -> None:
    wanted = [DIGESTS[f"/{number}"] for number in range(40)]
    await remote.ensure(wanted)
    assert objects.missing(wanted) == [] and len(peer.ranges) == 1
    await remote.ensure(wanted)
    assert len(peer.ranges) == 1


async def test_a_large_file_comes_piece_by_piece(remote: RemoteObjects, peer: Peer, objects: LocalObjects) -> None:
    await remote.ensure([DIGESTS["/large"]])
    assert objects.read(DIGESTS["/large"]) == FILES["/large"] and len(peer.ranges) == 3


async def test_what_no_layer_has_is_nobodys_request(remote: RemoteObjects, peer: Peer) -> None:
    await remote.ensure(["0" * 64])
    assert peer.ranges == []


async def test_wrong_bytes_are_never_stored(remote: RemoteObjects, peer: Peer, objects: LocalObjects) -> None:
    peer.spoil = True
    with pytest.raises(CorruptError):
        await remote.ensure([DIGESTS["/1"]])
    assert not list(objects)
    peer.spoil = False
    await remote.ensure([DIGESTS["/1"]])
    assert objects.read(DIGESTS["/1"]) == FILES["/1"]


async def test_a_registry_that_is_gone_is_told(
    peer: Peer, tmp_path: Path, stores: Stores, objects: LocalObjects
) -> None:
    layer = peer.describe()
    (tmp_path / "gone").mkdir()
    RemoteLayer("127.0.0.1:9/some/name:1", layer.blob, None, layer.places).save(tmp_path / "gone")
    remote = RemoteObjects(tmp_path / "gone", stores, objects, {})
    remote.refresh()
    with pytest.raises(UnavailableError, match="part of a layer cannot be fetched"):
        await remote.ensure([DIGESTS["/1"]])


async def test_a_description_with_a_password_is_its_owners_only(
    peer: Peer, tmp_path: Path, remote: RemoteObjects
) -> None:
    (path,) = (tmp_path / "remote").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
