"""ADD's own sources."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnavailableError
from jiffy.image.dockerfile import parse_dockerfile
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.instructions import Copy, read_instruction
from jiffy.image.tree import Tree
from jiffy.objects.local import LocalObjects
from jiffy.server.additions import Added, Additions
from jiffy.server.downloads import Downloads
from tests.oci import Member, make_layer

DATA = b"from the web"
ARCHIVE = gzip.compress(make_layer(Member("inside/file", b"packed")))


@pytest.fixture
async def web_address() -> AsyncIterator[str]:
    async def get(request: web.Request) -> web.Response:
        if request.path.endswith("nothing"):
            return web.Response(status=404)
        return web.Response(body=ARCHIVE if request.path.endswith(".tgz") else DATA)

    application = web.Application()
    application.router.add_get("/{name:.*}", get)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Adding:
    """Carries out ADD lines; the context has an archive and a file."""

    def __init__(self, objects: LocalObjects) -> None:
        self._additions = Additions(objects, Downloads(objects))
        files = [("/packed.tgz", ARCHIVE), ("/plain", b"plain")]
        entries = [
            Entry(path.encode(), Kind.FILE, 0o644, size=len(data), digest=objects.put(data)) for path, data in files
        ]
        self._context = Tree([Index.load(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), *entries]))])

    async def __call__(self, line: str) -> Added:
        (instruction,) = parse_dockerfile(f"ADD {line} /target/")
        copy = read_instruction(instruction)
        assert isinstance(copy, Copy) and isinstance(copy.sources[0], str)
        return await self._additions.add(copy.sources[0], self._context, copy, lambda line: None)


@pytest.fixture
def add(objects: LocalObjects) -> Adding:
    return Adding(objects)


async def test_a_file_of_the_web_is_fetched(add: Adding, web_address: str) -> None:
    added = await add(f"{web_address}/a/some%20file.txt?x=y")
    (entry,) = added.entries
    assert added.names == ("/some file.txt",)
    assert (entry.mode, entry.digest) == (0o600, hashlib.sha256(DATA).hexdigest())


async def test_its_checksum_is_checked(add: Adding, web_address: str) -> None:
    right = hashlib.sha256(DATA).hexdigest()
    assert (await add(f"--checksum=sha256:{right} {web_address}/x")).entries
    with pytest.raises(CorruptError, match="is not what was expected"):
        await add(f"--checksum=sha256:{'0' * 64} {web_address}/x")
    with pytest.raises(InvalidError, match="--checksum"):
        await add(f"--checksum=md5:abc {web_address}/x")


async def test_an_archive_of_the_web_is_unpacked_only_when_asked(add: Adding, web_address: str) -> None:
    assert (await add(f"{web_address}/a.tgz")).names == ("/a.tgz",)
    added = await add(f"--unpack=true {web_address}/a.tgz")
    assert [entry.path.rpartition(b"/")[2] for entry in added.entries if entry.kind is Kind.FILE] == [b"file"]


async def test_an_archive_of_the_context_is_unpacked_unless_told_otherwise(add: Adding) -> None:
    added = await add("packed.tgz")
    assert any(entry.path.endswith(b"/inside/file") for entry in added.entries)
    assert (await add("--unpack=false packed.tgz")) == Added(("packed.tgz",))
    assert (await add("plain")) == Added(("plain",))


async def test_what_cannot_be_had_is_told(add: Adding, web_address: str) -> None:
    with pytest.raises(NotFoundError, match="it answered 404"):
        await add(f"{web_address}/nothing")
    with pytest.raises(UnavailableError, match="cannot fetch"):
        await add("http://127.0.0.1:9/x")
    with pytest.raises(InvalidError, match="names no file"):
        await add(f"{web_address}/")
    with pytest.raises(NotFoundError, match="is not there to be copied"):
        await add("missing")
