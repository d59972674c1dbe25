"""Objects of layers in registries are fetched when they are wanted, neighbours together, and verified."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from jiffy.errors import CorruptError, UnavailableError
from jiffy.image.estargz import FOOTER_BYTES, find_table, read_contents, read_gzip_table
from jiffy.image.estargz_writer import CHUNK_BYTES, write_estargz
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.pieces import Contents
from jiffy.image.remote import describe_layer
from jiffy.image.seek_index import make_seek_index
from jiffy.objects.chunks import LARGE
from jiffy.objects.local import LocalObjects
from jiffy.server.layer_spans import LayerSpans
from jiffy.server.remote_objects import RemoteObjects
from jiffy.store.stores import Stores
from tests.objects.conftest import make_objects
from tests.oci import Member, digest_of, make_layer

FILES = {f"/{number}": os.urandom(1000) for number in range(40)} | {
    "/large": os.urandom(LARGE // 2) * 2 + b"rest",
}
DIGESTS = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}
SPACING = 2**18


class Peer:
    """A registry with one layer; answers may be spoilt, or wait until they may go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blob = b""
        self.contents: Contents | None = None
        self.ranges: list[str] = []
        self.spoil = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.port = 0

    def hold_estargz(self) -> None:
        there = make_objects(self.folder / "there")
        entries = [Entry(b"/", Kind.DIRECTORY, 0o755)]
        for path, data in FILES.items():
            entries.append(Entry(path.encode(), Kind.FILE, 0o644, size=len(data), digest=there.put(data)))
        write_estargz(Index.load(encode_index(entries)), there.path, self.folder / "layer", [])
        self.blob = (self.folder / "layer").read_bytes()
        start = find_table(self.blob[-FOOTER_BYTES:])
        self.contents = read_contents(read_gzip_table(self.blob[start:]), start, "gzip")

    def hold_ordinary(self) -> None:
        layer = make_layer(*(Member(path, data) for path, data in FILES.items()))
        self.blob = gzip.compress(layer)
        (self.folder / "layer").write_bytes(self.blob)
        made = make_seek_index(self.folder / "layer", digest_of(self.blob), digest_of(layer), spacing=SPACING)
        self.contents = made.contents()

    def describe(self, folder: Path, port: int = 0) -> None:
        assert self.contents is not None
        folder.mkdir(exist_ok=True)
        reference = f"127.0.0.1:{port or self.port}/some/name:1"
        describe_layer(reference, digest_of(self.blob), None, self.contents, folder)

    async def answer(self, request: web.Request) -> web.Response:
        self.ranges.append(request.headers["Range"])
        await self.may_answer.wait()
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
async def spans() -> AsyncIterator[LayerSpans]:
    spans = LayerSpans({})
    yield spans
    await spans.close()


@pytest.fixture(params=["estargz", "ordinary"])
def remote(
    request: pytest.FixtureRequest,
    peer: Peer,
    tmp_path: Path,
    stores: Stores,
    objects: LocalObjects,
    spans: LayerSpans,
) -> RemoteObjects:
    if request.param == "estargz":
        peer.hold_estargz()
    else:
        peer.hold_ordinary()
    peer.describe(tmp_path / "remote")
    made = RemoteObjects(tmp_path / "remote", stores, objects, spans)
    made.refresh()
    return made


async def test_neighbours_come_by_one_request(remote: RemoteObjects, peer: Peer, objects: LocalObjects) -> None:
    wanted = [DIGESTS[f"/{number}"] for number in range(40)]
    await remote.ensure(wanted)
    assert objects.missing(wanted) == [] and len(peer.ranges) == 1
    await remote.ensure(wanted)
    assert len(peer.ranges) == 1


async def test_a_large_file_is_whole_in_the_end(remote: RemoteObjects, peer: Peer, objects: LocalObjects) -> None:
    await remote.ensure([DIGESTS["/large"]])
    assert objects.read(DIGESTS["/large"]) == FILES["/large"]


async def test_part_of_a_large_file_is_had_without_the_rest(
    remote: RemoteObjects, peer: Peer, objects: LocalObjects
) -> None:
    digest, data = DIGESTS["/large"], FILES["/large"]
    assert remote.size(digest) == len(data)
    for start, size in ((0, 10), (CHUNK_BYTES - 5, 10), (len(data) - 3, 3), (2 * CHUNK_BYTES, CHUNK_BYTES)):
        peer.ranges.clear()
        assert await remote.read(digest, start, size) == data[start : start + size]
        assert sum(asked_bytes(each) for each in peer.ranges) < len(peer.blob) / 2
    assert not list(objects)


async def test_the_chunks_of_a_large_file_are_known(remote: RemoteObjects) -> None:
    chunks, data = remote.chunks(DIGESTS["/large"]), FILES["/large"]
    assert chunks is not None and chunks.size == len(data)
    for number in range(len(chunks)):
        start, size = chunks.span(number)
        chunks.verify(number, data[start : start + size])
    assert remote.chunks(DIGESTS["/1"]) is None and remote.chunks("0" * 64) is None


async def test_what_is_wanted_twice_at_once_is_fetched_once(
    remote: RemoteObjects, peer: Peer, objects: LocalObjects
) -> None:
    peer.may_answer.clear()
    jobs = [asyncio.ensure_future(remote.ensure([DIGESTS["/3"]])) for _ in range(5)]
    while not peer.ranges:
        await asyncio.sleep(0.001)
    peer.may_answer.set()
    await asyncio.gather(*jobs)
    assert len(peer.ranges) == 1 and objects.has(DIGESTS["/3"])


async def test_files_of_one_span_are_fetched_together(
    peer: Peer, tmp_path: Path, stores: Stores, objects: LocalObjects, spans: LayerSpans
) -> None:
    peer.hold_ordinary()
    peer.describe(tmp_path / "remote")
    remote = RemoteObjects(tmp_path / "remote", stores, objects, spans)
    remote.refresh()
    peer.may_answer.clear()
    jobs = [asyncio.ensure_future(remote.ensure([DIGESTS[name]])) for name in ("/1", "/2", "/3")]
    while not peer.ranges:
        await asyncio.sleep(0.001)
    peer.may_answer.set()
    await asyncio.gather(*jobs)
    await remote.ensure([DIGESTS["/4"]])
    assert len(peer.ranges) == 1


async def test_what_no_layer_has_is_nobodys_request(remote: RemoteObjects, peer: Peer) -> None:
    await remote.ensure(["0" * 64])
    assert peer.ranges == [] and remote.size("0" * 64) is None


async def test_wrong_bytes_are_never_stored(remote: RemoteObjects, peer: Peer, objects: LocalObjects) -> None:
    peer.spoil = True
    with pytest.raises(CorruptError):
        await remote.ensure([DIGESTS["/1"]])
    assert not list(objects)
    peer.spoil = False
    await remote.ensure([DIGESTS["/1"]])
    assert objects.read(DIGESTS["/1"]) == FILES["/1"]


async def test_a_registry_that_is_gone_is_told(
    peer: Peer, tmp_path: Path, stores: Stores, objects: LocalObjects, spans: LayerSpans
) -> None:
    peer.hold_estargz()
    peer.describe(tmp_path / "gone", port=9)
    remote = RemoteObjects(tmp_path / "gone", stores, objects, spans)
    remote.refresh()
    with pytest.raises(UnavailableError, match="part of a layer cannot be fetched"):
        await remote.ensure([DIGESTS["/1"]])


async def test_a_layer_that_is_described_anew_is_had_from_its_new_place(
    peer: Peer, tmp_path: Path, stores: Stores, objects: LocalObjects, spans: LayerSpans
) -> None:
    peer.hold_estargz()
    peer.describe(tmp_path / "remote", port=9)
    remote = RemoteObjects(tmp_path / "remote", stores, objects, spans)
    remote.refresh()
    with pytest.raises(UnavailableError):
        await remote.ensure([DIGESTS["/1"]])
    peer.describe(tmp_path / "remote")
    await remote.learn("0" * 64, [])
    await remote.ensure([DIGESTS["/1"]])
    assert objects.has(DIGESTS["/1"])


async def test_a_description_with_a_password_is_its_owners_only(tmp_path: Path, remote: RemoteObjects) -> None:
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "remote").iterdir()} == {0o600}


async def test_what_nothing_needs_any_more_is_forgotten(tmp_path: Path, remote: RemoteObjects) -> None:
    before = time.time() - 100
    assert remote.forget(set(), before) == 0
    for path in (tmp_path / "remote").iterdir():
        os.utime(path, (before - 1, before - 1))
    assert remote.forget({DIGESTS["/1"]}, before) == 0
    assert remote.forget({"0" * 64}, before) == 1
    assert not list((tmp_path / "remote").iterdir()) and remote.size(DIGESTS["/1"]) is None


async def test_what_is_forgotten_while_it_is_wanted_holds_up_nobody(
    tmp_path: Path, remote: RemoteObjects, peer: Peer, objects: LocalObjects
) -> None:
    peer.may_answer.clear()
    waiting = [asyncio.ensure_future(remote.ensure([digest])) for digest in DIGESTS.values()]
    while not peer.ranges:
        await asyncio.sleep(0.001)
    remote.forget(set(), time.time() + 1)
    peer.may_answer.set()
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert ended is None or isinstance(ended, UnavailableError)
    peer.describe(tmp_path / "remote")
    await remote.learn("0" * 64, [])
    await remote.ensure(list(DIGESTS.values()))
    assert objects.missing(DIGESTS.values()) == []


def asked_bytes(header: str) -> int:
    start, end = header.removeprefix("bytes=").split("-")
    return int(end) - int(start) + 1
