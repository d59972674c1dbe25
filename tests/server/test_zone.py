"""A zone's cache stands between hosts and their server: what one host asked for, the next has from near."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import BaseTestServer, TestServer

from jiffy.errors import NotFoundError, UnauthenticatedError
from jiffy.objects.chunks import CHUNK, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.objects.partial import Partials
from jiffy.objects.tiers import Tiers
from jiffy.server.zone import Zone
from tests.objects.conftest import make_objects, one_source
from tests.objects.origin import Origin, serve_origin
from tests.servers import free_port

SMALL = {hashlib.sha256(data).hexdigest(): data for data in (b"%d" % number * 999 for number in range(700))}
LARGE = random.Random(5).randbytes(20 * CHUNK + 77)
DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture(scope="module")
def chunk_list(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(LARGE)
    return list_chunks(path).encode()


@pytest.fixture
def origin(chunk_list: bytes) -> Iterator[Origin]:
    with serve_origin({**SMALL, DIGEST: LARGE, hashlib.sha256(chunk_list).hexdigest(): chunk_list}) as running:
        yield running


@pytest.fixture
async def zone(origin: Origin, tmp_path: Path) -> AsyncIterator[BaseTestServer]:
    (tmp_path / "zone" / "partial").mkdir(parents=True)
    tiers = Tiers(make_objects(tmp_path / "zone"), one_source(origin.url, deadline=30, stall=30))
    partials = Partials(tmp_path / "zone" / "partial", tiers, trusts_lists=False)
    server = TestServer(Zone(tiers, partials, origin.token).application())
    await server.start_server()
    yield server
    await server.close()


def make_host(
    zone: BaseTestServer, folder: Path, chunk_list: bytes, token: str = "id:secret"
) -> tuple[Tiers, Partials]:
    (folder / "partial").mkdir(parents=True)
    tiers = Tiers(make_objects(folder), one_source(str(zone.make_url("")), deadline=30, stall=30, token=token))
    partials = Partials(folder / "partial", tiers)
    partials.learn({DIGEST: hashlib.sha256(chunk_list).hexdigest()})
    return tiers, partials


async def test_what_one_host_asked_for_the_next_has_from_near(
    zone: BaseTestServer, origin: Origin, tmp_path: Path, chunk_list: bytes
) -> None:
    digest = next(iter(SMALL))
    for name in ("one", "two"):
        tiers, _ = make_host(zone, tmp_path / name, chunk_list)
        path = await asyncio.to_thread(tiers.ensure, digest)
        assert path.read_bytes() == SMALL[digest]
    assert len(origin.requests) == 1


async def test_a_batch_is_fetched_in_batches(
    zone: BaseTestServer, origin: Origin, tmp_path: Path, chunk_list: bytes
) -> None:
    for name in ("one", "two"):
        tiers, _ = make_host(zone, tmp_path / name, chunk_list)
        await asyncio.to_thread(tiers.prefetch, [*SMALL, "0" * 64], threading.Event())
        assert {digest: tiers.local.read(digest) for digest in tiers.local} == SMALL
    assert len([request for request in origin.requests if request == "/objects"]) < 40


async def test_of_a_large_object_only_what_is_read_is_fetched(
    zone: BaseTestServer, origin: Origin, tmp_path: Path, chunk_list: bytes
) -> None:
    def read(partials: Partials) -> bytes:
        partial = partials.open(DIGEST)
        assert partial is not None
        try:
            return partial.read(10 * CHUNK, 5000)
        finally:
            partials.release(partial)

    for name in ("one", "two"):
        _, partials = make_host(zone, tmp_path / name, chunk_list)
        assert await asyncio.to_thread(read, partials) == LARGE[10 * CHUNK :][:5000]
    have = (tmp_path / "zone" / "partial" / f"{DIGEST}.have").read_bytes()
    assert 1 <= len(have) - have.count(0) <= 12
    assert not (tmp_path / "zone" / "objects" / DIGEST[:2]).exists()


async def test_read_to_the_end_a_large_object_is_kept_whole(
    zone: BaseTestServer, origin: Origin, tmp_path: Path, chunk_list: bytes
) -> None:
    tiers, partials = make_host(zone, tmp_path / "one", chunk_list)
    await asyncio.to_thread(partials.prefetch, DIGEST, (), threading.Event())
    assert tiers.local.read(DIGEST) == LARGE
    kept = LocalObjects(tmp_path / "zone" / "objects", tmp_path)
    while not kept.has(DIGEST):  # it is verified as a whole once the last chunk is there, while that is sent
        await asyncio.sleep(0.01)
    assert kept.read(DIGEST) == LARGE
    origin.objects.clear()
    _, others = make_host(zone, tmp_path / "two", chunk_list)
    await asyncio.to_thread(others.prefetch, DIGEST, (), threading.Event())
    assert others.local.read(DIGEST) == LARGE


async def test_a_wrong_list_of_chunks_poisons_nothing(
    zone: BaseTestServer, origin: Origin, tmp_path: Path, chunk_list: bytes
) -> None:
    """A host that is wrong about an object harms itself alone."""
    other = tmp_path / "other"
    other.write_bytes(LARGE[:-1] + b"!")
    wrong = list_chunks(other).encode()
    origin.objects[hashlib.sha256(wrong).hexdigest()] = wrong
    origin.objects[DIGEST] = other.read_bytes()
    _, misled = make_host(zone, tmp_path / "one", wrong)
    await asyncio.to_thread(misled.prefetch, DIGEST, (), threading.Event())
    assert not LocalObjects(tmp_path / "zone" / "objects", tmp_path).has(DIGEST)
    origin.objects[DIGEST] = LARGE
    _, partials = make_host(zone, tmp_path / "two", chunk_list)
    await asyncio.to_thread(partials.prefetch, DIGEST, (), threading.Event())
    assert partials.local.read(DIGEST) == LARGE


async def test_what_nobody_has_is_not_found(zone: BaseTestServer, tmp_path: Path, chunk_list: bytes) -> None:
    tiers, _ = make_host(zone, tmp_path / "one", chunk_list)
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(tiers.ensure, "0" * 64)


async def test_a_wrong_token_is_refused(
    zone: BaseTestServer, origin: Origin, tmp_path: Path, chunk_list: bytes
) -> None:
    tiers, _ = make_host(zone, tmp_path / "one", chunk_list, token="wrong:token")
    with pytest.raises(UnauthenticatedError):
        await asyncio.to_thread(tiers.ensure, next(iter(SMALL)))
    assert origin.requests == []


@pytest.mark.parametrize("wanted", ["bytes=nonsense", "bytes=5-2", "bytes=999999999-"])
async def test_a_range_that_is_none_is_refused(
    zone: BaseTestServer, chunk_list: bytes, wanted: str, origin: Origin
) -> None:
    headers = {
        "Authorization": f"Bearer {origin.token}",
        "Range": wanted,
        "X-Jiffy-Chunks": hashlib.sha256(chunk_list).hexdigest(),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.get(zone.make_url(f"/objects/{DIGEST}"), headers=headers) as got,
    ):
        assert got.status in (400, 416)


def test_the_command_serves_until_it_is_told_to_end(origin: Origin, tmp_path: Path) -> None:
    token = tmp_path / "token.json"
    token.write_text(json.dumps({"token_id": "id", "token_secret": "secret"}))
    port = free_port()
    command = [sys.executable, "-m", "jiffy", "zone", "--data", str(tmp_path / "data"), "--source", origin.url]
    command += ["--token-file", str(token), "--port", str(port)]
    digest = next(iter(SMALL))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert str(port) in process.stdout.readline()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/objects/{digest}", headers={"Authorization": "Bearer id:secret"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.read() == SMALL[digest]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0
    assert LocalObjects(tmp_path / "data" / "objects", tmp_path).has(digest)
